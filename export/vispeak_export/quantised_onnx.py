"""Quantise and dequantise nodes (Q/DQ) around the linear layers of a graph, as TensorRT reads them.

Before every layer its input is rounded to 8 bits and widened again, and its weights are stored in 8 bits with a scale
for every output; a builder that sees both takes its 8-bit kernel. All else keeps the graph's own precision. Zero is
zero in all of them, which TensorRT demands.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vispeak_export.calibration import GREATEST, Scales
from vispeak_export.onnx_file import check_onnx
from vispeak_node.runtime.sidecar import data_path

logger = logging.getLogger(__name__)

QUANTISED_OPSET = 19  # the first with float8, and with scales in float16; TensorRT 10.3's parser reads up to 20
_SMALL = 1024  # bytes; what is smaller stays in the graph's own file


def quantise_onnx(file: Path, scales: Sequence[Scales], precision: str) -> None:
    """Rewrites an exported graph with Q/DQ nodes, in place.

    Args:
        file: from `write_onnx`.
        scales: of its first linear layers, in the order in which they run.
        precision: int8 or fp8.

    Raises:
        ValueError: the graph's layers are not those of the scales.
    """
    import onnx  # noqa: PLC0415 - a person who only runs engines has none

    model = onnx.load(str(file))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    if len(layers) < len(scales):
        raise ValueError(f"{file}: {len(layers)} products with weights, {len(scales)} linear layers; torch fused some")
    writer = _Writer(onnx, precision)
    for node, found in zip(layers, scales, strict=False):  # the others are the projector's
        writer.rewrite(node, weights[node.input[1]], found)
    nodes = [part for node in model.graph.node for part in (*writer.before.get(node.name, ()), node)]
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in writer.replaced]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*kept, *writer.tensors])
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = QUANTISED_OPSET  # what the graph is made of means the same as in 18
    model.ir_version = max(model.ir_version, 9)
    data_path(file).unlink(missing_ok=True)
    onnx.save(
        model, str(file), save_as_external_data=True, location=data_path(file).name, size_threshold=_SMALL,
        convert_attribute=False,
    )  # fmt: skip
    check_onnx(file, QUANTISED_OPSET)
    logger.info("%s: %d layers in %s", file, len(scales), precision)


class _Writer:
    """Makes the nodes and tensors of one graph."""

    def __init__(self, onnx: Any, precision: str) -> None:
        self._onnx = onnx
        self._greatest = GREATEST[precision]
        self._kind = onnx.TensorProto.INT8 if precision == "int8" else onnx.TensorProto.FLOAT8E4M3FN
        self.before: dict[str, list[Any]] = {}  # a layer's name: the nodes that come before it
        self.tensors: list[Any] = []
        self.replaced: set[str] = set()  # weights that nothing reads any more

    def rewrite(self, node: Any, weight: Any, scales: Scales) -> None:
        """Puts a layer between Q/DQ nodes."""
        numpy_helper, make_node = self._onnx.numpy_helper, self._onnx.helper.make_node
        wide_IO = numpy_helper.to_array(weight)
        steps = np.abs(wide_IO.astype(np.float32)).max(axis=0) / self._greatest
        if steps.shape != scales.weight_O.shape or not np.allclose(steps, scales.weight_O, rtol=0.01, atol=1e-6):
            raise ValueError(f"{scales.name}: the graph has another layer in its place; another torch may have made it")
        step, steps_O = np.array(scales.inputs, wide_IO.dtype), scales.weight_O.numpy().astype(wide_IO.dtype)
        name = scales.name
        self._add(f"{name}.input_scale", step)
        self._add(f"{name}.weight_scale", steps_O)
        self._narrow(f"{name}.input_zero", np.zeros((), np.float32))
        self._narrow(f"{name}.weight_zero", np.zeros(len(steps_O), np.float32))
        self._narrow(f"{name}.weight_narrow", wide_IO.astype(np.float32) / steps_O.astype(np.float32))
        rounding = [f"{name}.input_scale", f"{name}.input_zero"]
        self.before[node.name] = [
            make_node("QuantizeLinear", [node.input[0], *rounding], [f"{name}.narrow"], f"{name}.quantise"),
            make_node("DequantizeLinear", [f"{name}.narrow", *rounding], [f"{name}.wide"], f"{name}.dequantise"),
            make_node(
                "DequantizeLinear", [f"{name}.weight_{part}" for part in ("narrow", "scale", "zero")],
                [f"{name}.weight_wide"], f"{name}.weight_dequantise", axis=1,
            ),
        ]  # fmt: skip
        self.replaced.add(node.input[1])
        node.input[0], node.input[1] = f"{name}.wide", f"{name}.weight_wide"

    def _add(self, name: str, values: NDArray[Any]) -> None:
        self.tensors.append(self._onnx.numpy_helper.from_array(values, name))

    def _narrow(self, name: str, values: NDArray[np.float32]) -> None:
        """Rounds to the narrow type, ties to even; what lies outside becomes the greatest."""
        values = values.clip(-self._greatest, self._greatest)
        if self._kind == self._onnx.TensorProto.INT8:
            self._add(name, np.rint(values).astype(np.int8))
            return
        raw = torch.from_numpy(np.ascontiguousarray(values)).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
        tensor = self._onnx.TensorProto(name=name, data_type=self._kind, dims=values.shape, raw_data=raw.tobytes())
        self.tensors.append(tensor)
