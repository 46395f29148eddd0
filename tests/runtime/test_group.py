"""Sessions side by side: each says what it says alone, and what they ask for together is computed once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.models import vocabulary
from tests.runtime.likeness import assert_alike
from tests.runtime.test_session import Counter, image_event, make_event, model
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.group import SessionGroup
from vispeak_node.runtime.outputs import ReplyFinished, Score
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import ResetEvent, TextEvent, nanoseconds

__all__ = ["model"]  # the fixture

KINDS = st.sampled_from(["image", "image", "image", "sound", "text", "none"])


def event_of(kind, second, camera):
    """Cameras see different things."""
    return image_event(second, (second + 2 * camera) % 7) if kind == "image" else make_event(kind, second)


@settings(max_examples=20, deadline=None)
@given(
    rounds=st.lists(st.lists(KINDS, min_size=3, max_size=3), min_size=1, max_size=7),
    ahead=st.sampled_from([0, 3, 40]),
    recognition=st.sampled_from(["never", "options"]),
    small=st.booleans(),
)
def test_each_session_says_what_it_says_alone(model, rounds, ahead, recognition, small):
    bounds = {"max_positions": 300, "window_positions": 30, "reply_positions": 10} if small else {}
    config = SessionConfig(
        threshold=0.6, refractory=0.0, speak_ahead=ahead, max_reply_tokens=16, finish_padding=20,
        recognition=recognition, **bounds,
    )  # fmt: skip
    group = SessionGroup(model, vocabulary(), config)
    lone = {camera: Session(model, vocabulary(), config) for camera in range(3)}
    for camera in lone:
        group.join(camera)
    for second, kinds in enumerate(rounds):
        events = {c: event_of(kind, second, c) for c, kind in enumerate(kinds) if kind != "none"}
        together = group.push(events)
        assert list(together) == list(events) and not group.refused
        for camera, event in events.items():
            assert_alike(together[camera], lone[camera].push(event))
    for camera, outputs in group.finish().items():
        assert_alike(outputs, lone[camera].finish())
        assert group[camera].num_positions == lone[camera].num_positions


def test_one_speaks_while_the_others_stay_silent(model):
    quiet, loud = SessionConfig(threshold=10.0), {"threshold": 0.2, "refractory": 0.0}
    group = SessionGroup(model, vocabulary(), quiet)
    for camera in range(3):
        group.join(camera)
    group[1].configure(**loud)
    lone = Session(model, vocabulary(), quiet)
    lone.configure(**loud)
    spoken = []
    for second in range(6):
        together = group.push({camera: image_event(second) for camera in range(3)})
        spoken += together[1]
        assert_alike(together[1], lone.push(image_event(second)))
        assert [type(output) for output in together[0] + together[2]] == [Score, Score]
    assert any(isinstance(output, ReplyFinished) for output in spoken)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_silent_sessions_take_one_pass_together(model, count):
    group = SessionGroup(model, vocabulary(), SessionConfig(threshold=10.0))
    for camera in range(count):
        group.join(camera)
        group.push({camera: image_event(0)})
    first_linear = model.model.layers[0].self_attn.q_proj
    counters = [Counter(part) for part in (first_linear, model.informative_head, model.model.mm_projector)]
    linear, head, projector = counters
    try:
        group.push({camera: image_event(1, camera) for camera in range(count)})
    finally:
        for counter in counters:
            counter.handle.remove()
    assert (linear.calls, linear.rows) == (1, count * (model.config.tokens_per_image + 1))
    assert (head.calls, head.rows) == (1, count)
    assert projector.calls == 1


def test_speaking_sessions_choose_their_words_together(model):
    config = SessionConfig(threshold=0.2, refractory=0.0, recognition="never", max_reply_tokens=10, speak_ahead=40)
    group = SessionGroup(model, vocabulary(), config)
    for camera in range(3):
        group.join(camera)
    words = Counter(model.lm_head)
    try:
        for second in range(4):
            together = group.push({camera: image_event(second, 1) for camera in range(3)})
    finally:
        words.handle.remove()
    assert any(isinstance(output, ReplyFinished) for output in together[0])
    assert words.rows == 3 * words.calls


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_a_refused_event_disturbs_nobody(model, culprit):
    config = SessionConfig(threshold=0.6, refractory=0.0, max_reply_tokens=8)
    group = SessionGroup(model, vocabulary(), config)
    lone = Session(model, vocabulary(), config)
    for camera in range(3):
        group.join(camera)
    for second in range(4):
        events = {camera: image_event(second) for camera in range(3)}
        if second == 2:
            events[culprit] = TextEvent(nanoseconds(second), "")
        before = group[culprit].num_positions
        together = group.push(events)
        alone = lone.push(image_event(second))
        for camera in set(range(3)) - {culprit}:
            assert_alike(together[camera], alone)
        if second == 2:
            assert culprit not in together and "the question is empty" in str(group.refused[culprit])
            assert list(group.refused) == [culprit] and group[culprit].num_positions == before
    assert not group.refused and set(together) == {0, 1, 2}


def test_sessions_join_and_leave(model):
    config = SessionConfig(threshold=0.6, refractory=0.0, max_reply_tokens=8)
    group = SessionGroup(model, vocabulary(), config)
    lone = Session(model, vocabulary(), config)
    group.join("front")
    with pytest.raises(ValueError, match="front"):
        group.join("front")
    alone = []
    for second in range(6):
        alone.append(lone.push(image_event(second)))
        if second == 2:
            group.join("rear")
        if second == 4:
            front = group.leave("front")
        if second >= 4:
            assert_alike(front.push(image_event(second)), alone[second])
        together = group.push({key: image_event(second) for key in group})
        assert list(together) == list(group)
        if "front" in group:
            assert_alike(together["front"], alone[second])
    assert list(group) == ["rear"] and len(group) == 1
    with pytest.raises(KeyError):
        group.push({"front": image_event(6)})


def test_a_reset_is_one_sessions_own(model):
    group = SessionGroup(model, vocabulary(), SessionConfig(threshold=10.0))
    for camera in range(2):
        group.join(camera)
    group.push({camera: image_event(0) for camera in range(2)})
    group.push({0: ResetEvent(nanoseconds(1)), 1: image_event(1)})
    assert group[0].num_positions == 0 and group[1].num_positions > 0


def test_after_a_failed_batch_contexts_are_made_anew(model):
    group = SessionGroup(model, vocabulary(), SessionConfig(threshold=10.0, memory="window"))
    for camera in range(2):
        group.join(camera)
    group.push({camera: image_event(0) for camera in range(2)})

    def fail(_module, _inputs):
        raise RuntimeError("out of memory")

    hook = model.model.layers[1].self_attn.o_proj.register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            group.push({camera: image_event(1) for camera in range(2)})
    finally:
        hook.remove()
    for camera in range(2):
        group[camera].rebuild()
    together = group.push({camera: image_event(2) for camera in range(2)})
    assert [len(outputs) for outputs in together.values()] == [1, 1]
