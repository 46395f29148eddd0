"""An encoder to an ONNX file: standard operators only, the batch dynamic, weights in a file beside the graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch

from vispeak_export.graphs import EncoderGraph
from vispeak_node.runtime.sidecar import data_path

logger = logging.getLogger(__name__)

OPSET = 18  # the newest that JetPack 6's TensorRT 10.3 and torch's exporter share without conversion
# what the two graphs are made of; TensorRT 10's parser has each of them (onnx-tensorrt, docs/operators.md)
OPERATORS = frozenset({
    "Add", "And", "Cast", "Concat", "Constant", "Conv", "DequantizeLinear", "Div", "Erf", "Expand", "Gather", "Gemm",
    "Identity", "LayerNormalization", "Less", "MatMul", "Mul", "Not", "Pad", "QuantizeLinear", "Relu", "Reshape",
    "Resize", "Shape", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip


def require_onnx() -> None:
    """Refuses to begin without the libraries that write ONNX files.

    Raises:
        ValueError: says what to install.
    """
    try:
        import onnx  # noqa: F401, PLC0415
        import onnxruntime  # noqa: F401, PLC0415
        import onnxscript  # noqa: F401, PLC0415
    except ImportError as error:
        raise ValueError(f"{error.name} is missing: pip install 'vispeak_node[export]'") from error


def write_onnx(graph: EncoderGraph, file: Path) -> None:
    """Exports a graph in its present precision.

    Args:
        graph: on the CPU.
        file: the weights go beside it, see `sidecar.data_path`.

    Raises:
        ValueError: the graph has operators that TensorRT 10.3 might not know.
    """
    require_onnx()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it complains of libraries that nothing here needs
    sample = torch.zeros(2, *graph.input_shape, dtype=graph.input_dtype)
    # what torch 2.6 tells of its progress is not for our output
    with warnings.catch_warnings(), torch.inference_mode(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            graph.eval(),
            (sample,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            opset_version=OPSET,
            input_names=[graph.input_name],
            output_names=list(graph.output_names),
            optimize=True,  # folds constants; torch 2.6 does not by itself
            verbose=False,
        )
    assert program is not None, "torch gives a program where it is given no file"
    data_path(file).unlink(missing_ok=True)
    program.save(str(file), external_data=True)
    _drop_remarks(file)
    check_onnx(file)
    logger.info("%s: opset %d, %.0f MB", file, OPSET, (file.stat().st_size + data_path(file).stat().st_size) / 1e6)


def check_onnx(file: Path, opset: int = OPSET) -> None:
    """Refuses a graph that is invalid, or that other software might not run.

    Args:
        file: the graph.
        opset: that it must be in.

    Raises:
        ValueError: says which operators.
    """
    import onnx  # noqa: PLC0415 - a person who only runs engines has none

    model = onnx.load(str(file), load_external_data=False)
    unknown = {f"{node.domain}::{node.op_type}" for node in model.graph.node if node.domain not in ("", "ai.onnx")}
    unknown |= {node.op_type for node in model.graph.node} - OPERATORS
    if unknown or model.functions:
        raise ValueError(f"{file}: operators that TensorRT 10.3 may not have: {', '.join(sorted(unknown))}")
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != opset:
        raise ValueError(f"{file}: opset {opsets.get('')} instead of {opset}; another torch may have written it")
    onnx.checker.check_model(str(file))


def _drop_remarks(file: Path) -> None:
    """Takes out what torch notes on every node, which includes where its source lies on this machine."""
    import onnx  # noqa: PLC0415

    model = onnx.load(str(file), load_external_data=False)
    for item in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    file.write_bytes(model.SerializeToString())
