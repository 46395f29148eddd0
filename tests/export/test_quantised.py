"""int8 and fp8 graphs: what ModelOpt's own simulation says, which layers are narrow, and what is refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("onnxscript", reason="pip install 'vispeak_node[export]'")
import onnx
import onnxruntime

from vispeak_export import calibration, inputs
from vispeak_export.calibration import GREATEST, Scales, calibrate
from vispeak_export.cli import main
from vispeak_export.graphs import load_graph
from vispeak_export.onnx_file import write_onnx
from vispeak_export.quantised_onnx import QUANTISED_OPSET, quantise_onnx
from vispeak_node.model.checkpoint import inspect_checkpoint
from vispeak_node.runtime.sidecar import data_path, encoder_path, read_sidecar
from vispeak_node.settings import default_model_dir

TINY = default_model_dir()
NUM_LAYERS = 16  # four transformer layers of four linear ones


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    return inputs.frames(inspect_checkpoint(TINY).config, count, None, seed)


def plain_scales(precision: str) -> list[Scales]:
    """Made by hand from the weights: what needs no ModelOpt."""
    graph = load_graph(TINY, "vision")
    linears = [(name, layer) for name, layer in graph.named_modules() if isinstance(layer, torch.nn.Linear)]
    tower = [(name, layer) for name, layer in linears if name.startswith(calibration.TOWER)]
    return [
        Scales(name, 0.05, layer.weight.abs().amax(1).clamp_min(1e-6) / GREATEST[precision]) for name, layer in tower
    ]


def run(file: Path, frames: torch.Tensor) -> torch.Tensor:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"frames": frames.numpy()})[1])  # the features


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vision encoder's graph in float32."""
    file = tmp_path_factory.mktemp("wide") / "x.onnx"
    write_onnx(load_graph(TINY, "vision"), file)
    return file


@pytest.fixture
def file(wide: Path, tmp_path: Path) -> Path:
    """A copy of it to work on."""
    for path in (wide, data_path(wide)):
        shutil.copy(path, tmp_path)
    return tmp_path / wide.name


@pytest.mark.parametrize("precision", ["int8", "fp8"])
@torch.inference_mode()
def test_a_graph_says_what_the_simulation_says(precision: str, file: Path) -> None:
    """Right order, right axis, right rounding."""
    pytest.importorskip("modelopt", reason=calibration.INSTALL)
    graph, frames = load_graph(TINY, "vision"), pictures(4)
    scales, twin = calibrate(graph, pictures(8, seed=1), precision)
    assert len(scales) == NUM_LAYERS and [scale.name for scale in scales] == [
        scale.name for scale in plain_scales(precision)
    ]
    wanted = graph(frames)[1]
    simulated = twin(frames)[1]
    quantise_onnx(file, scales, precision)
    found = run(file, frames)
    error = (simulated - wanted).norm()
    assert 0 < error < 0.1 * wanted.norm()
    # a value on an edge may be rounded to either side, and later layers amplify it: a millionth on the input moves the
    # simulation itself by a third of its error; independent errors would differ by 1.4 of it
    assert (found - simulated).norm() < 0.8 * error
    assert 0.8 < (found - wanted).norm() / error < 1.25


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_the_towers_weights_are_narrow(precision: str, file: Path) -> None:
    before = data_path(file).stat().st_size
    scales = plain_scales(precision)
    quantise_onnx(file, scales, precision)
    model = onnx.load(str(file))
    kind = onnx.TensorProto.INT8 if precision == "int8" else onnx.TensorProto.FLOAT8E4M3FN
    narrow = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == kind}
    assert len([name for name in narrow if name.endswith("weight_narrow")]) == NUM_LAYERS
    saved = sum(int(np.prod(tensor.dims)) for name, tensor in narrow.items() if name.endswith("weight_narrow"))
    assert data_path(file).stat().st_size < before - 2.9 * saved  # a byte instead of four
    operators = [node.op_type for node in model.graph.node]
    counts = [operators.count(name) for name in ("QuantizeLinear", "DequantizeLinear")]
    assert counts == [NUM_LAYERS, 2 * NUM_LAYERS]
    assert {entry.version for entry in model.opset_import if not entry.domain} == {QUANTISED_OPSET}
    assert run(file, pictures(2)).isfinite().all()


def test_scales_of_other_layers_are_refused(file: Path) -> None:
    scales = plain_scales("int8")
    exchanged = [dataclasses.replace(scales[0], weight_O=scales[4].weight_O), *scales[1:]]
    with pytest.raises(ValueError, match="another layer in its place"):
        quantise_onnx(file, exchanged, "int8")
    with pytest.raises(ValueError, match="18 products with weights, 32 linear layers"):
        quantise_onnx(file, scales * 2, "int8")


def test_without_model_opt_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "modelopt.torch", None)
    assert main(["onnx", "--out", str(tmp_path), "--precision", "int8", "--part", "vision", "--inputs", "2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "NVIDIA ModelOpt" in line and "pip install nvidia-modelopt" in line
    assert not list(tmp_path.iterdir())


def test_ranges_come_from_a_folder_of_pictures(tmp_path: Path) -> None:
    for number, name in enumerate(("b.png", "a.jpg", "c.bmp")):
        Image.new("RGB", (50 + number, 40), (80 * number, 0, 0)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    assert [picture.shape for picture in inputs.pictures(tmp_path, 10)] == [(40, 51, 3), (40, 50, 3), (40, 52, 3)]
    assert len(inputs.pictures(tmp_path, 2)) == 2
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"b\.png: not a picture that can be read"):
        inputs.pictures(tmp_path, 10)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no pictures"):
        inputs.pictures(tmp_path / "empty", 10)


@pytest.mark.slow
def test_an_int8_encoder_and_its_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("modelopt", reason=calibration.INSTALL)
    words = ["onnx", "--out", str(tmp_path), "--precision", "int8", "--calibrate", str(TINY / "demo.mp4")]
    assert main([*words, "--part", "vision"]) == 0
    sidecar = read_sidecar(encoder_path(tmp_path, "vision", "onnx"))
    assert (sidecar.precision, sidecar.opset) == ("int8", QUANTISED_OPSET) and "nvidia-modelopt" in sidecar.versions
    found = sidecar.validation
    assert found.status == "passed" and 0.99 <= found.cosine_min < 0.9999
    assert "ranges from other noise and demo.mp4" in found.inputs
    assert found.num_decisions == 14 and found.decision_agreement == 1.0
    assert "int8" in capsys.readouterr().out
