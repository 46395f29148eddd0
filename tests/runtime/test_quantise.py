"""Quantised weights: small, close to what they were, one product whatever the kernel, the same decisions."""

import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.golden.models import random_model
from tests.runtime.triton_interpreter import needs_triton, run_interpreted
from vispeak_node.commands.clip import Clip
from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.config import AudioConfig, LanguageConfig, ModelConfig, VisionConfig
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime import weight_kernels
from vispeak_node.runtime.outputs import ReplyFinished, Score
from vispeak_node.runtime.quantise import check_fp8, quantise
from vispeak_node.runtime.quantised_linear import (
    Fp8Linear,
    Int4Linear,
    Int8Linear,
    QuantisedLinear,
    quantise_groups,
)
from vispeak_node.runtime.session import Session

TINY = Path(__file__).parents[2] / "models/vispeak-tiny"
MOST_ERROR = {"int8": 0.012, "int4": 0.11}  # of normally distributed weights, relative


def make_model(hidden=896, intermediate=4736, layers=1, heads=7, dtype=torch.bfloat16):
    """A layer with the released model's proportions, at a quarter of its width."""
    torch.manual_seed(0)
    config = ModelConfig(
        VisionConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, image_size=56),
        AudioConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16),
        LanguageConfig(2700, hidden, intermediate, layers, heads, 1),
        event_labels=("none", "visual_wake_up/wave"),
    )
    return ViSpeakModel(config).to(dtype).eval().requires_grad_(False)


def linear_of(n, k, dtype, seed=0, bias=True):
    torch.manual_seed(seed)
    return nn.Linear(k, n, bias=bias).to(dtype).requires_grad_(False)


def relative(a, b):
    return ((a.float() - b.float()).norm() / b.float().norm()).item()


@pytest.mark.parametrize(("weights", "most"), [("int8", 0.52), ("int4", 0.32)])
def test_bytes_of_realistic_layers(weights, most):
    model = make_model()
    before = {name: tensor.nbytes for name, tensor in model.state_dict().items()}
    report = quantise(model, weights)
    names = [f"{name}.{kind}" for name in report.linears for kind in ("weight", "bias")]
    assert report.linear_bytes_before == sum(before.get(name, 0) for name in names)
    stored = [t for m in model.modules() if isinstance(m, QuantisedLinear) for t in (*m.buffers(), *m.parameters())]
    assert report.linear_bytes_after == sum(t.untyped_storage().nbytes() for t in stored)
    assert report.ratio <= most
    saved = report.linear_bytes_before - report.linear_bytes_after
    assert report.model_bytes_before - report.model_bytes_after == saved


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_hidden_states_stay_close(weights, dtype):
    model = make_model(256, 512, 2, 2, dtype)
    rows = torch.randn(1, 40, 256).to(dtype)
    before = model.forward_embeds(rows)
    quantise(model, weights)
    assert (model.dtype, model.device) == (dtype, torch.device("cpu"))
    after = model.forward_embeds(rows)
    assert after.dtype == dtype
    assert 0 < relative(after, before) < {"int8": 0.03, "int4": 0.2}[weights]


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["int8", "none", "torch"]),
    rows=st.sampled_from([1, 5, 32, 33, 78]),
    n=st.sampled_from([16, 48, 1040]),
    k=st.sampled_from([64, 192]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    bias=st.booleans(),
)
def test_every_kernel_multiplies_what_is_stored(kind, rows, n, k, dtype, bias):
    dtype = torch.bfloat16 if kind == "torch" else dtype
    linear = linear_of(n, k, dtype, bias=bias)
    packed = Int8Linear(linear) if kind == "int8" else Int4Linear(linear, 64, kind)
    x = torch.randn(2, rows, k).to(dtype)
    wanted = x.float() @ packed.wide().float().t() + (linear.bias.float() if bias else 0)
    assert relative(packed(x), wanted) < (1e-5 if dtype == torch.float32 else 0.01)
    assert relative(packed.wide(), linear.weight) < MOST_ERROR["int8" if kind == "int8" else "int4"]


def test_both_int4_layouts_hold_the_same_weights():
    linear = linear_of(48, 192, torch.bfloat16)
    assert relative(Int4Linear(linear, 64, "torch").wide(), Int4Linear(linear, 64, "none").wide()) < 0.005


def test_an_outlier_spoils_its_own_group_only():
    weight = torch.randn(4, 256)
    weight[1, 130] = 1000.0
    codes, scales = quantise_groups(weight, 64)
    wide = (codes.float().unflatten(1, (-1, 64)) - 8) * scales.transpose(0, 1)[..., :1] + scales.transpose(0, 1)[
        ..., 1:
    ]
    error = (wide.flatten(1) - weight).norm(dim=1) / weight.norm(dim=1)
    calm = torch.ones(4, 256, dtype=torch.bool)
    calm[1, 128:192] = False
    assert relative(wide.flatten(1)[calm], weight[calm]) < MOST_ERROR["int4"]
    assert error[1] < 0.05  # the outlier itself is kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_zeros_constants_and_large_inputs_stay_finite(dtype):
    linear = linear_of(16, 128, dtype, bias=False)
    linear.weight[0], linear.weight[1] = 0.0, 0.01
    linear.weight[2] *= 1e-3
    x = torch.full((1, 128), 100.0, dtype=dtype)
    for packed in (Int8Linear(linear), Int4Linear(linear, 128)):
        assert packed(x).isfinite().all()
        assert packed.wide()[0].float().abs().max() < 1e-8
        assert relative(packed.wide()[1], linear.weight[1]) < 0.01
        assert relative(packed.wide()[2], linear.weight[2]) < 0.12


def test_groups_are_the_largest_that_divide_and_int8_takes_the_rest():
    model = make_model(192, 352, 1, 3)  # 192 = 3 x 64, 352 = 11 x 32
    assert quantise(model, "int4").linears == {
        **{f"model.layers.0.self_attn.{name}_proj": "int4, groups of 64" for name in "qkvo"},
        "model.layers.0.mlp.gate_proj": "int4, groups of 64",
        "model.layers.0.mlp.up_proj": "int4, groups of 64",
        "model.layers.0.mlp.down_proj": "int4, groups of 32",
        "lm_head": "int8, a scale per row",
    }
    odd = quantise(make_model(120, 128, 1, 3), "int4").linears  # 120 is no multiple of 32
    assert odd["model.layers.0.mlp.up_proj"] == "int8, a scale per row"
    assert odd["model.layers.0.mlp.down_proj"] == "int4, groups of 128"


def test_what_is_left_is_untouched_and_named():
    model = make_model(256, 512, 1, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = quantise(model, "int4")
    after = model.state_dict()
    for name, tensor in before.items():
        layer = name.rpartition(".")[0]
        if layer in report.linears:
            continue
        assert torch.equal(after[name], tensor)
        assert any(name.startswith(part + ".") for part in report.left) or "norm" in name, name
    assert {"model.embed_tokens", "model.combination", "informative_head", "event_head"} <= report.left.keys()
    text = "\n".join(report.lines())
    assert "7 layers int4, groups of 128" in text
    assert "left as it is: model.combination" in text


def test_layers_are_packed_one_after_the_other(monkeypatch):
    model = make_model(256, 512, 3, 2)
    wide = [weakref.ref(m.weight) for m in model.model.layers.modules() if isinstance(m, nn.Linear)]
    alive = []

    class Watched(Int8Linear):
        def __init__(self, linear, triton=False):
            alive.append(sum(reference() is not None for reference in wide))
            super().__init__(linear, triton)

    monkeypatch.setattr("vispeak_node.runtime.quantise.Int8Linear", Watched)
    quantise(model, "int8")
    assert alive == [*range(len(wide), 0, -1), 0]  # the last is lm_head
    assert not any(reference() is not None for reference in wide)


def test_nothing_asked_nothing_done():
    model = random_model()
    before = list(model.modules())
    report = quantise(model, "")
    assert list(model.modules()) == before
    assert (report.ratio, report.model_bytes_after) == (1.0, report.model_bytes_before)
    assert len(list(report.lines())) == 1


def test_errors_name_the_way_out():
    model = random_model()
    with pytest.raises(ValueError, match=r"'int3' is unknown; use one of int8, int4, fp8"):
        quantise(model, "int3")
    with pytest.raises(ValueError, match=r"fp8 needs an NVIDIA GPU .* not cpu: use weights int8 or int4") as caught:
        quantise(model, "fp8")
    assert "\n" not in str(caught.value)
    assert isinstance(model.lm_head, nn.Linear)
    quantise(model, "int8")
    with pytest.raises(ValueError, match="quantised already; load it anew"):
        quantise(model, "int4")


def test_fp8_product():
    """The layer's arithmetic, where this torch emulates it on the CPU; 40 rows of weights are padded to 48."""
    linear = linear_of(40, 64, torch.bfloat16)
    packed = Fp8Linear(linear)
    assert packed.num_bytes <= 48 * 64 + 48 * 4 + 40 * 2
    assert relative(packed.wide(), linear.weight) < 0.04
    x = torch.randn(5, 64).bfloat16()
    try:
        y = packed(x)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"torch {torch.__version__} does not emulate it: {error}")
    assert y.shape == (5, 40)
    assert relative(y, linear(x)) < 0.06


@pytest.fixture(scope="module")
def demo():
    """The shipped clip's events, and scores and replies of the shipped model without quantising."""
    events = list(Clip(TINY / "demo.mp4").events())
    return events, watch(events, "")


def watch(events, weights):
    model = load_model(TINY)
    quantise(model, weights)
    session = Session(model, Vocabulary.from_folder(TINY))
    outputs = [output for event in events for output in session.push(event)] + session.finish()
    scores = [output for output in outputs if isinstance(output, Score)]
    return scores, [output for output in outputs if isinstance(output, ReplyFinished)]


@pytest.mark.parametrize(("weights", "most"), [("int8", 0.01), ("int4", 0.15)])
def test_the_demo_gets_the_same_decisions(demo, weights, most):
    events, (wanted_scores, wanted_replies) = demo
    scores, replies = watch(events, weights)
    assert sum(score.fired for score in wanted_scores) == 2, "somebody waves, and is hit by a ball"
    assert [(score.stamp, score.fired) for score in scores] == [(score.stamp, score.fired) for score in wanted_scores]
    differences = [abs(a.score - b.score) for a, b in zip(scores, wanted_scores, strict=True)]
    assert 0 < max(differences) < most
    assert [reply.event_label for reply in replies] == [reply.event_label for reply in wanted_replies]
    if weights == "int8":
        assert [reply.text for reply in replies] == [reply.text for reply in wanted_replies]


INTERPRETED = """
import torch
from vispeak_node.runtime import weight_kernels
from vispeak_node.runtime.quantised_linear import Int4Linear, Int8Linear
torch.manual_seed(0)
for n, k, group in ((40, 256, 128), (48, 192, 64), (33, 96, 32)):
    linear = torch.nn.Linear(k, n, bias=False).half().requires_grad_(False)
    int8, int4 = Int8Linear(linear), Int4Linear(linear, group)
    for rows in (1, 17, 78, 130):
        x = torch.randn(rows, k).half()
        products = (
            (weight_kernels.multiply_int8(x, int8.codes_NK, int8.scales_N), x @ int8.wide().t()),
            (weight_kernels.multiply_int4(x, int4.codes, int4.scales_GN2, group), x @ int4.wide().t()),
        )
        for found, wanted in products:
            assert found.shape == wanted.shape
            assert (found - wanted).norm() < 0.005 * wanted.norm(), (n, k, rows)
"""


@needs_triton
def test_triton_kernels_interpreted():
    """The kernels' index arithmetic, on the CPU: edges of blocks, odd sizes, both halves of a byte."""
    run_interpreted(INTERPRETED)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("weights", ["int8", "int4", "fp8"])
def test_cuda_multiplies_what_is_stored(weights):
    device = torch.device("cuda")
    if weights == "fp8":
        try:
            check_fp8(device)
        except ValueError as error:
            pytest.skip(str(error))
    elif weight_kernels.triton is not None:
        assert weight_kernels.works(device, torch.bfloat16), "Triton is installed and does not run"
    model = make_model().to(device)
    report = quantise(model, weights)
    assert report.ratio <= {"int8": 0.52, "int4": 0.32, "fp8": 0.52}[weights]
    for module in (model.lm_head, *model.model.layers[0].mlp.children()):
        for rows in (1, 16, 78, 300):
            x = torch.randn(rows, module.in_features, device=device).bfloat16()
            wanted = x.float() @ module.wide().float().t()
            assert relative(module(x), wanted) < (0.05 if weights == "fp8" else 0.01)
