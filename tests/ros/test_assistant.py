"""The node's logic with a session of the tests: what comes out, what is refused, and that nothing stops it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vispeak_node.ros.assistant import Assistant, AssistantConfig
from vispeak_node.ros.messages import (
    AudioData,
    AudioDataStamped,
    AudioInfo,
    CompressedImage,
    Header,
    Image,
    Response,
    String,
    Time,
)
from vispeak_node.runtime.outputs import ReplyFinished, Score, Trigger
from vispeak_node.stream.events import NANOSECONDS, ImageEvent, SoundEvent, TextEvent

SECOND = NANOSECONDS
START = 5 * SECOND


class Parrot:
    """Scores every image, and answers every text with the same text."""

    def __init__(self, delay=0.0):
        self.events, self.delay = [], delay

    def push(self, event, then=None):
        self.events.append(event)
        time.sleep(self.delay)
        if isinstance(event, ImageEvent):
            return [Score(event.stamp, 0.1, 0.2, 0.35, False, False)]
        if isinstance(event, TextEvent):
            if event.text == "refuse":
                raise ValueError("the question is not to its liking")
            text = event.text
            return [ReplyFinished(1, event.stamp, event.stamp, text, Trigger.TEXT, 0.9, False, (1, 2), text == "again")]
        return []

    def reset(self, stamp=None):
        return []

    def rebuild(self):
        return []

    def usage(self):
        return {}

    speaking = False


class Rig:
    """An assistant whose messages are kept."""

    def __init__(self, session=None, **config):
        self.session, self.messages = session or Parrot(), []
        self.assistant = Assistant(
            self.session, AssistantConfig(**config), lambda *message: self.messages.append(message)
        )
        self.assistant.start()

    def wait(self, condition):
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "it did not happen within 10 s"
            time.sleep(0.002)

    def on(self, topic):
        return [message for name, message in self.messages if name == topic]


@pytest.fixture
def rig():
    made = []

    def build(*args, **config):
        made.append(Rig(*args, **config))
        return made[-1]

    yield build
    for each in made:
        each.assistant.stop()


def frame(stamp, **change):
    """A frame; stamps count from START, because a stamp of zero means that the driver gave none."""
    fields = {"height": 4, "width": 6, "encoding": "rgb8", "is_bigendian": 0, "step": 18}
    fields |= {"data": np.zeros(72, np.uint8)} | change
    return Image(Header(Time.from_ns(START + stamp), "optical"), **fields)


def test_a_score_for_every_second(rig):
    node = rig()
    for k in range(91):
        node.assistant.on_image(frame(k * SECOND // 30 + 5))
    node.wait(lambda: len(node.on("/vispeak/attention")) == 4)
    attention = node.on("/vispeak/attention")
    assert [message.header.stamp.ns for message in attention] == [START + k * SECOND + 5 for k in range(4)]
    assert attention[0].header.frame_id == "optical"


def test_a_query_is_answered_on_both_topics(rig):
    node = rig()
    node.assistant.on_image(frame(7 * SECOND))
    node.assistant.on_query(String("what is this?"))
    node.wait(lambda: node.on("/vispeak/response_text"))
    response = node.on("/vispeak/response")[0]
    assert node.on("/vispeak/response_text") == [String("what is this?")]
    assert response.text == "what is this?" and response.is_final and response.trigger == 0
    assert response.trigger == Response.CONSTANTS["TRIGGER_QUERY"][1]
    assert response.segment_start.ns == START + 7 * SECOND and 0 <= response.latency_s < 10


def test_duplicates_are_counted_and_not_published(rig):
    node = rig()
    node.assistant.on_image(frame(0))
    node.assistant.on_query(String("again"))
    node.wait(lambda: node.assistant.report.duplicates == 1)
    assert not node.on("/vispeak/response")


BAD_INPUT = {
    "zero size": lambda a: a.on_image(frame(0, height=0, data=np.zeros(0, np.uint8))),
    "too large": lambda a: a.on_image(frame(0, width=20_000, step=60_000, data=np.zeros(240_000, np.uint8))),
    "short data": lambda a: a.on_image(frame(0, data=np.zeros(71, np.uint8))),
    "encoding": lambda a: a.on_image(frame(0, encoding="bayer_rggb8")),
    "hour ahead": lambda a: a.on_image(frame(100_000 * SECOND)),
    "back": lambda a: a.on_image(frame(90 * SECOND)),
    "nanoseconds": lambda a: a.on_image(
        Image(Header(Time(1, 2_000_000_000), ""), 4, 6, "rgb8", 0, 18, np.zeros(72, np.uint8))
    ),
    "empty jpeg": lambda a: a.on_compressed(CompressedImage(Header(Time(), ""), "jpeg", np.zeros(0, np.uint8))),
    "audio info": lambda a: a.on_audio_info(AudioInfo(1, 1, "S16LE", 0, "wave")),
    "audio unasked": lambda a: a.on_audio(AudioDataStamped(Header(Time(), ""), AudioData(np.zeros(4, np.uint8)))),
    "long query": lambda a: a.on_query(String("x" * 1_000_000)),
    "empty query": lambda a: a.on_query(String("  ")),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_is_counted_and_life_goes_on(rig, what):
    node = rig()
    node.assistant.on_image(frame(1000 * SECOND))
    node.wait(lambda: len(node.on("/vispeak/attention")) == 1)
    BAD_INPUT[what](node.assistant)
    assert sum(node.assistant.report.refused.values()) == 1
    assert all("\n" not in reason for reason in node.assistant.report.refused)
    node.assistant.on_image(frame(1001 * SECOND))
    node.wait(lambda: len(node.on("/vispeak/attention")) == 2)


def test_a_jpeg_that_is_none_costs_its_second(rig):
    node = rig()
    node.assistant.on_image(frame(0))
    bad = CompressedImage(Header(Time.from_ns(START + SECOND), ""), "jpeg", np.frombuffer(b"no picture", np.uint8))
    node.assistant.on_compressed(bad)
    node.assistant.on_image(frame(2 * SECOND))
    node.wait(lambda: len(node.on("/vispeak/attention")) == 2)
    assert node.assistant.intake.segmenter.counters.frames_refused == 1


def test_a_question_that_the_session_refuses(rig):
    node = rig()
    node.assistant.on_image(frame(0))
    node.assistant.on_query(String("refuse"))
    node.wait(lambda: sum(node.assistant.report.refused.values()) == 1)
    node.assistant.on_query(String("next"))
    node.wait(lambda: node.on("/vispeak/response_text") == [String("next")])


def test_a_slow_model_drops_the_oldest_and_counts(rig):
    node = rig(Parrot(delay=0.05), max_waiting=3)
    for k in range(30):
        node.assistant.on_image(frame(k * SECOND))
    node.wait(lambda: node.assistant.num_waiting == 0 and len(node.session.events) >= 3)
    report = node.assistant.report
    assert report.deepest <= 3 and report.dropped_events > 0
    node.wait(lambda: len(node.session.events) + report.dropped_events == 30)
    assert node.session.events[-1].stamp == START + 29 * SECOND


def test_sound_reaches_the_session(rig):
    node = rig(audio=True)
    node.assistant.on_audio_info(AudioInfo(1, 16_000, "S16LE", 0, "wave"))
    node.assistant.on_image(frame(0))
    for k in range(30):
        data = AudioData(np.zeros(3200, np.uint8))
        node.assistant.on_audio(AudioDataStamped(Header(Time.from_ns(START + k * SECOND // 10), ""), data))
    node.wait(lambda: any(isinstance(event, SoundEvent) for event in node.session.events))
