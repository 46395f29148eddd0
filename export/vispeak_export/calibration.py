"""The scales of a quantised encoder: the ranges of its linear layers, found by NVIDIA ModelOpt on frames.

Shape legend: B batch, S pixels, C channels, O outputs of a layer, I its inputs.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vispeak_export.graphs import EncoderGraph

logger = logging.getLogger(__name__)

QUANTISED = ("int8", "fp8")
GREATEST = {"int8": 127.0, "fp8": 448.0}  # what the format holds: symmetric int8, float8 e4m3
BATCH = 4  # frames at once
TOWER = "vision_tower."  # the part of the graph that is quantised
INSTALL = "pip install nvidia-modelopt requests"
_BITS: dict[str, Any] = {"int8": 8, "fp8": (4, 3)}
_LEAST = 1e-6  # scales are stored in float16, where less is nothing


@dataclass(frozen=True)
class Scales:
    """One linear layer's step sizes: a value is its whole number times this."""

    name: str  # of the layer in the graph
    inputs: float  # for the whole tensor
    weight_O: Tensor  # float32, one for every output


def calibrate(graph: EncoderGraph, frames: Tensor, precision: str) -> tuple[list[Scales], nn.Module]:
    """Runs frames through a graph and notes the greatest input of every linear layer of the tower.

    Greatest values, not percentiles: what a vision transformer says in its few large activations must not be cut off.
    The projector stays wide: it is a 200th of the arithmetic, and a third of int8's error on the small checkpoint. So
    does the convolution of the patches, a 600th.

    Args:
        graph: in float32; it stays as it is.
        frames: uint8 [count, S, S, C].
        precision: int8 or fp8.

    Returns:
        The scales in the order in which the layers run, and a twin of the graph that rounds as they say.

    Raises:
        ValueError: ModelOpt is not installed or is too old.
    """
    quantization = _model_opt()
    layer, bits = {"parent_class": "nn.Linear"}, _BITS[precision]
    settings = {
        "quant_cfg": [
            {"quantizer_name": "*", "enable": False},
            {"quantizer_name": f"{TOWER}*weight_quantizer", **layer, "cfg": {"num_bits": bits, "axis": 0}},
            {"quantizer_name": f"{TOWER}*input_quantizer", **layer, "cfg": {"num_bits": bits, "axis": None}},
        ],
        "algorithm": "max",
    }
    order: list[str] = []
    twin = copy.deepcopy(graph)

    def run(module: nn.Module) -> None:
        order.clear()
        hooks = [
            child.register_forward_pre_hook(lambda *_, name=name: order.append(name))
            for name, child in module.named_modules()
            if isinstance(child, nn.Linear) and name.startswith(TOWER)
        ]
        for batch in frames.split(BATCH):
            module(batch)
        for hook in hooks:
            hook.remove()

    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            twin = quantization.quantize(twin, settings, run)
        except (KeyError, TypeError, AttributeError) as error:  # its settings had another form before 0.47
            raise ValueError(f"this NVIDIA ModelOpt does not take our settings ({error}): {INSTALL} -U") from error
    names = list(dict.fromkeys(order))
    logger.info("%d linear layers calibrated on %d frames", len(names), len(frames))
    return [_scales(name, twin.get_submodule(name), GREATEST[precision]) for name in names], twin


def _model_opt() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from modelopt.torch import quantization  # noqa: PLC0415 - large, and only for this
    except ImportError as error:
        raise ValueError(f"int8 and fp8 encoders need NVIDIA ModelOpt ({error}): {INSTALL}") from error
    return quantization


def _scales(name: str, layer: Any, greatest: float) -> Scales:
    inputs = float(layer.input_quantizer.amax) / greatest
    weight_O = layer.weight_quantizer.amax.detach().float().flatten() / greatest
    return Scales(name, max(inputs, _LEAST), weight_O.clamp_min(_LEAST))
