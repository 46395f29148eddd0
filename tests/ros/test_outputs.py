"""What the node tells: replies in pieces, gestures, anomalies raised and cleared, state, health, switches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ros.test_assistant import SECOND, START, Parrot, Rig, frame
from vispeak_node.ros.anomalies import AnomalyWatch, gesture_of, trigger_of
from vispeak_node.ros.asking import Question
from vispeak_node.ros.messages import Anomaly, Bool, Gesture, Response, State, String
from vispeak_node.ros.report import Report
from vispeak_node.ros.sound import from_arrays
from vispeak_node.ros.speaker import Speaker
from vispeak_node.ros.standard import Audio, AudioArrays, AudioFormat, AudioStamped, Header, Time
from vispeak_node.ros.topics import BRIDGES, RELATIVE, TopicNames, inputs, outputs
from vispeak_node.runtime.outputs import ReplyFinished, ReplyStarted, Score, TextDelta, Trigger
from vispeak_node.stream.events import ImageEvent, ResetEvent, TextEvent

NAMES = TopicNames()
FALL, WAVE = "anomaly_warning/fall", "visual_wake_up/wave"


def speaker(clear=3.0, hold=10.0, least=0.5):
    told = []
    return Speaker(NAMES, lambda *message: told.append(message), Report(), AnomalyWatch(clear, hold), least), told


def reply(number, stamp, label, score=0.9, text="Hello!", trigger=Trigger.VISUAL):
    return [
        ReplyStarted(number, stamp, trigger, 0.8, label, score),
        TextDelta(number, stamp, text[:3]),
        TextDelta(number, stamp, text[3:]),
        ReplyFinished(number, stamp, stamp, text, trigger, 0.8, False, (1,), False, label, score),
    ]


def score(stamp, fall=None):
    events = () if fall is None else (("none", 1 - fall), (FALL, fall))
    return Score(stamp, 0.1, 0.2, 0.35, False, False, events)


def on(told, topic):
    return [message for name, message in told if name == topic]


def test_a_wave_is_a_gesture_and_a_reply_in_pieces():
    teller, told = speaker()
    for output in reply(1, 7 * SECOND, WAVE):
        teller.tell(output)
    gesture = on(told, NAMES.gesture)[0]
    assert (gesture.gesture, gesture.label) == (Gesture.CONSTANTS["WAVING"][1], "wave")
    pieces, whole = on(told, NAMES.partial), on(told, NAMES.response)[0]
    assert "".join(piece.text for piece in pieces) == whole.text == "Hello!"
    assert [piece.seq for piece in [*pieces, whole]] == [0, 1, 2]
    assert {piece.id for piece in pieces} == {whole.id} and whole.is_final and not any(p.is_final for p in pieces)
    assert whole.trigger == Response.CONSTANTS["TRIGGER_WAKE"][1] and whole.trigger_label == "wave"
    assert not on(told, NAMES.anomaly) and not on(told, NAMES.anomaly_active)


def test_an_anomaly_is_raised_with_its_words_and_cleared_when_it_is_not_seen_any_more():
    teller, told = speaker(clear=2.0)
    for output in reply(4, 10 * SECOND, FALL, text="Somebody fell."):
        teller.tell(output)
    for second in (11, 12, 13):
        teller.tell(score(second * SECOND, fall=0.9))
    assert on(told, NAMES.anomaly_active) == [Bool(True)]
    for second in (14, 15):
        teller.tell(score(second * SECOND, fall=0.1))
    raised, cleared = on(told, NAMES.anomaly)
    assert raised.active and raised.description == "Somebody fell." and raised.category == "fall"
    assert raised.level == Anomaly.CONSTANTS["WARN"][1] and raised.segment_start.ns == 10 * SECOND
    assert not cleared.active and cleared.id == raised.id and cleared.header.stamp.ns == 15 * SECOND
    assert on(told, NAMES.anomaly_active) == [Bool(True), Bool(False)]
    assert [name for name, _ in told].index(NAMES.anomaly_active) < [name for name, _ in told].index(NAMES.anomaly)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["fall", "wave", "unsure", "seen", "unseen", "blind", "forget"]), max_size=30),
    clear=st.sampled_from([0.0, 1.0, 3.0]),
)
def test_raised_and_cleared_take_turns_whatever_happens(steps, clear):
    teller, told = speaker(clear=clear, hold=4.0)
    for second, step in enumerate(steps):
        stamp = second * SECOND
        if step in ("fall", "wave", "unsure"):
            label, sure = (WAVE if step == "wave" else FALL), (0.3 if step == "unsure" else 0.9)
            for output in reply(second, stamp, label, sure):
                teller.tell(output)
        elif step == "forget":
            teller.forget(stamp)
        else:
            teller.tell(score(stamp, {"seen": 0.8, "unseen": 0.1, "blind": None}[step]))
    messages = on(told, NAMES.anomaly)
    assert [message.active for message in messages] == [index % 2 == 0 for index in range(len(messages))]
    for raised, cleared in zip(messages[::2], messages[1::2], strict=False):
        assert raised.id == cleared.id
    flags = [message.data for message in on(told, NAMES.anomaly_active)]
    assert flags == [message.active for message in messages]
    assert len(on(told, NAMES.gesture)) == steps.count("wave")
    assert len(on(told, NAMES.response)) == sum(step in ("fall", "wave", "unsure") for step in steps)


def test_kinds_that_are_not_known_are_proactive_and_no_gesture():
    assert trigger_of("") == trigger_of("something") == Response.CONSTANTS["TRIGGER_PROACTIVE"][1]
    assert gesture_of("") is None and gesture_of("humor_reaction") is None and gesture_of(FALL) is None
    assert gesture_of("visual_interruption/palm") == Gesture.CONSTANTS["STOP"][1]
    teller, told = speaker()
    for output in reply(1, SECOND, WAVE, score=0.4):
        teller.tell(output)
    assert not on(told, NAMES.gesture) and on(told, NAMES.response)[0].trigger_label == "visual"


class Actor(Parrot):
    """Answers texts, fails when told, and knows how to be reset."""

    def __init__(self):
        super().__init__()
        self.resets, self.rebuilds, self.broken = [], 0, False

    def rebuild(self):
        self.rebuilds += 1
        if self.broken:
            raise RuntimeError("CUDA out of memory")
        return []

    def push(self, event, then=None):
        self.events.append(event)
        if isinstance(event, TextEvent) and event.text == "fail":
            raise RuntimeError("CUDA out of memory\nmore lines")
        if isinstance(event, TextEvent):
            return reply(len(self.events), event.stamp, "", 0.0, event.text.upper(), Trigger.TEXT)
        return [Score(event.stamp, 0.1, 0.2, 0.35, False, False)] if isinstance(event, ImageEvent) else []

    def reset(self, stamp=None):
        self.resets.append(stamp)
        return []


@pytest.fixture
def node():
    made = Rig(Actor())
    yield made
    made.assistant.stop()


@pytest.mark.parametrize("broken", [False, True])
def test_a_model_that_fails_is_rebuilt_or_begun_afresh_and_the_node_lives_on(node, broken):
    node.session.broken = broken
    node.assistant.on_image(frame(0))
    node.assistant.on_query(String("fail"))
    node.wait(lambda: node.assistant.report.errors == 1)
    node.assistant.on_query(String("hello"))
    node.wait(lambda: node.on("/vispeak/response_text") == [String("HELLO")])
    assert node.assistant.report.last_error == "RuntimeError: CUDA out of memory"
    assert node.session.rebuilds == 1 and node.session.resets == ([START] if broken else [])
    node.wait(lambda: State.CONSTANTS["ERROR"][1] in [message.state for message in node.on("/vispeak/state")])


def test_switched_off_it_counts_and_does_nothing(node):
    node.assistant.on_image(frame(0))
    node.wait(lambda: len(node.on("/vispeak/attention")) == 1)
    node.assistant.on_enable(Bool(False))
    for second in range(1, 4):
        node.assistant.on_image(frame(second * SECOND))
    assert node.assistant.report.ignored == 3
    with pytest.raises(ValueError, match="switched off"):
        node.assistant.ask(Question("hello"))
    node.assistant.on_enable(Bool(True))
    node.assistant.on_image(frame(4 * SECOND))
    node.wait(lambda: len(node.on("/vispeak/attention")) == 2)
    assert node.on("/vispeak/attention")[-1].header.stamp.ns == START + 4 * SECOND


def test_a_reset_reaches_the_session_and_the_stream_begins_anew(node):
    node.assistant.on_image(frame(50 * SECOND))
    node.assistant.on_reset(Bool(False))
    node.assistant.on_reset(Bool(True))
    node.assistant.on_image(frame(50 * SECOND + SECOND // 3))  # a stream of its own, so its first frame is read
    node.wait(lambda: len(node.on("/vispeak/attention")) == 2)
    assert [type(event) for event in node.session.events] == [ImageEvent, ResetEvent, ImageEvent]


def test_who_asks_gets_the_answer_in_pieces_and_whole(node):
    node.assistant.on_image(frame(0))
    pieces, answers = [], []
    for text in ("one?", "two?"):
        node.assistant.ask(Question(text, pieces.append, answers.append))
    withdrawn = Question("three?", pieces.append, answers.append)
    node.assistant.ask(withdrawn)
    node.wait(lambda: len(node.on("/vispeak/response")) == 3)
    answered = [answer.text for answer in answers]
    assert answered[:2] == ["ONE?", "TWO?"] and "".join(pieces).startswith("ONE?TWO?")
    node.assistant.withdraw(withdrawn)


def test_health_and_state_are_told(node):
    node.assistant.on_image(frame(0))
    node.assistant.on_image(frame(0, height=0))
    node.wait(lambda: node.on("/diagnostics") and node.on("/vispeak/state"))
    status = node.assistant.status()
    values = {pair.key: pair.value for pair in status.values}
    assert values["received /camera/image_raw"] == "2" and values["dropped events"] == "0"
    assert any(key.startswith("refused /camera/image_raw") for key in values)
    states = {message.state for message in node.on("/vispeak/state")}
    assert states <= {State.CONSTANTS[name][1] for name in ("IDLE", "LISTENING", "SPEAKING")}
    assert node.on("/vispeak/anomaly_active") == [Bool(False)]


@pytest.mark.parametrize(
    ("format_", "field", "data"),
    [
        (1, "float32_data", np.array([0.5, -0.25], np.float32)),
        (2, "int32_data", np.array([2**30, -(2**29)], np.int32)),
        (8, "int16_data", np.array([2**14, -(2**13)], np.int16)),
        (16, "int8_data", np.array([64, -32], np.int8)),
        (32, "uint8_data", np.array([192, 96], np.uint8)),
    ],
)
def test_every_sample_format_of_the_other_dialect_means_the_same_sound(format_, field, data):
    empty = {"float32_data": np.float32, "int32_data": np.int32, "int16_data": np.int16, "int8_data": np.int8}
    arrays = {name: np.zeros(0, kind) for name, kind in {**empty, "uint8_data": np.uint8}.items()} | {field: data}
    message = AudioStamped(Header(Time(), ""), Audio(AudioArrays(**arrays), AudioFormat(format_, 1, 16_000, 2)))
    samples, rate = from_arrays(message)
    values = samples / 2**15 if samples.dtype == np.int16 else samples
    assert rate == 16_000 and values[:, 0].tolist() == [0.5, -0.25]


@pytest.mark.parametrize(
    "info",
    [
        AudioFormat(4, 1, 16_000, 2),
        AudioFormat(8, 0, 16_000, 2),
        AudioFormat(8, 1, 100, 2),
        AudioFormat(8, 3, 16_000, 2),
    ],
)
def test_sound_of_the_other_dialect_that_makes_no_sense_is_refused(info):
    none = np.zeros(0)
    arrays = AudioArrays(none, none, np.zeros(2, np.int16), none, none)
    with pytest.raises(ValueError, match="sound"):
        from_arrays(AudioStamped(Header(Time(), ""), Audio(arrays, info)))


def test_every_topic_is_in_the_table_once():
    for names in (NAMES, RELATIVE):
        for dialect in ("ros-drivers", "mgonzs13"):
            listed = [topic.name for topic in [*inputs(names, dialect), *outputs(names, BRIDGES)]]
            assert len(listed) == len(set(listed))
        assert set(vars(names).values()) == {t.name for t in [*inputs(names), *outputs(names, BRIDGES)]}


def test_bridges_speak_other_packages_messages_and_only_when_asked():
    told = []
    teller = Speaker(NAMES, lambda *message: told.append(message), Report(), AnomalyWatch(3, 10), 0.5, BRIDGES)
    for output in [score(SECOND, fall=0.25), *reply(1, SECOND, WAVE), *reply(2, SECOND, "visual_interruption/palm")]:
        teller.tell(output)
    assert [message.gesture for message in on(told, NAMES.hri_gesture)] == [6, 0]  # hri_msgs knows no stop sign
    results = on(told, NAMES.classification)[0].results
    assert [(result.class_id, result.score) for result in results] == [("none", 0.75), (FALL, 0.25)]
    teller, told = speaker()
    for output in [score(SECOND, fall=0.25), *reply(1, SECOND, WAVE)]:
        teller.tell(output)
    assert not on(told, NAMES.hri_gesture) and not on(told, NAMES.classification)
