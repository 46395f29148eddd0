"""Linear layers whose weights are stored in 8 or 4 bits; `runtime.quantise` puts them where they pay.

Which kernel multiplies is chosen from what the place has (docs/quantisation.md has the measurements):
- CPU, bfloat16: torch's own `_weight_int8pack_mm` for a few rows and `_weight_int4pack_mm_for_cpu`;
- CUDA, bfloat16 or float16: the Triton kernels of `runtime.weight_kernels`, where Triton works;
- CUDA, bfloat16, without Triton: torch's `_weight_int4pack_mm` (tinygemm) for int4;
- elsewhere the weights are made wide for the length of one product, which saves memory but no time.
fp8 multiplies in fp8 (`_scaled_mm`), the input's scale taken anew per row.

Shape legend: R rows, K input width, N output width, G groups along K.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vispeak_node.runtime import weight_kernels

_MOST_KERNEL_ROWS = 32  # on the CPU torch's int8 kernel loses against widen-and-multiply beyond (measured at 78: 1.7x)
_WIDE_ROWS = (
    512  # of the weights made wide at a time on the CPU: they stay in its cache (1.8 times faster than all at once)
)
_BLOCK = 4096  # rows quantised at a time: bounds the float32 copies to 60 MB at 3584 columns
_FP8_MAX = 448.0  # of float8_e4m3fn
_RANGES = (1.0, 0.95, 0.9, 0.85, 0.8)  # parts of a group's range that are tried: the best one has 5 % less error


class QuantisedLinear(nn.Module, ABC):
    """What all kinds share.

    Args:
        linear: the layer to take over; it is not kept.
    """

    weight: Tensor  # no rows: the type and the place of the results, for those who ask a linear layer for them

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("weight", linear.weight.new_empty(0, linear.in_features), persistent=False)
        self.bias = linear.bias

    @property
    def num_bytes(self) -> int:
        """What the layer takes: codes, scales, bias."""
        return sum(tensor.nbytes for tensor in (*self.buffers(), *self.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] to [..., N], in the type of x."""
        y_RN = self._multiply(x.reshape(-1, self.in_features))
        if self.bias is not None:
            y_RN = y_RN + self.bias
        return y_RN.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"

    @abstractmethod
    def wide(self) -> Tensor:
        """The weights as they are multiplied: [N, K] in the type of the model."""

    @abstractmethod
    def _multiply(self, x_RK: Tensor) -> Tensor: ...


class Int8Linear(QuantisedLinear):
    """Symmetric int8 with one scale per output row.

    Args:
        linear: the layer to take over.
        triton: whether `weight_kernels` may be used.
    """

    codes_NK: Tensor
    scales_N: Tensor

    def __init__(self, linear: nn.Linear, triton: bool = False) -> None:
        super().__init__(linear)
        self.by_triton = triton
        weight_NK = linear.weight.detach()
        codes_NK = torch.empty(weight_NK.shape, dtype=torch.int8, device=weight_NK.device)
        # rounded to the model's type first: the codes then fit the scale that multiplies them
        scales_N = (weight_NK.abs().amax(1).float() / 127).to(weight_NK.dtype)
        scales_N = torch.where(scales_N == 0, torch.ones_like(scales_N), scales_N)  # rows of zeros
        for begin in range(0, len(weight_NK), _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            scaled_RK = weight_NK[rows].float() / scales_N[rows, None].float()
            codes_NK[rows] = scaled_RK.round_().clamp_(-127, 127).to(torch.int8)
        self.register_buffer("codes_NK", codes_NK)
        self.register_buffer("scales_N", scales_N)

    def wide(self) -> Tensor:
        return self.codes_NK.to(self.weight.dtype) * self.scales_N[:, None]

    def _multiply(self, x_RK: Tensor) -> Tensor:
        if self.by_triton and len(x_RK) <= weight_kernels.MOST_ROWS:
            return weight_kernels.multiply_int8(x_RK, self.codes_NK, self.scales_N)
        if x_RK.device.type == "cpu" and x_RK.dtype == torch.bfloat16 and len(x_RK) <= _MOST_KERNEL_ROWS:
            return torch._weight_int8pack_mm(x_RK, self.codes_NK, self.scales_N)
        if x_RK.device.type != "cpu":
            return self._widen(x_RK, slice(None))
        blocks = [slice(begin, begin + _WIDE_ROWS) for begin in range(0, self.out_features, _WIDE_ROWS)]
        return torch.cat([self._widen(x_RK, rows) for rows in blocks], 1)

    def _widen(self, x_RK: Tensor, rows: slice) -> Tensor:
        """The product with some rows of the weights, made wide for it."""
        codes_NK, scales_N = self.codes_NK[rows].to(x_RK.dtype), self.scales_N[rows]
        if x_RK.dtype == torch.float16:  # sums of products with codes up to 127 would leave its range
            return x_RK @ codes_NK.mul_(scales_N[:, None]).t()
        return (x_RK @ codes_NK.t()) * scales_N


class Int4Linear(QuantisedLinear):
    """Four bits with a scale and a middle per group of inputs: w = (code - 8) * scale + middle, code 0..15.

    Args:
        linear: the layer to take over; its width in must be a multiple of the group.
        group: how many neighbouring inputs share a scale: 32, 64 or 128.
        kernel: torch (its own layout and kernels), triton (`weight_kernels`) or none (widen and multiply).
    """

    codes: Tensor  # uint8, two codes a byte: kernel torch in torch's layout, otherwise [N, G, group/2] as `pack` says
    scales_GN2: Tensor  # scale and middle

    def __init__(self, linear: nn.Linear, group: int, kernel: str = "none") -> None:
        super().__init__(linear)
        assert linear.in_features % group == 0, "the caller chose the group"
        self.group, self.kernel = group, kernel
        weight_NK = linear.weight.detach()
        codes_NK = torch.empty(weight_NK.shape, dtype=torch.uint8, device=weight_NK.device)
        scales_GN2 = weight_NK.new_empty(linear.in_features // group, linear.out_features, 2)
        for begin in range(0, len(weight_NK), _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            codes_NK[rows], scales_GN2[:, rows] = quantise_groups(weight_NK[rows], group)
        self.register_buffer("codes", pack_for_torch(codes_NK) if kernel == "torch" else pack(codes_NK, group))
        self.register_buffer("scales_GN2", scales_GN2)

    @staticmethod
    def torch_has_kernel(linear: nn.Linear) -> bool:
        """Whether torch's own int4 kernels take a layer of this type, shape and place."""
        if linear.weight.dtype != torch.bfloat16:
            return False
        if linear.weight.device.type == "cpu":
            return linear.out_features % 16 == 0
        return linear.weight.is_cuda and linear.out_features % 8 == 0 and linear.in_features % 32 == 0

    def wide(self) -> Tensor:
        if self.kernel == "torch":  # its layout is its own affair: multiplied by one, the weights come out
            return self._multiply(torch.eye(self.in_features, dtype=self.weight.dtype, device=self.weight.device)).t()
        scales_NG12 = self.scales_GN2.transpose(0, 1)[:, :, None]
        codes_NGI = torch.cat([self.codes & 15, self.codes >> 4], 2)
        wide_NGI = (codes_NGI.to(self.weight.dtype) - 8) * scales_NG12[..., 0] + scales_NG12[..., 1]
        return wide_NGI.flatten(1)

    def _multiply(self, x_RK: Tensor) -> Tensor:
        if self.kernel == "triton" and len(x_RK) <= weight_kernels.MOST_ROWS:
            return weight_kernels.multiply_int4(x_RK, self.codes, self.scales_GN2, self.group)
        if self.kernel == "torch":
            multiply = torch._weight_int4pack_mm if x_RK.is_cuda else torch._weight_int4pack_mm_for_cpu
            return multiply(x_RK, self.codes, self.group, self.scales_GN2)
        return x_RK @ self.wide().t()


class Fp8Linear(QuantisedLinear):
    """float8_e4m3 weights with one scale per output row, multiplied by inputs scaled per row, on fp8 tensor cores."""

    codes_NK: Tensor  # N padded to a multiple of 16, which the kernel needs
    scales_1N: Tensor  # float32

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight_NK = linear.weight.detach()
        padded = -(-linear.out_features // 16) * 16
        codes_NK = torch.zeros(padded, linear.in_features, dtype=torch.float8_e4m3fn, device=weight_NK.device)
        scales_1N = torch.ones(1, padded, device=weight_NK.device)
        scales_1N[0, : len(weight_NK)] = (weight_NK.abs().amax(1).float() / _FP8_MAX).clamp(min=1e-12)
        for begin in range(0, len(weight_NK), _BLOCK):
            rows = slice(begin, min(begin + _BLOCK, len(weight_NK)))
            codes_NK[rows] = _to_fp8(weight_NK[rows].float() / scales_1N[0, rows, None])
        self.register_buffer("codes_NK", codes_NK)
        self.register_buffer("scales_1N", scales_1N)

    def wide(self) -> Tensor:
        wide_NK = self.codes_NK.float() * self.scales_1N.t()
        return wide_NK[: self.out_features].to(self.weight.dtype)

    def _multiply(self, x_RK: Tensor) -> Tensor:
        scales_R1 = (x_RK.abs().amax(1, keepdim=True).float() / _FP8_MAX).clamp(min=1e-12)
        codes_RK = _to_fp8(x_RK.float() / scales_R1)
        y_RN = torch._scaled_mm(
            codes_RK, self.codes_NK.t(), scale_a=scales_R1, scale_b=self.scales_1N, out_dtype=torch.bfloat16
        )
        return y_RN[:, : self.out_features].to(x_RK.dtype)


def quantise_groups(weight_NK: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Codes [N, K] uint8 of 0..15, and scales with middles [G, N, 2] in the weight's type."""
    wide_NGI = weight_NK.float().unflatten(1, (-1, group))
    low_NG1, high_NG1 = wide_NGI.amin(2, keepdim=True), wide_NGI.amax(2, keepdim=True)
    centre_NG1, span_NG1 = (low_NG1 + high_NG1) / 2, (high_NG1 - low_NG1).clamp(min=1e-8)
    best_error_NG1 = torch.full_like(centre_NG1, torch.inf)
    best_scale_NG1, best_middle_NG1 = torch.zeros_like(centre_NG1), torch.zeros_like(centre_NG1)
    for part in _RANGES:
        # rounded to the model's type before the codes are chosen, so that the codes make up for it
        scale_NG1 = (span_NG1 * part / 15).to(weight_NK.dtype).float().clamp(min=1e-8)
        middle_NG1 = (centre_NG1 + scale_NG1 / 2).to(weight_NK.dtype).float()  # codes 0..15 lie around 7.5
        rounded_NGI = _codes(wide_NGI, scale_NG1, middle_NG1).sub_(8).mul_(scale_NG1).add_(middle_NG1)
        error_NG1 = rounded_NGI.sub_(wide_NGI).pow_(2).sum(2, keepdim=True)
        better_NG1 = error_NG1 < best_error_NG1
        best_error_NG1 = torch.where(better_NG1, error_NG1, best_error_NG1)
        best_scale_NG1 = torch.where(better_NG1, scale_NG1, best_scale_NG1)
        best_middle_NG1 = torch.where(better_NG1, middle_NG1, best_middle_NG1)
    codes_NK = _codes(wide_NGI, best_scale_NG1, best_middle_NG1).to(torch.uint8).flatten(1)
    scales_NG2 = torch.cat([best_scale_NG1, best_middle_NG1], 2).to(weight_NK.dtype)
    return codes_NK, scales_NG2.transpose(0, 1)


def pack(codes_NK: Tensor, group: int) -> Tensor:
    """Two codes a byte, [N, G, group/2]: a group's first half in the low bits, its second half in the high ones.

    So a kernel multiplies each half by neighbouring inputs, without shuffling.
    """
    low, high = codes_NK.unflatten(1, (-1, group)).chunk(2, dim=2)
    return (low | high << 4).contiguous()


def pack_for_torch(codes_NK: Tensor) -> Tensor:
    """The layout of torch's own kernels, which differs by device and processor."""
    if not codes_NK.is_cuda:
        return torch._convert_weight_to_int4pack_for_cpu(codes_NK.int(), 1)
    tiles = next(tiles for tiles in (8, 4, 2) if codes_NK.shape[1] % (16 * tiles) == 0)
    return torch._convert_weight_to_int4pack((codes_NK[:, ::2] << 4 | codes_NK[:, 1::2]).contiguous(), tiles)


def _codes(wide_NGI: Tensor, scale_NG1: Tensor, middle_NG1: Tensor) -> Tensor:
    return ((wide_NGI - middle_NG1) / scale_NG1).add_(8).round_().clamp_(0, 15)


def _to_fp8(scaled: Tensor) -> Tensor:
    return scaled.clamp_(-_FP8_MAX, _FP8_MAX).to(torch.float8_e4m3fn)
