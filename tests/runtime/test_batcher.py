"""Sessions in threads of their own: each says what it says alone, and what they ask for at once is computed once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.models import vocabulary
from tests.runtime.likeness import assert_alike
from tests.runtime.test_group import KINDS, event_of
from tests.runtime.test_session import Counter, image_event, model
from vispeak_node.runtime import batcher as module
from vispeak_node.runtime.backends import Backends
from vispeak_node.runtime.batcher import Batcher
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import Score
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import TextEvent

__all__ = ["model"]  # the fixture

SOON = 30  # s


class Gate:
    """Holds the first batch until so many sessions' work has arrived."""

    def __init__(self, monkeypatch, driver, number):
        self.driver, self.number, self.sizes = driver, number, []
        self.begun, self.answer = threading.Event(), module.answer_together
        monkeypatch.setattr(module, "answer_together", self)

    def __call__(self, model, requests):
        if not self.begun.is_set():
            self.begun.set()
            deadline = time.monotonic() + SOON
            while len(requests) + len(self.driver._arrived) < self.number:
                assert time.monotonic() < deadline
                time.sleep(0.002)
        self.sizes.append(len(requests))
        return self.answer(model, requests)


def sessions_of(model, count, config, driver):
    backends = Backends.torch(model)
    return [Session(model, vocabulary(), config, backends, driver) for _ in range(count)]


@settings(max_examples=15, deadline=None)
@given(
    streams=st.lists(st.lists(KINDS, min_size=1, max_size=6), min_size=3, max_size=3),
    ahead=st.sampled_from([0, 3, 40]),
)
def test_each_session_says_what_it_says_alone(model, streams, ahead):
    config = SessionConfig(threshold=0.6, refractory=0.0, speak_ahead=ahead, max_reply_tokens=16, finish_padding=20)
    together = sessions_of(model, 3, config, Batcher(model))

    def live(camera):
        session = together[camera]
        events = [event_of(kind, second, camera) for second, kind in enumerate(streams[camera]) if kind != "none"]
        return [session.push(event) for event in events] + [session.finish()]

    with ThreadPoolExecutor(3) as threads:
        said = list(threads.map(live, range(3), timeout=SOON))
    for camera, outputs in enumerate(said):
        lone = Session(model, vocabulary(), config)
        events = [event_of(kind, second, camera) for second, kind in enumerate(streams[camera]) if kind != "none"]
        for event, ours in zip(events, outputs[:-1], strict=True):
            assert_alike(ours, lone.push(event))
        assert_alike(outputs[-1], lone.finish())


@pytest.mark.parametrize("count", [2, 5])
def test_what_comes_while_a_batch_runs_is_the_next_batch(model, monkeypatch, count):
    driver = Batcher(model)
    sessions = sessions_of(model, count, SessionConfig(threshold=10.0), driver)
    for session in sessions:
        session.push(image_event(0))
    gate = Gate(monkeypatch, driver, count)
    linear = Counter(model.model.layers[0].self_attn.q_proj)
    try:
        with ThreadPoolExecutor(count) as threads:
            said = list(threads.map(lambda session: session.push(image_event(1)), sessions, timeout=SOON))
    finally:
        linear.handle.remove()
    assert all([type(output) for output in outputs] == [Score] for outputs in said)
    # the first one's frame alone; then the others' frames, and from there on all of them
    assert gate.sizes == [1, count - 1, count, count]
    assert (linear.calls, linear.rows) == (1, count * (model.config.tokens_per_image + 1))


def test_an_error_is_raised_where_it_belongs(model, monkeypatch):
    driver = Batcher(model)
    first, second = sessions_of(model, 2, SessionConfig(threshold=10.0), driver)
    for session in (first, second):
        session.push(image_event(0))
    gate = Gate(monkeypatch, driver, 2)
    with ThreadPoolExecutor(2) as threads:
        fine = threads.submit(first.push, image_event(1))
        assert gate.begun.wait(SOON)  # so the other one's text is looked at in the first one's thread
        refused = threads.submit(second.push, TextEvent(10**9, ""))
        with pytest.raises(ValueError, match="question is empty"):
            refused.result(SOON)
        assert [type(output) for output in fine.result(SOON)] == [Score]


def test_a_batch_that_fails_is_said_to_all_in_it_and_the_next_one_runs(model, monkeypatch):
    driver = Batcher(model)
    sessions = sessions_of(model, 3, SessionConfig(threshold=10.0), driver)
    for session in sessions:
        session.push(image_event(0))
    gate = Gate(monkeypatch, driver, 3)
    whole = gate.answer

    def fails_together(model, requests):
        if len(requests) == 3:
            raise MemoryError("no room")
        return whole(model, requests)

    gate.answer = fails_together
    with ThreadPoolExecutor(3) as threads:
        work = [threads.submit(session.push, image_event(1)) for session in sessions]
        for future in work:
            with pytest.raises(RuntimeError, match="MemoryError: no room"):
                future.result(SOON)
    gate.answer = whole
    for session in sessions:
        session.rebuild()
        assert [type(output) for output in session.push(image_event(2))] == [Score]


def test_a_thread_that_ends_leaves_no_work_behind(model):
    driver = Batcher(model)
    sessions = sessions_of(model, 4, SessionConfig(threshold=10.0), driver)
    counts = [1, 5, 9, 2]

    def live(session, count):
        return sum(len(session.push(image_event(second))) for second in range(count))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(live, sessions, counts, timeout=SOON)) == counts
    assert not driver._waiting and not driver._arrived and not driver._led
