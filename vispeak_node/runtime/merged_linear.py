"""Linear layers that read the same input, multiplied as one: queries, keys and values; gate and up.

A narrow layer alone (512 rows of keys) gives a GPU too little to do, and every product is a launch. The layers' weights
are laid one after the other in memory once; each layer keeps a view of its own part, so nothing is stored twice and
whoever uses a layer alone gets what it always gave.

Shape legend: T rows, K input width, N output width of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vispeak_node.runtime import weight_kernels
from vispeak_node.runtime.quantised_linear import Int4Linear, Int8Linear

Product: TypeAlias = Callable[[Tensor], Tensor]  # [T, K] to [T, N]


@dataclass(frozen=True, eq=False)
class _Plain:
    weight_NK: Tensor
    bias_N: Tensor | None

    def __call__(self, x_TK: Tensor) -> Tensor:
        return functional.linear(x_TK, self.weight_NK, self.bias_N)


@dataclass(frozen=True, eq=False)
class _Int8:
    codes_NK: Tensor
    scales_N: Tensor
    bias_N: Tensor | None

    def __call__(self, x_TK: Tensor) -> Tensor:
        y_TN = weight_kernels.multiply_int8(x_TK, self.codes_NK, self.scales_N)
        return y_TN if self.bias_N is None else y_TN + self.bias_N


@dataclass(frozen=True, eq=False)
class _Int4:
    codes: Tensor
    scales_GN2: Tensor
    group: int
    bias_N: Tensor | None

    def __call__(self, x_TK: Tensor) -> Tensor:
        y_TN = weight_kernels.multiply_int4(x_TK, self.codes, self.scales_GN2, self.group)
        return y_TN if self.bias_N is None else y_TN + self.bias_N


@dataclass(frozen=True, eq=False)
class _Apart:
    linears: tuple[nn.Module, ...]

    def __call__(self, x_TK: Tensor) -> Tensor:
        return torch.cat([linear(x_TK) for linear in self.linears], dim=-1)


def merge(linears: Sequence[nn.Module]) -> Product:
    """The layers' results side by side, by one product where their kind allows it.

    Args:
        linears: of one input; their weights may move in memory, so graphs must be captured after this.
    """
    bias_N = _biases(linears)
    if all(type(linear) is nn.Linear for linear in linears):
        return _Plain(_together(linears, "weight"), bias_N)
    if all(isinstance(linear, Int8Linear) and linear.by_triton for linear in linears):
        scales_N = torch.cat([cast(Int8Linear, linear).scales_N for linear in linears])
        return _Int8(_together(linears, "codes_NK"), scales_N, bias_N)
    groups = {linear.group for linear in linears if isinstance(linear, Int4Linear) and linear.kernel == "triton"}
    if all(isinstance(linear, Int4Linear) and linear.kernel == "triton" for linear in linears) and len(groups) == 1:
        return _Int4(_together(linears, "codes"), _together(linears, "scales_GN2", 1), groups.pop(), bias_N)
    return _Apart(tuple(linears))


def _biases(linears: Sequence[nn.Module]) -> Tensor | None:
    """Of all; zeros for those that have none, unless none has one."""
    biases = [cast("Tensor | None", linear.bias) for linear in linears]
    like = next((bias for bias in biases if bias is not None), None)
    if like is None:
        return None
    widths = [cast(int, linear.out_features) for linear in linears]
    return torch.cat(
        [like.new_zeros(width) if bias is None else bias for bias, width in zip(biases, widths, strict=True)]
    ).detach()


def _together(linears: Sequence[nn.Module], name: str, dim: int = 0) -> Tensor:
    """One tensor of all layers' rows, of which each layer's own tensor is a part from here on."""
    tensors = [cast(Tensor, getattr(linear, name)).detach() for linear in linears]
    sizes = [tensor.shape[dim] for tensor in tensors]
    if _follow_each_other(tensors, dim):  # laid together before, for another session on these weights
        shape = (*tensors[0].shape[:dim], sum(sizes), *tensors[0].shape[dim + 1 :])
        return tensors[0].as_strided(shape, tensors[0].stride())
    with torch.inference_mode(False), torch.no_grad():  # a model may be trained on after a session
        whole = torch.cat(tensors, dim)
        for linear, part in zip(linears, whole.split(sizes, dim), strict=True):
            old = getattr(linear, name)
            setattr(linear, name, nn.Parameter(part, old.requires_grad) if isinstance(old, nn.Parameter) else part)
    if whole.is_cuda:
        del tensors, old
        torch.cuda.empty_cache()  # the gaps that the parts leave are too small for the next layer's whole
    return whole


def _follow_each_other(tensors: Sequence[Tensor], dim: int) -> bool:
    """Whether they are neighbouring parts of one tensor."""
    first, end = tensors[0], tensors[0].storage_offset()
    width = sum(tensor.shape[dim] for tensor in tensors)
    if dim and first.stride(dim - 1) != width * first.stride(dim):
        return False
    for tensor in tensors:
        same = tensor.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not same or tensor.stride() != first.stride() or tensor.storage_offset() != end:
            return False
        end += tensor.shape[dim] * tensor.stride(dim)
    return True
