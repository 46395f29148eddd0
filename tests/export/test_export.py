"""`vispeak-export`: what it leaves behind, what it prints, and what it refuses."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("onnxscript", reason="pip install 'vispeak_node[export]'")
from tests.export.exported import engines, exported, needs_rtx
from vispeak_export import engine
from vispeak_export.cli import main
from vispeak_export.progress import BuildProgress
from vispeak_node.model.checkpoint import load_model, save_checkpoint
from vispeak_node.runtime.fingerprint import files_sha256, weights_sha256
from vispeak_node.runtime.sidecar import data_path, encoder_path, read_sidecar
from vispeak_node.runtime.tensorrt_backend import TensorRTBackend
from vispeak_node.settings import default_model_dir


def refuse(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([str(word) for word in words]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    (line,) = captured.err.splitlines()
    assert line.startswith("vispeak-export: ")
    return line


@pytest.mark.parametrize("part", ["vision", "audio"])
def test_a_graph_and_its_account(part: str) -> None:
    file = encoder_path(exported(), part, "onnx")
    sidecar = read_sidecar(file)
    assert (sidecar.part, sidecar.kind, sidecar.precision, sidecar.opset) == (part, "onnx", "fp32", 18)
    assert sidecar.weights_sha256 == weights_sha256(default_model_dir(), part)
    assert sidecar.onnx_sha256 == sidecar.file_sha256 == files_sha256(file, data_path(file))
    assert {"torch", "onnx", "onnxruntime"} <= sidecar.versions.keys()
    found = sidecar.validation
    assert found.status == "passed" and found.num_inputs == 20 and found.num_not_finite == 0
    assert found.cosine_min >= 0.9999 and found.max_abs < 1e-3
    # on the demo clip: 14 frames are scored, the same words are said at the same times
    assert found.num_decisions == 14 and found.decision_agreement == 1.0 and found.same_replies
    assert found.max_score_difference < 1e-4


@needs_rtx
@pytest.mark.parametrize("part", ["vision", "audio"])
def test_an_engine_and_its_account(part: str) -> None:
    graph, sidecar = (read_sidecar(encoder_path(engines(), part, kind)) for kind in ("onnx", "tensorrt_rtx"))
    file = encoder_path(engines(), part, "tensorrt_rtx")
    assert sidecar.kind == "tensorrt_rtx" and sidecar.gpu == "none"  # it is for any GPU that the toolkit knows
    assert sidecar.onnx_sha256 == graph.onnx_sha256 and sidecar.file_sha256 == files_sha256(file)
    assert sidecar.profile == (1, 1, 8) and sidecar.build_seconds > 0
    assert sidecar.graph_validation == graph.validation
    assert sidecar.validation.status == ("not run: the machine that built it has no GPU") or torch.cuda.is_available()
    assert file.stat().st_size > 100_000


def test_an_engine_needs_a_graph_of_this_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refuse(capsys, "engine", "--out", tmp_path)
    assert "vision.onnx: no such file; make it with: vispeak-export onnx" in line
    other = tmp_path / "other"
    model = load_model(default_model_dir())
    model.model.mm_projector[0].bias += 1
    save_checkpoint(model, other)
    shutil.copy(default_model_dir() / "tokenizer.json", other)
    line = refuse(capsys, "engine", "--model", other, "--out", exported(), "--part", "vision")
    assert "other weights" in line and "vispeak-export onnx --model" in line


def test_a_failed_validation_is_1_and_builds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vispeak_export.validation.LEAST_COSINE", {"fp32": 2.0, "fp16": 2.0})
    monkeypatch.setattr(engine, "choose_toolkit", lambda _: None)  # whatever is installed here
    words = ["all", "--out", str(tmp_path), "--part", "audio", "--inputs", "2"]
    assert main(words) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("validation failed")
    assert not encoder_path(tmp_path, "audio", "tensorrt_rtx").exists()
    assert json.loads((tmp_path / "audio.onnx.json").read_text())["validation"]["status"] == "failed"


def test_what_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "is_installed", lambda _: False)
    line = refuse(capsys, "engine", "--model", default_model_dir(), "--out", exported())
    assert "pip install tensorrt-rtx" in line and "pip install tensorrt " in line
    line = refuse(capsys, "all", "--out", tmp_path / "half")
    assert "`vispeak-export onnx` writes the graphs alone" in line and not (tmp_path / "half").exists()
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    assert "vispeak_node[export]" in refuse(capsys, "onnx", "--out", tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_tensorrt_builds_on_a_gpu_only(capsys: pytest.CaptureFixture[str]) -> None:
    line = refuse(capsys, "engine", "--out", exported(), "--toolkit", "tensorrt")
    assert "use tensorrt_rtx" in line


@pytest.mark.parametrize("words", [(), ("nonsense",), ("onnx",), ("onnx", "--out", "x", "--precision", "int3")])
def test_wrong_usage_is_one_line(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--help" in refuse(capsys, *words)


@pytest.mark.parametrize("words", [("--max-batch", 0), ("--max-batch", 100_000), ("--inputs", 1)])
def test_sizes_are_bounded(words: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "must be" in refuse(capsys, "onnx", "--out", tmp_path, *words)
    assert not list(tmp_path.iterdir())


@needs_rtx
def test_a_build_can_be_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes while the builder is in its own code; it must end the build, and leave no engine."""
    file = tmp_path / "audio.engine"

    class Impatient(BuildProgress):
        def step(self, phase: str, step: int) -> bool:
            self.cancelled = True
            return super().step(phase, step)

    monkeypatch.setattr(engine, "BuildProgress", Impatient)
    toolkit = engine.choose_toolkit("tensorrt_rtx")
    with pytest.raises(KeyboardInterrupt):
        engine.build_engine(toolkit, encoder_path(exported(), "audio", "onnx"), file, 8)
    assert not file.exists()


@needs_rtx
def test_the_back_end_calls_what_the_toolkit_has() -> None:
    """Without a GPU no engine runs; that its calls exist can be said all the same."""
    import tensorrt_rtx as trt

    source = inspect.getsource(TensorRTBackend)
    classes = {"_runtime": trt.Runtime, "_engine": trt.ICudaEngine, "_context": trt.IExecutionContext}
    for attribute, kind in classes.items():
        used = set(re.findall(rf"self\.{attribute}\.(\w+)", source))
        assert used and all(hasattr(kind, name) for name in used), (attribute, used)
    for path in set(re.findall(r"\btrt\.([A-Za-z0-9_.]+)", source)):
        found = trt
        for name in path.split("."):
            found = getattr(found, name)
