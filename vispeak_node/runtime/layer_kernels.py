"""Triton kernels for what lies between the matrix products of a decoder layer, and for attention over a long cache.

torch takes about forty kernels for that in each layer, most of which move a few kilobytes: at one row a GPU spends as
long on them as on the weights. And a query of one row keeps four of its hundred processors busy in torch's attention,
one for each key-value head; here the cache is cut into pieces that are read side by side, and their results are put
together.

Results are rounded to the tensors' type wherever torch's layers round.

Importing this module needs no Triton; `works` says whether the kernels run on a device.

Shape legend: T rows of the pass, Q the last ones of them, whose output is wanted, H heads, K key-value heads, E head
width, C rows of the cache's buffers, D hidden, R queries that share a key-value head, P pieces of the cache.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.nn import functional

from vispeak_node.model.config import LanguageConfig
from vispeak_node.model.language import RMSNorm, rotate
from vispeak_node.model.language import attend as torch_attend
from vispeak_node.runtime.weight_kernels import KERNEL_ERRORS

try:
    import triton
    import triton.language as tl
except ImportError:  # torch's wheels for Linux on NVIDIA bring it; those for CPUs and some Jetsons do not
    triton = None

logger = logging.getLogger(__name__)

_LEAST_PIECE = 128  # rows of the cache: less is not worth putting together
_WAVES = 1.5  # blocks of attention for each processor

if triton is not None:

    @triton.jit
    def add_norm_kernel(  # type: ignore[no-untyped-def] # traced, not run
        x_ptr, delta_ptr, weight_ptr, sum_ptr, y_ptr, D, eps, ADD: tl.constexpr, BLOCK_D: tl.constexpr
    ):  # fmt: skip
        """A row of x + delta, and of its root-mean-square norm."""
        columns = tl.arange(0, BLOCK_D)
        places, inside = tl.program_id(0).to(tl.int64) * D + columns, columns < D
        x = tl.load(x_ptr + places, mask=inside, other=0.0)
        if ADD:
            delta = tl.load(delta_ptr + places, mask=inside, other=0.0)
            x = (x.to(tl.float32) + delta.to(tl.float32)).to(x.dtype)
            tl.store(sum_ptr + places, x, mask=inside)
        wide = x.to(tl.float32)
        wide = (wide * tl.rsqrt(tl.sum(wide * wide, 0) / D + eps)).to(x.dtype).to(tl.float32)
        weight = tl.load(weight_ptr + columns, mask=inside, other=0.0).to(tl.float32)
        tl.store(y_ptr + places, (weight * wide).to(x.dtype), mask=inside)

    @triton.jit
    def turn_kernel(  # type: ignore[no-untyped-def] # traced, not run
        heads_ptr, cosines_ptr, sines_ptr, rows_ptr, turned_ptr, keys_ptr, values_ptr,
        SKIPPED, C, H: tl.constexpr, K: tl.constexpr, E: tl.constexpr,
    ):  # fmt: skip
        """One head of one row: queries are turned, keys turned and stored in the cache, values stored.

        heads [T, H + 2K, E]: queries, keys, values; cosines and sines [T, E]; rows [T] int64; turned [Q, H, E]; keys
        and values [K, C, E]. The first SKIPPED rows' queries are not wanted.
        """
        row, head = tl.program_id(0), tl.program_id(1)
        left = tl.arange(0, E // 2)
        right = left + E // 2
        source = heads_ptr + (row.to(tl.int64) * (H + 2 * K) + head) * E
        x_left, x_right = tl.load(source + left), tl.load(source + right)
        if head < H + K:
            dtype = x_left.dtype
            wide_left, wide_right = x_left.to(tl.float32), x_right.to(tl.float32)
            cosine_left = tl.load(cosines_ptr + row * E + left).to(tl.float32)
            cosine_right = tl.load(cosines_ptr + row * E + right).to(tl.float32)
            sine_left = tl.load(sines_ptr + row * E + left).to(tl.float32)
            sine_right = tl.load(sines_ptr + row * E + right).to(tl.float32)
            first = (wide_left * cosine_left).to(dtype).to(tl.float32)
            second = (wide_right * cosine_right).to(dtype).to(tl.float32)
            turned_left = (first - (wide_right * sine_left).to(dtype).to(tl.float32)).to(dtype)
            turned_right = (second + (wide_left * sine_right).to(dtype).to(tl.float32)).to(dtype)
            if head < H:
                if row >= SKIPPED:
                    query = turned_ptr + ((row - SKIPPED).to(tl.int64) * H + head) * E
                    tl.store(query + left, turned_left)
                    tl.store(query + right, turned_right)
            else:
                key = keys_ptr + ((head - H).to(tl.int64) * C + tl.load(rows_ptr + row)) * E
                tl.store(key + left, turned_left)
                tl.store(key + right, turned_right)
        else:
            value = values_ptr + ((head - H - K).to(tl.int64) * C + tl.load(rows_ptr + row)) * E
            tl.store(value + left, x_left)
            tl.store(value + right, x_right)

    @triton.jit
    def attend_kernel(  # type: ignore[no-untyped-def] # traced, not run
        query_ptr, keys_ptr, values_ptr, bounds_ptr, positions_ptr, sums_ptr, peaks_ptr, totals_ptr,
        R, C, PIECE, scale, K: tl.constexpr, SHARED: tl.constexpr, E: tl.constexpr,
        BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, PRECISION: tl.constexpr,
    ):  # fmt: skip
        """Some queries of one key-value head over one piece of the cache: weighted values, not yet divided.

        query [Q, K, SHARED, E]; keys and values [K, C, E]; a query sees rows whose positions [C] are not behind its
        bound [Q]. sums [P, K, R, E], peaks and totals [P, K, R] are float32.
        """
        block, head, piece = tl.program_id(0), tl.program_id(1), tl.program_id(2)
        rows, width = block * BLOCK_R + tl.arange(0, BLOCK_R), tl.arange(0, E)
        within = rows < R
        query_rows = (rows // SHARED * K + head) * SHARED + rows % SHARED
        query = tl.load(query_ptr + query_rows[:, None] * E + width[None, :], mask=within[:, None], other=0.0)
        bounds = tl.load(bounds_ptr + rows // SHARED, mask=within, other=-1)
        offset = head.to(tl.int64) * C * E
        peak = tl.full((BLOCK_R,), float("-inf"), tl.float32)
        total = tl.zeros((BLOCK_R,), tl.float32)
        sums = tl.zeros((BLOCK_R, E), tl.float32)
        for begin in range(piece * PIECE, tl.minimum(C, (piece + 1) * PIECE), BLOCK_C):
            columns = begin + tl.arange(0, BLOCK_C)
            there = columns < tl.minimum(C, (piece + 1) * PIECE)
            places = offset + columns[:, None] * E + width[None, :]
            keys = tl.load(keys_ptr + places, mask=there[:, None], other=0.0)
            values = tl.load(values_ptr + places, mask=there[:, None], other=0.0)
            positions = tl.load(positions_ptr + columns, mask=there, other=0)
            seen = (positions[None, :] <= bounds[:, None]) & there[None, :]
            scores = tl.dot(query, tl.trans(keys), input_precision=PRECISION) * scale
            scores = tl.where(seen, scores, float("-inf"))
            higher = tl.maximum(peak, tl.max(scores, 1))
            base = tl.where(higher == float("-inf"), 0.0, higher)  # where nothing was seen yet
            shares = tl.exp(scores - base[:, None])
            fade = tl.exp(peak - base)
            total = total * fade + tl.sum(shares, 1)
            sums = tl.dot(shares.to(values.dtype), values, sums * fade[:, None], input_precision=PRECISION)
            peak = higher
        results = (piece * K + head) * R + rows
        tl.store(sums_ptr + results[:, None].to(tl.int64) * E + width[None, :], sums, mask=within[:, None])
        tl.store(peaks_ptr + results, peak, mask=within)
        tl.store(totals_ptr + results, total, mask=within)

    @triton.jit
    def join_kernel(  # type: ignore[no-untyped-def] # traced, not run
        sums_ptr, peaks_ptr, totals_ptr, y_ptr, R, P, K: tl.constexpr, SHARED: tl.constexpr, E: tl.constexpr,
        BLOCK_P: tl.constexpr,
    ):  # fmt: skip
        """One query's result from its pieces; y [Q, K, SHARED, E]."""
        row, head = tl.program_id(0), tl.program_id(1)
        pieces, width = tl.arange(0, BLOCK_P), tl.arange(0, E)
        within, results = pieces < P, (pieces * K + head) * R + row
        peaks = tl.load(peaks_ptr + results, mask=within, other=float("-inf"))
        factors = tl.exp(peaks - tl.max(peaks, 0))  # every query sees something: itself
        totals = tl.load(totals_ptr + results, mask=within, other=0.0)
        sums_ptrs = sums_ptr + results[:, None].to(tl.int64) * E + width[None, :]
        sums = tl.load(sums_ptrs, mask=within[:, None], other=0.0)
        y = tl.sum(sums * factors[:, None], 0) / tl.sum(totals * factors, 0)
        place = ((row // SHARED * K + head) * SHARED + row % SHARED).to(tl.int64) * E
        tl.store(y_ptr + place + width, y.to(y_ptr.dtype.element_ty))

    @triton.jit
    def gate_kernel(x_ptr, y_ptr, COUNT, N, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def] # traced, not run
        """silu of a row's first half times its second; x [T, 2N], y [T, N]."""
        places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside, sources = places < COUNT, places // N * 2 * N + places % N
        gate = tl.load(x_ptr + sources, mask=inside, other=0.0)
        wide = gate.to(tl.float32)
        wide = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype).to(tl.float32)
        up = tl.load(x_ptr + sources + N, mask=inside, other=0.0).to(tl.float32)
        tl.store(y_ptr + places, (wide * up).to(gate.dtype), mask=inside)


def add_norm(x_TD: Tensor, delta_TD: Tensor | None, weight_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + delta, or x itself without one, and its root-mean-square norm, [T, D] each."""
    T, D = x_TD.shape
    x_TD = x_TD.contiguous()
    sum_TD = x_TD if delta_TD is None else torch.empty_like(x_TD)
    y_TD = torch.empty_like(x_TD)
    block = triton.next_power_of_2(D)
    add_norm_kernel[(T,)](
        x_TD, x_TD if delta_TD is None else delta_TD.contiguous(), weight_D, sum_TD, y_TD, D, eps,
        delta_TD is not None, block, num_warps=min(8, max(1, block // 256)),
    )  # fmt: skip
    return sum_TD, y_TD


def turn_and_store(
    heads_TNE: Tensor, angles_2TE: Tensor, rows_T: Tensor, keys_KCE: Tensor, values_KCE: Tensor, wanted: int
) -> Tensor:
    """Queries of the last rows turned to their positions, [wanted, H, E]; keys, turned, and values go to the cache.

    Args:
        heads_TNE: of each row queries, keys and values, contiguous, N = H + 2K.
        angles_2TE: cosines and sines of the rows' positions.
        rows_T: of the cache.
        keys_KCE: of the cache.
        values_KCE: likewise.
        wanted: rows.
    """
    (T, N, E), (K, C) = heads_TNE.shape, keys_KCE.shape[:2]
    H = N - 2 * K
    turned_QHE = heads_TNE.new_empty(wanted, H, E)
    turn_kernel[(T, N)](
        heads_TNE, angles_2TE[0], angles_2TE[1], rows_T, turned_QHE, keys_KCE, values_KCE, T - wanted, C, H, K, E,
        num_warps=1,
    )  # fmt: skip
    return turned_QHE


def attend(
    query_QHE: Tensor, keys_KCE: Tensor, values_KCE: Tensor, bounds_Q: Tensor, positions_C: Tensor, processors: int
) -> Tensor:
    """Grouped-query attention over all rows of a cache whose position is not behind a query's bound, [Q, H * E].

    Args:
        query_QHE: turned, contiguous.
        keys_KCE: of the cache, contiguous.
        values_KCE: likewise.
        bounds_Q: position of each query, int64; each sees at least one row.
        positions_C: of the cache's rows, int64.
        processors: of the GPU: so many pieces are read side by side.
    """
    (Q, H, E), (K, C) = query_QHE.shape, keys_KCE.shape[:2]
    shared = H // K
    R = Q * shared
    # float32 takes twice the registers
    block_r = 16 if R <= 16 or query_QHE.element_size() == 4 else 32 if R <= 32 else 64
    blocks = triton.cdiv(R, block_r)
    pieces = max(1, min(int(_WAVES * processors / (blocks * K)), C // _LEAST_PIECE))
    block_c = 64 if query_QHE.element_size() == 2 else 32
    piece = triton.cdiv(triton.cdiv(C, pieces), block_c) * block_c
    pieces = triton.cdiv(C, piece)
    sums = torch.empty(pieces, K, R, E, dtype=torch.float32, device=query_QHE.device)
    peaks, totals = torch.empty(2, pieces, K, R, dtype=torch.float32, device=query_QHE.device)
    y_QN = query_QHE.new_empty(Q, H * E)
    attend_kernel[(blocks, K, pieces)](
        query_QHE, keys_KCE, values_KCE, bounds_Q, positions_C, sums, peaks, totals, R, C, piece, E**-0.5,
        K, shared, E, block_r, block_c, "ieee" if query_QHE.dtype == torch.float32 else "tf32",
        num_warps=4, num_stages=2,
    )  # fmt: skip
    join_kernel[(R, K)](
        sums, peaks, totals, y_QN, R, pieces, K, shared, E, triton.next_power_of_2(pieces), num_warps=4
    )  # fmt: skip
    return y_QN


def gate(x_TN: Tensor) -> Tensor:
    """silu of the first half of each row times the second, [T, N/2]; x contiguous."""
    T, N = x_TN.shape
    y_TN = x_TN.new_empty(T, N // 2)
    block = 1024
    gate_kernel[(triton.cdiv(y_TN.numel(), block),)](x_TN, y_TN, y_TN.numel(), N // 2, block, num_warps=4)
    return y_TN


def works(device: torch.device, dtype: torch.dtype, config: LanguageConfig) -> bool:
    """Tries all kernels on small tensors, for a word and for a segment, against torch."""
    if triton is None or device.type != "cuda" or not supports(config):
        return False
    try:
        with torch.cuda.device(device):
            return all(agrees(device, dtype, config, rows) for rows in (1, 78))
    except KERNEL_ERRORS as error:
        logger.warning("Triton's kernels do not run here, layers are slower: %s", str(error).splitlines()[0])
        return False


def supports(config: LanguageConfig) -> bool:
    """Whether the kernels' blocks can hold this width of a head."""
    return config.head_dim in (16, 32, 64, 128, 256)


def agrees(device: torch.device, dtype: torch.dtype, config: LanguageConfig, rows: int) -> bool:
    """Whether all kernels do what torch does, on random tensors with so many rows."""
    H, K, E, C, D = config.num_heads, config.num_kv_heads, config.head_dim, 400, 3 * config.head_dim
    generator = torch.Generator(device).manual_seed(rows)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype, device=device, generator=generator)

    x_TD, delta_TD, weight_D = draw(rows, D), draw(rows, D), draw(D)
    heads, angles, wanted_rows = draw(rows, H + 2 * K, E), draw(2, rows, E), max(1, rows - 1)
    query, key, value = heads.split([H, K, K], dim=1)
    keys, values = draw(1, K, C, E), draw(1, K, C, E)
    rows_T = torch.randperm(C, device=device, generator=generator)[:rows]
    positions_C = torch.randint(0, 1000, (C,), device=device, generator=generator)
    bounds_T = torch.arange(500, 500 + rows, device=device)
    positions_C[rows_T] = bounds_T

    norm = RMSNorm(D, 1e-6).to(device, dtype)
    norm.weight.data = weight_D
    wanted_keys, wanted_values = keys.clone(), values.clone()
    wanted_keys[0, :, rows_T] = rotate(key.transpose(0, 1), (angles[0], angles[1]))
    wanted_values[0, :, rows_T] = value.transpose(0, 1)
    turned = rotate(query.transpose(0, 1), (angles[0], angles[1]))[:, -wanted_rows:]
    mask_TC = positions_C[None] <= bounds_T[-wanted_rows:, None]
    mixed = torch_attend(turned[None], wanted_keys, wanted_values, mask_TC)[0].transpose(0, 1).flatten(1)
    wanted = [x_TD + delta_TD, norm(x_TD + delta_TD), turned.transpose(0, 1), wanted_keys, wanted_values, mixed]
    wanted.append(functional.silu(x_TD) * delta_TD)
    bounds_T = bounds_T[-wanted_rows:]

    found = [*add_norm(x_TD, delta_TD, weight_D, 1e-6)]
    found.append(turn_and_store(heads, angles, rows_T, keys[0], values[0], wanted_rows))
    found += [keys, values, attend(found[-1], keys[0], values[0], bounds_T, positions_C, 64)]
    found.append(gate(torch.cat([x_TD, delta_TD], dim=1)))
    return all(((a - b).norm() < 0.01 * b.norm()).item() for a, b in zip(found, wanted, strict=True))
