"""Triton kernels that read int8 and int4 weights once, widen them in registers and multiply: y = x @ w.T.

torch has no such kernel for many rows: tinygemm reads the weights again for every 16 rows, and widening first costs two
more passes over memory, so a second of the stream (78 rows) would get slower by quantising. These serve one row
(decoding) and a segment alike. Codes enter the product as whole numbers, exact in bfloat16, and scales multiply the
float32 sums, so nothing is rounded that need not be.

Importing this module needs no Triton; `works` says whether the kernels run on a device.

Shape legend: R rows, K input width, N output width, G groups along K.
"""

from __future__ import annotations

import logging
import subprocess

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # torch's wheels for Linux on NVIDIA bring it; those for CPUs and some Jetsons do not
    triton = None

logger = logging.getLogger(__name__)

# what compiling or running a kernel may raise
KERNEL_ERRORS: tuple[type[Exception], ...] = (ImportError, OSError, RuntimeError, subprocess.SubprocessError)
if triton is not None:
    KERNEL_ERRORS = (*KERNEL_ERRORS, triton.errors.TritonError)

MOST_ROWS = 256  # beyond, widening the weights once costs less than doing so for every block of rows

if triton is not None:

    @triton.jit
    def int8_kernel(  # type: ignore[no-untyped-def] # traced, not run
        x_ptr, codes_ptr, scales_ptr, y_ptr, R, N, K,
        BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    ):  # fmt: skip
        """One block [BLOCK_R, BLOCK_N] of y; x [R, K], codes [N, K] int8, scales [N], all contiguous."""
        columns = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
        rows = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
        inputs = tl.arange(0, BLOCK_K)
        x_ptrs = x_ptr + rows[:, None] * K + inputs[None, :]
        codes_ptrs = codes_ptr + columns[:, None].to(tl.int64) * K + inputs[None, :]
        sums = tl.zeros((BLOCK_R, BLOCK_N), dtype=tl.float32)
        for begin in range(0, K, BLOCK_K):
            inside = inputs[None, :] < K - begin
            x = tl.load(x_ptrs + begin, mask=(rows[:, None] < R) & inside, other=0.0)
            codes = tl.load(codes_ptrs + begin, mask=(columns[:, None] < N) & inside, other=0)
            sums = tl.dot(x, tl.trans(codes.to(x.dtype)), sums)
        scales = tl.load(scales_ptr + columns, mask=columns < N, other=0.0).to(tl.float32)
        y = (sums * scales[None, :]).to(y_ptr.dtype.element_ty)
        tl.store(y_ptr + rows[:, None] * N + columns[None, :], y, mask=(rows[:, None] < R) & (columns[None, :] < N))

    @triton.jit
    def int4_kernel(  # type: ignore[no-untyped-def] # traced, not run
        x_ptr, codes_ptr, scales_ptr, y_ptr, R, N, K, STRIDE,
        GROUP: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr,
    ):  # fmt: skip
        """As above; codes [N, G, GROUP/2] uint8 as `quantised_linear.pack` makes them, scales [G, N, 2] with STRIDE."""
        HALF: tl.constexpr = GROUP // 2
        columns = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
        rows = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
        inputs = tl.arange(0, HALF)
        x_ptrs = x_ptr + rows[:, None] * K + inputs[None, :]
        codes_ptrs = codes_ptr + columns[:, None].to(tl.int64) * (K // 2) + inputs[None, :]
        sums = tl.zeros((BLOCK_R, BLOCK_N), dtype=tl.float32)
        for group in range(0, K // GROUP):
            first = tl.load(x_ptrs + group * GROUP, mask=rows[:, None] < R, other=0.0)
            second = tl.load(x_ptrs + group * GROUP + HALF, mask=rows[:, None] < R, other=0.0)
            codes = tl.load(codes_ptrs + group * HALF, mask=columns[:, None] < N, other=0)
            low = ((codes & 15).to(tl.int8) - 8).to(first.dtype)
            high = ((codes >> 4).to(tl.int8) - 8).to(first.dtype)
            products = tl.dot(second, tl.trans(high), tl.dot(first, tl.trans(low)))
            totals = tl.sum(first.to(tl.float32), 1) + tl.sum(second.to(tl.float32), 1)
            scale_ptrs = scales_ptr + group * STRIDE + columns * 2
            scales = tl.load(scale_ptrs, mask=columns < N, other=0.0).to(tl.float32)
            middles = tl.load(scale_ptrs + 1, mask=columns < N, other=0.0).to(tl.float32)
            sums += products * scales[None, :] + totals[:, None] * middles[None, :]
        y = sums.to(y_ptr.dtype.element_ty)
        tl.store(y_ptr + rows[:, None] * N + columns[None, :], y, mask=(rows[:, None] < R) & (columns[None, :] < N))


def multiply_int8(x_RK: Tensor, codes_NK: Tensor, scales_N: Tensor) -> Tensor:
    """x [R, K] bfloat16 or float16, codes [N, K] int8, scales [N]: [R, N] in the type of x."""
    (R, K), N = x_RK.shape, len(codes_NK)
    y_RN = x_RK.new_empty(R, N)
    block_r, block_n, warps, stages = _blocks(R, N)
    grid = triton.cdiv(N, block_n), triton.cdiv(R, block_r)
    block_k = 256 if block_r == 16 else 64
    with torch.cuda.device_of(x_RK):  # Triton launches on the current device
        int8_kernel[grid](
            x_RK.contiguous(), codes_NK, scales_N, y_RN, R, N, K, block_r, block_n, block_k,
            num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return y_RN


def multiply_int4(x_RK: Tensor, codes: Tensor, scales_GN2: Tensor, group: int) -> Tensor:
    """x [R, K] bfloat16 or float16, codes [N, G, group/2] uint8, scales [G, N, 2] or a part of wider ones: [R, N]."""
    (R, K), N = x_RK.shape, len(codes)
    y_RN = x_RK.new_empty(R, N)
    block_r, block_n, warps, stages = _blocks(R, N)
    grid = triton.cdiv(N, block_n), triton.cdiv(R, block_r)
    with torch.cuda.device_of(x_RK):
        int4_kernel[grid](
            x_RK.contiguous(), codes, scales_GN2, y_RN, R, N, K, scales_GN2.stride(0), group, block_r, block_n,
            num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return y_RN


def _blocks(R: int, N: int) -> tuple[int, int, int, int]:
    """Rows and columns of a block, its warps, and how many loads are under way at once.

    All rows of a segment in one block, so that the weights are read and widened once; narrow columns, so that the
    smaller matrices (3,584 columns) still give a hundred and more blocks. 16 is the least that tensor cores take.
    """
    block_r = max(16, min(128, triton.next_power_of_2(R)))
    block_n = 16 if N <= 8192 and block_r == 16 else 32
    if block_r == 128:
        return block_r, block_n, 8, 3  # four would not fit into the shared memory of Ada (99 KiB)
    return block_r, block_n, 4, 4


def works(device: torch.device, dtype: torch.dtype) -> bool:
    """Tries both kernels on a small product, with one row and with a segment's, against torch."""
    if triton is None or device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    try:
        return all(_agrees(device, dtype, rows) for rows in (1, 78))
    except KERNEL_ERRORS as error:
        logger.warning("Triton's kernels do not run here, quantised weights are slower: %s", str(error).splitlines()[0])
        return False


def _agrees(device: torch.device, dtype: torch.dtype, rows: int) -> bool:
    generator = torch.Generator(device).manual_seed(0)
    x_RK = torch.randn(rows, 256, dtype=dtype, device=device, generator=generator)
    codes_NK = torch.randint(-127, 128, (40, 256), dtype=torch.int8, device=device, generator=generator)
    ones_N = torch.ones(40, dtype=dtype, device=device)
    packed = (codes_NK[:, :128].view(torch.uint8)).reshape(40, 2, 64).contiguous()
    halves = torch.cat([packed & 15, packed >> 4], 2).flatten(1).to(dtype) - 8
    scales_GN2 = torch.stack([ones_N, 0 * ones_N], 1).expand(2, -1, -1).contiguous()
    wanted = ((x_RK @ codes_NK.to(dtype).t()), (x_RK @ halves.t()))
    found = multiply_int8(x_RK, codes_NK, ones_N), multiply_int4(x_RK, packed, scales_GN2, 128)
    return all(((a - b).norm() < 0.01 * b.norm()).item() for a, b in zip(found, wanted, strict=True))
