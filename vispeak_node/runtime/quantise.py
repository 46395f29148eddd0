"""Quantised weights for a loaded model: what is packed, what is left as it is, and why.

Packed are the linear layers of the language model, 92 % of a 7B model's bytes and all that a decoding step waits for,
and `lm_head`. The checkpoint on disk stays as it is.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime import weight_kernels
from vispeak_node.runtime.quantised_linear import Fp8Linear, Int4Linear, Int8Linear, QuantisedLinear

WEIGHTS = ("int8", "int4", "fp8")
GROUPS = (128, 64, 32)  # of int4, the largest that divides a layer's width in
LM_HEAD = "lm_head"

# parts that stay in the model's own type, on purpose
_LEFT = {
    "model.embed_tokens": "a look-up reads one row of it, whatever its size: no time to win",
    "model.vision_tower": "bound by arithmetic (all patches at once), not by the reading of its weights",
    "model.mm_projector": "part of the vision encoder",
    "model.audio_encoder": "small, and bound by arithmetic too",
    "model.combination": "0.4 % of a released model's bytes, and one gate value scales both streams at every position",
    "informative_head": "0.1 % of a released model's bytes, and its score is compared with a calibrated threshold",
    "event_head": "a few rows, whose probabilities are published",
}


@dataclass(frozen=True)
class QuantisedReport:
    """What `quantise` did."""

    weights: str  # int8, int4, fp8, or empty for nothing
    linears: dict[str, str]  # name of each packed layer: how it is stored, such as `int4, groups of 128`
    linear_bytes_before: int  # of the packed layers
    linear_bytes_after: int
    model_bytes_before: int  # of all parameters and buffers
    model_bytes_after: int
    left: dict[str, str]  # name of each part that stayed as it is: why

    @property
    def ratio(self) -> float:
        """Bytes of the packed layers, after by before; 1 if there are none."""
        return self.linear_bytes_after / self.linear_bytes_before if self.linears else 1.0

    def lines(self) -> Iterator[str]:
        """The account for a person."""
        if not self.linears:
            yield f"weights as in the checkpoint: {_size(self.model_bytes_after)}"
            return
        forms = sorted(set(self.linears.values()))
        counts = ", ".join(f"{list(self.linears.values()).count(form)} layers {form}" for form in forms)
        yield (
            f"weights {self.weights}: {counts}; {_size(self.linear_bytes_before)} -> {_size(self.linear_bytes_after)} "
            f"({self.ratio:.3f}); whole model {_size(self.model_bytes_before)} -> {_size(self.model_bytes_after)}"
        )
        yield from (f"left as it is: {name}: {why}" for name, why in self.left.items())


def quantise(model: ViSpeakModel, weights: str) -> QuantisedReport:
    """Packs the model's linear layers in place, one after the other: there is never a second copy of the model.

    Do it last, after the model is where it will run and in its type. int8 and int4 keep the inputs as they are
    (weight-only); fp8 also multiplies in fp8. `lm_head` is int8 in int4 too: it chooses every spoken word among
    150,000, where neighbours lie close, and silent seconds do not read it.

    Args:
        model: from `load_model`.
        weights: int8, int4 or fp8; empty leaves everything as it is.

    Raises:
        ValueError: the name is unknown, the model is packed already, or this machine cannot multiply fp8.
    """
    if weights and weights not in WEIGHTS:
        raise ValueError(f"weights {weights!r} is unknown; use one of {', '.join(WEIGHTS)}, or leave it empty")
    if any(isinstance(module, QuantisedLinear) for module in model.modules()):
        raise ValueError("the model's weights are quantised already; load it anew")
    whole = _num_bytes(model)
    if not weights:
        return QuantisedReport("", {}, 0, 0, whole, whole, {})
    packer = _Packer(model, weights)
    linears: dict[str, str] = {}
    before = after = 0
    for name in _linear_names(model):
        parent, _, child = name.rpartition(".")
        owner = model.get_submodule(parent)
        linear = owner.get_submodule(child)
        before += _num_bytes(linear)
        packed, linears[name] = packer.pack(name, linear)
        after += packed.num_bytes
        setattr(owner, child, packed)
        del linear  # the wide weights go before the next layer is packed
    gc.collect()
    return QuantisedReport(weights, linears, before, after, whole, _num_bytes(model), _left(model))


class _Packer:
    """Chooses the form of each layer.

    Raises:
        ValueError: this machine cannot multiply fp8.
    """

    def __init__(self, model: ViSpeakModel, weights: str) -> None:
        self._weights = weights
        if weights == "fp8":
            check_fp8(model.device)
        self._triton = weights != "fp8" and weight_kernels.works(model.device, model.dtype)

    def pack(self, name: str, linear: nn.Module) -> tuple[QuantisedLinear, str]:
        """The packed layer, and its form in words."""
        assert isinstance(linear, nn.Linear), f"{name} is no linear layer"
        if self._weights == "fp8" and linear.in_features % 16 == 0:
            return Fp8Linear(linear), "fp8, a scale per row"
        group = next((group for group in GROUPS if linear.in_features % group == 0), 0)
        if self._weights == "int4" and name != LM_HEAD and group:
            return Int4Linear(linear, group, self._int4_kernel(linear)), f"int4, groups of {group}"
        # lm_head in int4; and widths that do not divide (no released model has one): int8 takes any
        return Int8Linear(linear, self._triton), "int8, a scale per row"

    def _int4_kernel(self, linear: nn.Linear) -> str:
        if self._triton:
            return "triton"
        return "torch" if Int4Linear.torch_has_kernel(linear) else "none"


def check_fp8(device: torch.device) -> None:
    """Refuses fp8 where the hardware or this torch cannot multiply it.

    Raises:
        ValueError: says what is there, and what to use.
    """
    way_out = "use weights int8 or int4"
    if device.type != "cuda":
        raise ValueError(f"weights fp8 needs an NVIDIA GPU of Ada, Hopper or later, not {device.type}: {way_out}")
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < (8, 9):
        raise ValueError(f"weights fp8 needs sm_89 or later, this GPU is sm_{major}{minor}: {way_out}")
    try:
        layer = Fp8Linear(nn.Linear(64, 48, bias=False, device=device, dtype=torch.bfloat16))
        layer(torch.ones(1, 64, device=device, dtype=torch.bfloat16)).sum().item()
    except (RuntimeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"weights fp8: torch {torch.__version__} cannot multiply it on sm_{major}{minor} ({reason}): {way_out}"
        ) from error


def _linear_names(model: ViSpeakModel) -> list[str]:
    layers = [name for name, module in model.model.layers.named_modules() if isinstance(module, nn.Linear)]
    return [*(f"model.layers.{name}" for name in layers), LM_HEAD]


def _left(model: ViSpeakModel) -> dict[str, str]:
    """Only parts that this model has."""
    return {name: why for name, why in _LEFT.items() if (part := _part(model, name)) is not None and _num_bytes(part)}


def _part(model: ViSpeakModel, name: str) -> nn.Module | None:
    owner: object = model
    for step in name.split("."):
        owner = getattr(owner, step)
    return owner if isinstance(owner, nn.Module) else None


def _num_bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.2f} MB"
