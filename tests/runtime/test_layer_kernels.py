"""Fused layers: what torch's layers compute, over rings in every state; on a CPU through Triton's interpreter."""

import pytest
import torch

from tests.golden.models import random_model
from tests.runtime.triton_interpreter import needs_triton, run_interpreted
from vispeak_node.model.config import AudioConfig, LanguageConfig, ModelConfig, VisionConfig
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime import layer_kernels
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.fused_layers import FusedLayers, fused_layers
from vispeak_node.runtime.graphs import StaticPass, StaticPasses, _captured
from vispeak_node.runtime.quantise import quantise
from vispeak_node.runtime.requests import PassRequest
from vispeak_node.runtime.ring import Budget, Part, RingCache, Unit

LANGUAGE = LanguageConfig(512, 96, 80, 2, 6, 2)  # heads of 16, three queries to a key
SIZES = (1, 4, 18)  # of passes
SHAPES = [LANGUAGE, LanguageConfig(512, 128, 80, 1, 4, 4), LanguageConfig(512, 64, 80, 1, 1, 1)]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def make_model():
    """Random weights with larger key and query maps, so that attention is far from uniform."""
    torch.manual_seed(0)
    vision = VisionConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16)
    audio = AudioConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16)
    model = ViSpeakModel(ModelConfig(vision, audio, LANGUAGE)).eval().requires_grad_(False)
    for layer in model.model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            projection.weight.mul_(4)
            projection.bias.normal_()
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            norm.weight.uniform_(0.5, 1.5)
    return model


def distance(model, start, make=None):
    """The largest difference over two wraps of a ring: segments, replies, and forks that are taken back.

    Args:
        model: its layers are fused in one of two rings.
        start: position of the first row.
        make: passes of some sizes over a ring by a way through the layers; static ones by default.
    """
    make = make or (lambda ring, way: [StaticPass(model, ring, size, way) for size in SIZES])
    worst, generator = 0.0, torch.Generator().manual_seed(2)
    budget = Budget(pinned=240, window=40, replies=4, temporary=10, span=400)
    rings = [RingCache(model.config.language, budget, model.dtype, model.device) for _ in range(2)]
    ways = [FusedLayers(model, rings[0]), None]
    passes = [StaticPasses(model, make(ring, way)) for ring, way in zip(rings, ways, strict=True)]
    units = {Part.REPLY: [Unit(Part.REPLY) for _ in rings]}
    for ring in rings:
        ring.clear(start)
    plan = [(Part.PINNED, 240), *[(Part.WINDOW, 17), (Part.REPLY, 1), (Part.REPLY, 1), (Part.TEMPORARY, 3)] * 4]
    for part, count in plan:
        rows_TD = torch.randn(count, model.config.language.hidden_size, generator=generator)
        rows_TD = rows_TD.to(model.device, model.dtype)
        found = []
        for index, ring in enumerate(rings):
            unit, before = units.get(part, [Unit(part)] * 2)[index] if part in units else Unit(part), ring.next_position
            first = ring.place([(unit, count)], evict=part is not Part.TEMPORARY)
            found.append(passes[index](PassRequest(rows_TD, first, ring, min(2, count))))
            if part is Part.TEMPORARY:
                ring.discard(unit)
                ring.rewind(before)
        worst = max(worst, float((found[0] - found[1]).float().norm() / found[1].float().norm()))
    assert rings[0].num_left > 3 and len(rings[0]) > 256, "several pieces"
    return worst


def interpreted():
    """Runs in a process whose Triton interprets."""
    device = torch.device("cpu")
    for language in SHAPES:
        for rows in (1, 2, 23):
            assert layer_kernels.agrees(device, torch.float32, language, rows), (language, rows)
    assert layer_kernels.agrees(device, torch.float16, LANGUAGE, 13)  # the interpreter has no products of bfloat16
    model = make_model()
    assert distance(model, 0) < 1e-5
    quantise(model, "int8")
    assert distance(model, 100_000_000) < 1e-5


@needs_triton
def test_fused_layers_interpreted():
    """Blocks' edges, odd sizes, several pieces of the cache, some of which nobody sees; plain and quantised weights."""
    program = "import torch\nfrom tests.runtime import test_layer_kernels, test_merged_linear\n"
    program += "with torch.inference_mode(): test_layer_kernels.interpreted(), test_merged_linear.interpreted()"
    run_interpreted(program)


def test_torch_is_the_way_where_kernels_do_not_run():
    model = make_model()
    ring = RingCache(LANGUAGE, Budget(5, 24, 8, 10, 60))
    assert fused_layers(model, ring, "auto") is None, "there is no GPU under this model"
    assert not layer_kernels.supports(random_model().config.language), "heads of 8 are too narrow"
    with pytest.raises(ValueError, match="kernels 'always' is unknown"):
        SessionConfig(kernels="always")


@needs_gpu
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.float16, 5e-3), (torch.bfloat16, 3e-2)])
def test_fused_layers_on_a_gpu(dtype, bound):
    device = torch.device("cuda")
    if layer_kernels.triton is None:
        pytest.skip("Triton is not installed")
    assert layer_kernels.works(device, dtype, LANGUAGE), "Triton is installed and does not run"
    model = make_model().to(device, dtype)
    with torch.inference_mode():
        assert distance(model, 0) < bound
        assert distance(model, 0, lambda ring, way: _captured(model, ring, SIZES, way)) < bound
