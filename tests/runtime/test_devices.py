"""What a GPU would refuse, shown without one: the model lies on torch's `meta` device, the host's tensors on the CPU.

Operations that mix the two fail on a GPU, or make the host wait for a copy; values that leave the device make it wait.
"""

import random
from dataclasses import replace

import pytest
import torch

from tests.golden.models import random_model, vocabulary
from tests.runtime.devices import Apart, Launches, unseen
from tests.runtime.test_recogniser import with_head
from tests.runtime.test_session import make_event
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.encoder_graphs import StaticEncoder
from vispeak_node.runtime.graphs import StaticPass
from vispeak_node.runtime.group import SessionGroup
from vispeak_node.runtime.outputs import ReplyFinished, Score
from vispeak_node.runtime.quantise import quantise
from vispeak_node.runtime.session import Session


class Waits:
    """Hands out random values where the host asks for a device's, and counts."""

    def __init__(self, monkeypatch):
        self.count, self._dice = 0, random.Random(0)
        tolist, cpu = torch.Tensor.tolist, torch.Tensor.cpu
        monkeypatch.setattr(torch.Tensor, "tolist", lambda x: self._values(x).tolist() if x.is_meta else tolist(x))
        monkeypatch.setattr(torch.Tensor, "cpu", lambda x: self._values(x) if x.is_meta else cpu(x))

    def _values(self, tensor):
        self.count += 1
        with torch.utils._python_dispatch._disable_current_modes():
            return torch.tensor([self._dice.random() for _ in range(tensor.numel())]).view(tensor.shape)


def on_meta(weights=""):
    model = with_head(random_model().bfloat16())
    quantise(model, weights)
    return model.to("meta")


CONFIG = SessionConfig(
    threshold=1.4, refractory=0.0, max_positions=500, window_positions=60, reply_positions=20, max_reply_tokens=6,
    overlap="never",
)  # fmt: skip


@pytest.mark.parametrize("graphs", ["never", "static"])
@pytest.mark.parametrize("memory", ["none", "window", "pyramid"])
@pytest.mark.parametrize(("recognition", "weights"), [("auto", ""), ("options", "int8"), ("never", "int4")])
def test_host_and_device_are_kept_apart(monkeypatch, graphs, memory, recognition, weights):
    """Through silence, replies, questions, remembered frames and a context that is made anew."""
    session = Session(
        on_meta(weights), vocabulary(), replace(CONFIG, graphs=graphs, memory=memory, recognition=recognition)
    )
    Waits(monkeypatch)
    outputs = []
    with Apart():
        for second in range(40):
            for kind in ("image", "sound", "text") if second in (15, 30) else ("image", "sound"):
                outputs += session.push(make_event(kind, second))
        outputs += session.rebuild()
        outputs += session.push(make_event("image", 40)) + session.finish()
    assert sum(isinstance(output, ReplyFinished) for output in outputs) > 3
    assert sum(isinstance(output, Score) for output in outputs) == 41 and session.num_left > 30


def test_batches_are_kept_apart_too(monkeypatch):
    group = SessionGroup(on_meta(), vocabulary(), CONFIG)
    for camera in range(3):
        group.join(camera)
    Waits(monkeypatch)
    spoken = 0
    with Apart():
        for second in range(20):
            for kind in ("image", "sound"):
                found = group.push({camera: make_event(kind, second) for camera in range(3)})
                spoken += sum(isinstance(output, ReplyFinished) for outputs in found.values() for output in outputs)
    assert spoken > 3


@pytest.mark.parametrize(("memory", "waits"), [("none", 1), ("window", 1), ("pyramid", 2)])
def test_a_silent_second_waits_once(monkeypatch, memory, waits):
    """The pyramid waits once more, for which of its frames leaves."""
    session = Session(on_meta(), vocabulary(), replace(CONFIG, threshold=10.0, memory=memory))
    counter = Waits(monkeypatch)
    for second in range(90):
        for kind in ("image", "sound"):
            session.push(make_event(kind, second))
    before = counter.count
    for kind in ("image", "sound"):
        session.push(make_event(kind, 90))
    assert counter.count - before == waits


def test_a_silent_second_launches_little_beside_its_graphs(monkeypatch):
    """With a pinned prompt that is turned and an event head; a launch costs the host about 5 us."""
    session = Session(on_meta(), vocabulary(), replace(CONFIG, threshold=10.0, graphs="static"))
    Waits(monkeypatch)
    for second in range(40):
        for kind in ("image", "sound"):
            session.push(make_event(kind, second))
    for part in (StaticPass, StaticEncoder):
        monkeypatch.setattr(part, "_compute", unseen(part._compute))
    with Launches() as launches:
        for kind in ("image", "sound"):
            session.push(make_event(kind, 40))
    assert len(launches.names) <= 50, launches.names
    assert "index_copy_" in launches.names, "the prompt was turned"


def test_the_device_refuses_what_a_gpu_would():
    """The properties above would be empty if nothing were refused."""
    ids, weight = torch.zeros(1, dtype=torch.long), torch.ones(3, 3, device="meta")
    with Apart():
        for mix in (
            lambda: weight + torch.ones(3, 3),
            lambda: weight[ids],
            lambda: torch.nn.functional.embedding(ids, weight),
            lambda: torch.nn.functional.linear(torch.ones(1, 3), weight),
            lambda: weight.masked_fill(torch.ones(3, 3, dtype=torch.bool), 0.0),
            lambda: torch.ones(3, 3).to(weight.device),
            lambda: weight.copy_(torch.ones(3, 3)),
        ):
            with pytest.raises(RuntimeError):
                mix()
    with pytest.raises((RuntimeError, NotImplementedError)):
        weight.sum().item()
