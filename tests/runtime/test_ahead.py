"""The next event's encoder beside the language model: the same outputs, and really beside it."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.models import vocabulary
from tests.runtime.test_session import image_event, make_event, model, summary
from vispeak_node.runtime.backends import Backends
from vispeak_node.runtime.batcher import Batcher
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import ResetEvent, SoundEvent

__all__ = ["model"]  # the fixture

BOUND = 30.0  # s
LIVELY = SessionConfig(threshold=0.6, refractory=0.0, speak_ahead=3, max_reply_tokens=20, overlap="never")
BROKEN = SoundEvent(0, np.zeros((4, 4), np.float32))


@settings(max_examples=20, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["image", "image", "sound", "text", "reset"]), min_size=1, max_size=8),
    expected=st.lists(st.sampled_from(["next", "next", "another", "broken", "nothing"]), min_size=8, max_size=8),
)
def test_whatever_is_expected_the_outputs_are_the_same(model, kinds, expected):
    events = [
        ResetEvent(10**9 * second) if kind == "reset" else make_event(kind, second) for second, kind in enumerate(kinds)
    ]
    following = [*events[1:], None]
    thens = [
        {"next": then, "another": image_event(50), "broken": BROKEN, "nothing": None}[choice]
        for then, choice in zip(following, expected, strict=False)
    ]
    plain, ahead = (Session(model, vocabulary(), replace(LIVELY, overlap=overlap)) for overlap in ("never", "always"))
    wanted = [output for event in events for output in plain.push(event)] + plain.finish()
    found = [output for event, then in zip(events, thens, strict=True) for output in ahead.push(event, then)]
    found += ahead.finish()
    (replies, scores), (own_replies, own_scores) = summary(wanted), summary(found)
    assert own_replies == replies and [score[0] for score in own_scores] == [score[0] for score in scores]
    np.testing.assert_allclose([score[1:] for score in own_scores], [score[1:] for score in scores], atol=1e-5)


def test_a_session_that_is_dropped_is_gone(model):
    """Without waiting for the collector of cycles: on a GPU its encoders' graphs hold memory."""
    session = Session(model, vocabulary(), replace(LIVELY, overlap="always", graphs="static"))
    session.push(image_event(0), image_event(1))
    session.push(image_event(1))
    gone = weakref.ref(session.backends.vision)
    gc.disable()
    try:
        del session
        assert gone() is None
    finally:
        gc.enable()


class GatedVision:
    """Encodes its second frame only when the language model has read the first."""

    def __init__(self, inner, read):
        self.inner, self.read, self.name = inner, read, "gated"
        self.threads, self.waited = [], []

    def run(self, inputs):
        self.threads.append(threading.current_thread().name)
        if len(self.threads) == 2:
            self.waited.append(self.read.wait(BOUND))
        return self.inner.run(inputs)


def test_the_next_frame_is_encoded_while_the_first_is_read(model):
    usual, read = Backends.torch(model), threading.Event()
    vision = GatedVision(usual.vision, read)
    session = Session(
        model, vocabulary(), replace(LIVELY, threshold=9.0, overlap="always"), replace(usual, vision=vision)
    )
    first, second = image_event(0), image_event(1)
    hook = model.model.norm.register_forward_hook(lambda *_: read.set())
    try:
        session.push(first, second)
        session.push(second)
    finally:
        hook.remove()
    own = threading.current_thread().name
    assert vision.waited == [True] and vision.threads[0] == own != vision.threads[1] and len(vision.threads) == 2


def test_a_malformed_event_is_refused_when_it_is_pushed_and_not_before(model):
    session = Session(model, vocabulary(), replace(LIVELY, overlap="always"))
    session.push(image_event(0), BROKEN)
    positions = session.num_positions
    with pytest.raises(ValueError, match="sound"):
        session.push(BROKEN, image_event(1))
    assert session.num_positions == positions
    session.push(image_event(1))


def test_sessions_that_share_encoders_leave_them_to_their_driver(model):
    config = replace(LIVELY, overlap="always")
    assert Session(model, vocabulary(), config, driver=Batcher(model))._encoder._ahead is None
    assert Session(model, vocabulary(), config)._encoder._ahead is not None
    assert Session(model, vocabulary())._encoder._ahead is None  # auto: not on a CPU
    with pytest.raises(ValueError, match="overlap 'maybe' is unknown; use auto, always or never"):
        SessionConfig(overlap="maybe")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_on_a_gpu_too():
    from tests.golden.models import random_model

    on_gpu = random_model().to("cuda")
    events = [make_event(kind, second) for second, kind in enumerate(["image", "sound"] * 20)]
    found = []
    for overlap in ("never", "always"):
        session = Session(on_gpu, vocabulary(), replace(LIVELY, overlap=overlap))
        outputs = [
            output
            for event, then in zip(events, [*events[1:], None], strict=True)
            for output in session.push(event, then)
        ]
        found.append(summary(outputs + session.finish()))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose([s[1:] for s in found[0][1]], [s[1:] for s in found[1][1]], atol=1e-5)
