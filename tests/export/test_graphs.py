"""Exported graphs say what torch says, and are made of what others can read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnxscript", reason="pip install 'vispeak_node[export]'")
import onnx

from tests.export.exported import exported
from tests.golden.models import recorded_model
from vispeak_export.graphs import AudioGraph, VisionGraph, build_graph, load_graph
from vispeak_export.inputs import frames, seconds_of_sound
from vispeak_export.onnx_file import OPERATORS, check_onnx, write_onnx
from vispeak_export.validation import compare
from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.config import LanguageConfig, ModelConfig
from vispeak_node.model.preprocess import normalise
from vispeak_node.runtime.sidecar import FAILED, PASSED, data_path
from vispeak_node.settings import default_model_dir


def runner(file: Path):
    """ONNX Runtime on one thread, without anything of ours around it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda values: tuple(torch.from_numpy(found) for found in session.run(None, {name: values.numpy()}))


@torch.inference_mode()
def test_a_loaded_graph_is_the_model() -> None:
    """The part that is read alone is bit for bit the encoder of the whole model."""
    model = load_model(default_model_dir())
    pictures = frames(model.config, 4, None)
    embeddings, features = load_graph(default_model_dir(), "vision")(pictures)
    pixels = torch.stack([normalise(picture.numpy()) for picture in pictures])
    assert torch.equal(embeddings, model.encode_images(pixels))
    assert torch.equal(embeddings, model.model.mm_projector(features))
    sound = seconds_of_sound(model.config, 2, None)
    assert torch.equal(load_graph(default_model_dir(), "audio")(sound)[0], model.encode_sound(sound))


@pytest.mark.parametrize(
    ("part", "precision"),
    [("vision", "fp32"), ("audio", "fp32"), pytest.param("vision", "fp16", marks=pytest.mark.slow)],
)
@torch.inference_mode()
def test_onnx_equals_torch(part: str, precision: str, tmp_path: Path) -> None:
    """With the released models' pooling and size of picture, and with chunked attention in the sound's encoder."""
    model = recorded_model(chunk_size=4, left_chunks=1)
    config = model.config
    if part == "vision":
        graph = VisionGraph(config, model.model.vision_tower, model.model.mm_projector)
        inputs, count = frames(config, 4, None), config.tokens_per_image
    else:
        graph = AudioGraph(config, model.model.audio_encoder)
        inputs, count = seconds_of_sound(config, 4, None), config.tokens_per_second
    wanted = graph(inputs)
    if precision == "fp16":
        graph = build_graph(
            config, part
        )  # the recorded model is shared: its weights are copied before they are rounded
        graph.vision_tower.load_state_dict(model.model.vision_tower.state_dict())
        graph.mm_projector.load_state_dict(model.model.mm_projector.state_dict())
        graph.set_precision(precision)
    write_onnx(graph, tmp_path / "x.onnx")
    run = runner(tmp_path / "x.onnx")
    assert wanted[0].shape == (4, count, config.language.hidden_size)
    found = compare(lambda _: wanted, lambda _: run(inputs), inputs[:1], precision)
    assert found.status == PASSED and found.num_not_finite == 0
    assert found.cosine_min >= (0.9999 if precision == "fp32" else 0.999)
    for batch in (1, 3):  # the batch is dynamic
        np.testing.assert_allclose(
            run(inputs[:batch])[0], wanted[0][:batch], atol=2e-4 if precision == "fp32" else 0.05
        )


def test_bfloat16_graphs_are_valid(tmp_path: Path) -> None:
    """ONNX Runtime cannot run them on a CPU, but their types must fit: opset 18 convolves no bfloat16."""
    graph = load_graph(default_model_dir(), "audio")
    graph.set_precision("bf16")
    write_onnx(graph, tmp_path / "x.onnx")
    assert graph.audio_encoder.adpter.project.weight.dtype == torch.bfloat16
    onnx.checker.check_model(str(tmp_path / "x.onnx"), full_check=True)


def test_the_files_tell_nothing_of_this_machine() -> None:
    for path in exported().iterdir():
        content = path.read_bytes()
        assert content
        for secret in (str(Path(__file__).parent.parent), str(exported()), ".py"):
            assert secret.encode() not in content, path.name


@pytest.mark.parametrize(("operator", "domain"), [("Sin", ""), ("Add", "com.microsoft")])
def test_operators_that_tensorrt_may_lack_are_refused(operator: str, domain: str, tmp_path: Path) -> None:
    names = ["x"] if operator == "Sin" else ["x", "x"]
    node = onnx.helper.make_node(operator, names, ["y"], domain=domain)
    tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "graph", tensors[:1], tensors[1:])
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.microsoft", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match=rf"may not have: .*{operator}"):
        check_onnx(tmp_path / "x.onnx")
    assert operator not in OPERATORS or domain


@pytest.mark.parametrize("flaw", ["nan", "turned", "one token"])
def test_validation_notices(flaw: str) -> None:
    values = torch.randn(5, 7, 16, generator=torch.Generator().manual_seed(0))

    def flawed(batch: torch.Tensor) -> tuple[torch.Tensor]:
        found = batch.clone()
        if flaw == "nan":
            found[0, 0, 0] = torch.nan
        elif flaw == "turned":
            found = found.roll(1, dims=1)
        else:
            found[-1, 3] = -found[-1, 3]
        return (found,)

    assert compare(lambda batch: (batch,), lambda batch: (batch * (1 + 1e-6),), values, "fp32").status == PASSED
    found = compare(lambda batch: (batch,), flawed, values, "fp32")
    assert found.status == FAILED
    assert found.num_not_finite == (3 if flaw == "nan" else 0)  # once in each of three batches


@pytest.mark.slow
@torch.inference_mode()
def test_the_full_size_tower(tmp_path: Path) -> None:
    """InternViT-300M's dimensions, random weights, one drawn frame of 448 px."""
    torch.manual_seed(0)
    config = ModelConfig(language=LanguageConfig(num_layers=1))
    graph = build_graph(config, "vision")
    assert sum(weight.numel() for weight in graph.vision_tower.parameters()) > 300e6
    picture = frames(config, 2, None)[:1]
    wanted = graph(picture)
    write_onnx(graph, tmp_path / "full.onnx")
    del graph
    assert data_path(tmp_path / "full.onnx").stat().st_size > 1.3e9
    assert (tmp_path / "full.onnx").stat().st_size < 10e6  # the weights are outside
    found = compare(lambda _: wanted, runner(tmp_path / "full.onnx"), picture, "fp32")
    assert found.status == PASSED
    assert found.cosine_min >= 0.9999
