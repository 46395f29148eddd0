"""Passes of fixed sizes: equal to the plain pass whatever lies in the ring, and always at the same addresses."""

import dataclasses
import random
import warnings
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.models import random_model, vocabulary
from tests.runtime.devices import NothingOfTheHost
from tests.runtime.likeness import assert_alike
from tests.runtime.test_recogniser import with_head
from tests.runtime.test_ring import model as steep_model
from tests.runtime.test_session import image_event, make_event, model, prefer, run_session
from vispeak_node.runtime import graphs as graphs_module
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.graphs import SIZES, StaticPass, StaticPasses, static_passes
from vispeak_node.runtime.outputs import ReplyFinished
from vispeak_node.runtime.passes import run_alone
from vispeak_node.runtime.requests import PassRequest
from vispeak_node.runtime.ring import Budget, Part, RingCache, Unit
from vispeak_node.runtime.session import Session

__all__ = ["model", "steep_model"]  # fixtures

BUDGET = Budget(pinned=5, window=24, replies=8, temporary=10, span=60)


class Rings:
    """The same passes over two rings, one by static passes and one by plain ones."""

    def __init__(self, model, start=0, sizes=(1, 4, 16)):
        self.model = model
        self.rings = [RingCache(model.config.language, BUDGET) for _ in range(2)]
        for ring in self.rings:
            ring.clear(start)
        self.static = [StaticPass(model, self.rings[0], size) for size in sizes]
        self.passes = StaticPasses(model, self.static)
        self.generator = torch.Generator().manual_seed(2)
        self.worst, self.used = 0.0, 0

    def read(self, units, count, wanted, evict=True):
        rows = torch.randn(count, self.model.config.language.hidden_size, generator=self.generator)
        wanted = min(wanted, count)
        starts = [ring.place([(unit, count)], evict) for ring, unit in zip(self.rings, units, strict=True)]
        ours = self.passes(PassRequest(rows, starts[0], self.rings[0], wanted))
        theirs = run_alone(self.model, PassRequest(rows, starts[1], self.rings[1], wanted))
        assert ours.shape == theirs.shape == (wanted, rows.shape[1])
        self.worst = max(self.worst, float((ours - theirs).abs().max()))
        self.used += count <= self.static[-1].size and wanted <= 2

    def fork(self, count):
        units, before = [Unit(Part.TEMPORARY), Unit(Part.TEMPORARY)], self.rings[0].next_position
        self.read(units, count, 1, evict=False)
        for ring, unit in zip(self.rings, units, strict=True):
            ring.discard(unit)
            ring.rewind(before)


@pytest.mark.parametrize("start", [0, 100_000_000])
def test_static_passes_equal_plain_ones(steep_model, start):
    """Over four wraps of the ring, with replies, forks that are taken back, and passes too long for any size."""
    dice = random.Random(start)
    with torch.inference_mode():
        rings = Rings(steep_model, start)
        rings.read([Unit(Part.PINNED), Unit(Part.PINNED)], 5, 1)
        for _ in range(30):
            count, wanted = dice.choice([1, 3, 4, 7, 16, 18]), dice.choice([1, 2, 20])
            rings.read([Unit(Part.WINDOW), Unit(Part.WINDOW)], count, wanted)
            if dice.random() < 0.3:
                units = [Unit(Part.REPLY), Unit(Part.REPLY)]
                for _ in range(dice.randint(1, 10)):
                    rings.read(units, 1, 1)
            if dice.random() < 0.3:
                rings.fork(dice.randint(1, 10))
    assert rings.rings[0].num_left > 20 and rings.used > 30
    assert rings.worst < 1e-5


def test_nobody_sees_the_scratch_row(steep_model):
    results = []
    for noise in (0.0, 1e4):
        with torch.inference_mode():
            ring = RingCache(steep_model.config.language, BUDGET)
            static = StaticPass(steep_model, ring, 16)
            for layer in range(2):
                for buffer in ring.buffers(layer):
                    buffer[:, :, ring.scratch :] = noise
            rows = torch.randn(7, 32, generator=torch.Generator().manual_seed(1))
            for _ in range(6):
                hidden = static.run(PassRequest(rows, ring.place([(Unit(Part.WINDOW), 7)]), ring, 2))
        results.append(hidden)
    assert torch.equal(*results)


def addresses(static):
    tensors = {name: value for name, value in vars(static).items() if isinstance(value, torch.Tensor)}
    buffers = [buffer for layer in range(2) for buffer in static._ring.buffers(layer)]
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}, [buffer.data_ptr() for buffer in buffers]


def test_inputs_stay_where_they_are(steep_model):
    """What a graph would have captured is still what is filled after the ring has wrapped."""
    with torch.inference_mode():
        rings = Rings(steep_model)
        before = [addresses(static) for static in rings.static]
        assert len(before[0][0]) >= 6
        for count in (1, 4, 7, 16) * 6:
            rings.read([Unit(Part.WINDOW), Unit(Part.WINDOW)], count, 1)
        assert [addresses(static) for static in rings.static] == before


@pytest.mark.parametrize("size", [1, 16])
def test_passes_can_be_captured(size):
    on_device = random_model().to("meta")
    ring = RingCache(on_device.config.language, BUDGET, device="meta")
    static = StaticPass(on_device, ring, size)
    with torch.inference_mode(), NothingOfTheHost():
        assert static._compute().shape == (min(size, 2), on_device.config.language.hidden_size)


@settings(max_examples=20, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["image", "image", "image", "sound", "text"]), min_size=4, max_size=30),
    ahead=st.sampled_from([0, 3, 64]),
    recognition=st.sampled_from(["never", "options"]),
    memory=st.sampled_from(["none", "pyramid"]),
)
def test_a_session_says_the_same_by_static_passes(model, kinds, ahead, recognition, memory):
    """With questions that read remembered frames for a while, forks, wraps, and positions that replies leave over."""
    config = SessionConfig(
        threshold=0.6, refractory=0.0, speak_ahead=ahead, max_reply_tokens=20, max_positions=500, window_positions=50,
        reply_positions=20, recognition=recognition, memory=memory, answer_timeout=4.0, graphs="static",
    )  # fmt: skip
    events = [make_event(kind, second) for second, kind in enumerate(kinds)]
    static = run_session(model, config, events)
    assert_alike(static, run_session(model, dataclasses.replace(config, graphs="never"), events))


def test_static_passes_are_used(model, monkeypatch):
    """The property above would be empty if the plain pass ran."""
    sizes = []
    run = StaticPass.run
    monkeypatch.setattr(StaticPass, "run", lambda self, request: sizes.append(self.size) or run(self, request))
    config = SessionConfig(threshold=0.2, refractory=0.0, graphs="static", recognition="never", speak_ahead=5)
    outputs = run_session(model, config, [make_event(kind, s) for s, kind in enumerate(["image", "sound"] * 4)])
    assert any(isinstance(output, ReplyFinished) for output in outputs)
    assert {1, 16} <= set(sizes) <= {*SIZES, model.config.tokens_per_image + 1}
    sizes.clear()
    run_session(model, SessionConfig(threshold=0.2), [image_event(s) for s in range(4)])
    assert not sizes, "auto is the plain pass where there is no GPU"


@pytest.mark.parametrize(("broken", "found"), [((), "kernels"), (("kernels",), "torch"), (("kernels", "torch"), None)])
def test_what_cannot_be_captured_is_done_without(model, monkeypatch, caplog, broken, found):
    """Kernels that fail cost the kernels; a capture that fails costs the graphs."""

    def captured(_model, _ring, _sizes, fused):
        name = "torch" if fused is None else "kernels"
        if name in broken:
            raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
        return [SimpleNamespace(size=1, name=name)]

    monkeypatch.setattr(graphs_module, "fused_layers", lambda *_: "fused")
    monkeypatch.setattr(graphs_module, "_captured", captured)
    passes = static_passes(SimpleNamespace(device=torch.device("cuda"), config=model.config), None, "auto")
    assert (passes and passes._passes[0].name) == found
    assert len(caplog.records) == len(broken)


class Waits:
    """Counts what would make the host wait for a GPU: values that leave their tensor."""

    def __init__(self, monkeypatch):
        self.count = 0
        for name in ("item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__index__"):
            monkeypatch.setattr(torch.Tensor, name, self.counted(getattr(torch.Tensor, name)))

    def counted(self, method):
        def call(tensor, *args, **keywords):
            self.count += 1
            return method(tensor, *args, **keywords)

        return call


@pytest.mark.parametrize("graphs", ["static", "never"])
@pytest.mark.parametrize("question_pending", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_a_silent_segment_waits_once(model, monkeypatch, graphs, question_pending, labelled):
    """In a ring that has wrapped, whose pinned part moves with every segment; with an event head and a question too."""
    config = SessionConfig(threshold=10.0, max_positions=90, window_positions=20, graphs=graphs)
    session = Session(with_head(model) if labelled else model, vocabulary(), config)
    for second in range(8):
        session.push(image_event(second))
    if question_pending:
        session._question._asked = session._now
    quiet = session.model.lm_head.register_forward_hook(
        lambda _module, _inputs, logits: prefer(logits, vocabulary().pad)
    )
    event = image_event(8)
    waits = Waits(monkeypatch)
    try:
        outputs = session.push(event)
    finally:
        quiet.remove()
        monkeypatch.undo()
    assert len(outputs) == 1 and session.num_left > 2
    assert waits.count == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_graphs_equal_the_passes_they_were_captured_from(model):
    kinds = ["image", "sound", "image", "text", "image"] * 8
    events = [make_event(kind, second) for second, kind in enumerate(kinds)]
    config = SessionConfig(
        threshold=0.6, refractory=0.0, speak_ahead=5, max_reply_tokens=20, max_positions=500, window_positions=50,
        reply_positions=20, recognition="options", memory="pyramid",
    )  # fmt: skip
    on_gpu = random_model().to("cuda")
    on_gpu.load_state_dict(model.state_dict())
    outputs = [
        run_session(on_gpu, dataclasses.replace(config, graphs=way), events) for way in ("auto", "static", "never")
    ]
    assert_alike(outputs[0], outputs[1])
    assert_alike(outputs[1], outputs[2])
    session = Session(on_gpu, vocabulary(), dataclasses.replace(config, threshold=10.0))
    assert isinstance(session._context._static, StaticPasses), "captured"
    for second in range(12):
        session.push(image_event(second))
    torch.cuda.synchronize()
    allocated = torch.cuda.memory_allocated()
    event = image_event(12)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            session.push(event)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([wait for wait in waits if "synchroniz" in str(wait.message)]) == 1
    for second in range(13, 24):
        session.push(image_event(second))
    assert torch.cuda.memory_allocated() == allocated
