"""Back ends: the session says the same through each, and what does not fit is refused with the way out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.models import random_model, vocabulary
from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.preprocess import normalise
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.runtime import backends as backends_module
from vispeak_node.runtime.backends import Backends, choose_backends
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.encoders import SegmentEncoder
from vispeak_node.runtime.onnx_backend import OnnxBackend
from vispeak_node.runtime.outputs import ReplyFinished, Score
from vispeak_node.runtime.session import Session
from vispeak_node.runtime.sidecar import (
    Setting,
    Sidecar,
    Validation,
    check_sidecar,
    data_path,
    encoder_path,
    read_sidecar,
    sidecar_path,
)
from vispeak_node.runtime.tensorrt_backend import TensorRTBackend
from vispeak_node.settings import default_model_dir
from vispeak_node.stream.events import SoundEvent

WEIGHTS = "a" * 64
GPU = "NVIDIA Thor (sm_110)"
PASSED = Validation("passed", 32, "noise", 1.0, 1.0)


def sidecar_for(file: Path, **changes: object) -> Sidecar:
    """The account of an engine that fits `HERE`, beside a file of four bytes."""
    file.write_bytes(b"plan")
    made = Sidecar(
        part="vision",
        kind="tensorrt",
        precision="fp16",
        weights_sha256=WEIGHTS,
        onnx_sha256="b" * 64,
        file_sha256=hashlib.sha256(b"plan").hexdigest(),
        opset=18,
        input_shape=(448, 448, 3),
        max_batch=4,
        profile=(1, 1, 4),
        gpu=GPU,
        versions={"tensorrt": "10.3.0"},
        build_seconds=1.0,
        validation=PASSED,
    )
    return dataclasses.replace(made, **changes)


def setting(**changes: object) -> Setting:
    return dataclasses.replace(Setting(Path("my models/big"), WEIGHTS, GPU, {"tensorrt": "10.3.0"}), **changes)


# --- sidecars


def test_what_fits_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "vision.engine"
    sidecar = sidecar_for(file)
    sidecar.write(file)
    assert read_sidecar(file) == sidecar
    check_sidecar(sidecar, file, "vision", setting())
    anywhere = sidecar_for(file, kind="tensorrt_rtx", gpu="none", versions={"tensorrt_rtx": "1.7"})
    check_sidecar(anywhere, file, "vision", setting(versions={"tensorrt_rtx": "1.7"}))


@pytest.mark.parametrize(
    ("sidecar_changes", "setting_changes", "reason", "step"),
    [
        ({"part": "audio"}, {}, "it is the audio encoder, not the vision encoder", "all"),
        ({}, {"weights_sha256": "c" * 64}, "other weights or settings", "all"),
        ({"validation": Validation("failed", 32, cosine_min=0.5)}, {}, r"validation failed \(cosine 0\.5", "all"),
        ({}, {"versions": {"tensorrt": "11.4.0"}}, r"built by TensorRT 10\.3\.0, here is TensorRT 11\.4\.0", "engine"),
        ({}, {"versions": {}}, "here is TensorRT none", "engine"),
        (
            {"kind": "tensorrt_rtx", "versions": {"tensorrt_rtx": "1.6"}},
            {"versions": {"tensorrt_rtx": "1.7"}},
            r"built by TensorRT-RTX 1\.6, here is TensorRT-RTX 1\.7",
            "engine",
        ),
        ({}, {"gpu": "NVIDIA Orin (sm_87)"}, r"built for NVIDIA Thor \(sm_110\), here is NVIDIA Orin", "engine"),
        ({}, {"gpu": "none"}, "here is none", "engine"),
        ({"file_sha256": "0" * 64}, {}, "cut off or replaced", "engine"),
    ],
)
@pytest.mark.parametrize("graph_is_there", [True, False])
def test_what_does_not_fit_is_refused(
    sidecar_changes: dict, setting_changes: dict, reason: str, step: str, graph_is_there: bool, tmp_path: Path
) -> None:
    """One line with the reason and a command; the graph is made anew only where it must be."""
    file = tmp_path / "vision.engine"
    sidecar = sidecar_for(file, **sidecar_changes)
    if graph_is_there:
        encoder_path(tmp_path, "vision", "onnx").touch()
    with pytest.raises(ValueError, match=reason) as caught:
        check_sidecar(sidecar, file, "vision", setting(**setting_changes))
    line = str(caught.value)
    assert "\n" not in line and line.startswith(str(file))
    step = step if graph_is_there else "all"
    precision = "" if step == "engine" else " --precision fp16"
    assert line.endswith(
        f"vispeak-export {step} --model 'my models/big' --out {tmp_path} --part vision{precision} --max-batch 4"
    )


def test_the_command_of_a_refusal_is_a_command(tmp_path: Path) -> None:
    """The exporter itself understands what the refusal tells to run."""
    pytest.importorskip("vispeak_export")
    import shlex

    from vispeak_export.cli import _build_parser

    for kind in ("onnx", "tensorrt"):
        file = tmp_path / "vision.engine"
        with pytest.raises(ValueError, match="other weights") as caught:
            check_sidecar(sidecar_for(file, kind=kind), file, "vision", setting(weights_sha256="c" * 64))
        args = _build_parser().parse_args(shlex.split(str(caught.value).partition("vispeak-export ")[2]))
        assert (args.model, args.out, args.part) == (Path("my models/big"), tmp_path, "vision")
        assert (args.step, args.precision, args.max_batch) == ("onnx" if kind == "onnx" else "all", "fp16", 4)


def test_no_sidecar_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"vision\.engine\.json is missing"):
        read_sidecar(tmp_path / "vision.engine")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [field.name for field in dataclasses.fields(Sidecar)]


@settings(deadline=None, max_examples=150)
@given(name=st.sampled_from(FIELDS), value=JSON, nested=st.booleans())
def test_a_damaged_sidecar_is_one_line(
    name: str, value: object, nested: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever stands in a field, reading and checking end well or with a ValueError."""
    file = tmp_path_factory.getbasetemp() / "vision.engine"
    raw = dataclasses.asdict(sidecar_for(file))
    if nested:
        raw["validation"] = {"status": value, name: value}
    else:
        raw[name] = value
    sidecar_path(file).write_text(json.dumps(raw))
    try:
        check_sidecar(read_sidecar(file), file, "vision", setting())
    except ValueError as error:
        assert "vision.engine" in str(error)


# --- back ends


@torch.inference_mode()
def test_the_torch_back_end_is_the_model() -> None:
    """Normalisation on the tower's device gives what the published processor gives, bit for bit."""
    model = random_model()
    frames = np.random.default_rng(0).integers(0, 256, (3, 56, 56, 3), dtype=np.uint8)
    pixels = torch.stack([normalise(frame) for frame in frames])
    embeds, features = Backends.torch(model).encode_images(torch.from_numpy(frames))
    assert torch.equal(embeds, model.encode_images(pixels))
    assert torch.equal(embeds, model.model.mm_projector(features))


class Recorder:
    """A back end that gives constant rows and keeps what it was asked."""

    name = "recorder"

    def __init__(self, *outputs: torch.Tensor) -> None:
        self.outputs, self.asked = outputs, []

    def run(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.asked.append(inputs)
        return self.outputs


@torch.inference_mode()
def test_segments_come_through_the_back_ends() -> None:
    model = random_model()
    vision = Recorder(torch.full((1, 4, 32), 3.0), torch.full((1, 4, 64), 5.0))
    audio = Recorder(torch.full((1, 12, 32), 7.0))
    encoder = SegmentEncoder(model, vocabulary(), 10, Backends(vision, audio))
    from tests.runtime.test_session import image_event

    rows = encoder.segment(image_event(0)).user_TD
    assert (rows[:-1] == 3).all() and rows.shape == (5, 32)
    assert vision.asked[0].dtype == torch.uint8 and vision.asked[0].shape == (1, 56, 56, 3)
    rows = encoder.segment(SoundEvent(0, np.zeros(16_000, np.float32))).user_TD
    assert (rows[:-1] == 7).all()
    assert audio.asked[0].shape == (1, 98, 80)


def test_names_and_folders_are_checked(tmp_path: Path) -> None:
    model, folder = random_model(), default_model_dir()
    with pytest.raises(ValueError, match="vision_backend 'cuda' is unknown; use auto, torch, onnx, tensorrt"):
        choose_backends(model, folder, vision="cuda")
    with pytest.raises(ValueError, match=r"onnx back end needs a folder of exported encoders.*vispeak-export all"):
        choose_backends(model, folder, audio="onnx")
    with pytest.raises(ValueError, match="no such folder; make one with"):
        choose_backends(model, folder, tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"vision\.engine: no such file; make it with: vispeak-export all"):
        choose_backends(model, folder, tmp_path, vision="tensorrt")
    chosen = choose_backends(model, folder, tmp_path)  # an empty folder: nothing better than torch
    assert chosen.vision.name.startswith("torch (cpu, float32)")


def test_an_engine_needs_a_gpu(tmp_path: Path) -> None:
    file = tmp_path / "vision.engine"
    with pytest.raises(ValueError, match="runs on an NVIDIA GPU, not on cpu; use --device cuda"):
        TensorRTBackend(file, sidecar_for(file), torch.device("cpu"), torch.float32)


def test_auto_prefers_engines_on_a_gpu_and_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that is refused costs a warning with the command, not the robot's start."""
    made = []
    monkeypatch.setattr(backends_module, "TensorRTBackend", lambda *a: made.append(a) or SimpleNamespace(name="engine"))
    monkeypatch.setattr(backends_module, "torch_encoder", lambda *_: SimpleNamespace(name="torch"))
    monkeypatch.setattr(backends_module, "is_installed", lambda _: True)
    monkeypatch.setattr(backends_module, "setting_here", lambda *_: setting())
    model = SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16)
    file = tmp_path / "vision.engine"
    sidecar_for(file).write(file)
    choose = partial(backends_module._choose, graphs="auto")
    assert choose(model, Path("x"), tmp_path, "vision", "auto").name == "engine"
    assert made[0][2:] == (torch.device("cuda"), torch.bfloat16)
    assert choose(model, Path("x"), tmp_path, "vision", "torch").name == "torch"
    sidecar_for(file, gpu="NVIDIA Orin (sm_87)").write(file)
    with caplog.at_level(logging.WARNING):
        assert choose(model, Path("x"), tmp_path, "vision", "auto").name == "torch"
    assert "vispeak-export all" in caplog.text
    with pytest.raises(ValueError, match="built for NVIDIA Orin"):
        choose(model, Path("x"), tmp_path, "vision", "tensorrt")


# --- exported encoders


def exported_copy(folder: Path) -> Path:
    pytest.importorskip("onnxscript", reason="pip install 'vispeak_node[export]'")
    from tests.export.exported import exported

    return shutil.copytree(exported(), folder / "engines")


def listen(backends: Backends, model, events) -> tuple[list, np.ndarray]:
    words = Vocabulary.from_folder(default_model_dir())
    session = Session(model, words, SessionConfig(), backends)
    outputs = [output for event in events for output in session.push(event)] + session.finish()
    replies = [(o.start, o.end, o.text, o.token_ids) for o in outputs if isinstance(o, ReplyFinished)]
    return replies, np.array([(o.stamp, o.fired, o.score, o.total) for o in outputs if isinstance(o, Score)])


def test_the_session_says_the_same_through_onnx(tmp_path: Path) -> None:
    """Over the demo clip, with both encoders as graphs: the same words at the same times, scores within 1e-5."""
    from vispeak_export.inputs import clip_events

    model = load_model(default_model_dir())
    chosen = choose_backends(model, default_model_dir(), exported_copy(tmp_path))
    assert chosen.vision.name.startswith("onnx (CPU, fp32") and chosen.audio.name.startswith("onnx")
    events = clip_events(default_model_dir() / "demo.mp4")
    replies, scores = listen(chosen, model, events)
    expected_replies, expected = listen(Backends.torch(model), model, events)
    assert len(replies) >= 2 and replies == expected_replies
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


def test_a_damaged_graph_is_refused(tmp_path: Path) -> None:
    model, folder = load_model(default_model_dir()), exported_copy(tmp_path)
    file = encoder_path(folder, "audio", "onnx")
    data_path(file).write_bytes(data_path(file).read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"cut off or replaced.*vispeak-export onnx .* --part audio --precision fp32"):
        choose_backends(model, default_model_dir(), folder, audio="onnx")
    assert choose_backends(model, default_model_dir(), folder).audio.name.startswith("torch")
    data_path(file).unlink()
    with pytest.raises(ValueError, match=r"audio\.onnx\.data: cannot be read.*vispeak-export onnx"):
        choose_backends(model, default_model_dir(), folder, audio="onnx")


def test_only_one_second_of_sound_fits_a_graph(tmp_path: Path) -> None:
    model = load_model(default_model_dir())
    chosen = choose_backends(model, default_model_dir(), exported_copy(tmp_path), audio="onnx")
    assert isinstance(chosen.audio, OnnxBackend)
    assert chosen.encode_sound(torch.zeros(3, 98, 80)).shape == (3, 12, 192)
    with pytest.raises(ValueError, match=r"audio encoder takes inputs of \[98, 80\], not \[50, 80\]"):
        chosen.encode_sound(torch.zeros(1, 50, 80))


def test_auto_keeps_half_precision_graphs_off_the_cpu(tmp_path: Path) -> None:
    model, folder = load_model(default_model_dir()), exported_copy(tmp_path)
    file = encoder_path(folder, "vision", "onnx")
    dataclasses.replace(read_sidecar(file), precision="fp16").write(file)
    assert choose_backends(model, default_model_dir(), folder).vision.name.startswith("torch")
    assert choose_backends(model, default_model_dir(), folder, vision="onnx").vision.name.startswith("onnx")
