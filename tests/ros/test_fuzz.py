"""Whatever bytes and numbers come, the node refuses them or uses them; nothing else happens.

`make test` tries some hundreds of cases, the slow variant ten thousand of each kind.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vispeak_node.ros.intake import Intake
from vispeak_node.ros.messages import (
    AudioData,
    AudioDataStamped,
    AudioInfo,
    AudioStamped,
    Bool,
    CompressedImage,
    Header,
    Image,
    String,
    Time,
)
from vispeak_node.ros.schema import decode, encode
from vispeak_node.stream.events import ImageEvent, ResetEvent, SoundEvent, TextEvent

FEW, MANY = 300, 10_000
PLAIN = {"deadline": None, "suppress_health_check": list(HealthCheck)}
KINDS = (Image, CompressedImage, AudioDataStamped, AudioInfo, AudioStamped, String, Bool)

stamps = st.builds(
    Time,
    st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(990, 1010)),
    st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 999_999_999)),
)
headers = st.builds(Header, stamps, st.text(max_size=8))
octets = st.binary(max_size=96).map(lambda data: np.frombuffer(data, np.uint8))
encodings = st.sampled_from(["rgb8", "bgr8", "rgba8", "mono8", "yuv422_yuy2", "8UC3", "", "bayer", "16UC1"])
sizes = st.one_of(st.integers(0, 6), st.integers(0, 2**32 - 1))
pictures = st.builds(Image, headers, sizes, sizes, encodings, st.integers(0, 255), sizes, octets)
good_pictures = st.builds(
    lambda header, value: Image(header, 2, 2, "rgb8", 0, 6, np.full(12, value, np.uint8)), headers, st.integers(0, 255)
)
compressed = st.builds(CompressedImage, headers, st.text(max_size=5), octets)
sounds = st.builds(AudioDataStamped, headers, st.builds(AudioData, octets))
formats = st.builds(
    AudioInfo, st.integers(0, 255), st.integers(0, 2**32 - 1) | st.just(16_000),
    st.sampled_from(["S16LE", "S16BE", "F32LE", ""]), st.integers(0, 2**32 - 1), st.sampled_from(["wave", "mp3", ""]),
)  # fmt: skip
good_format = st.just(AudioInfo(1, 16_000, "S16LE", 0, "wave"))
queries = st.builds(String, st.text(max_size=40))
messages = st.one_of(pictures, good_pictures, good_pictures, compressed, sounds, sounds, formats, good_format, queries)


def try_bytes(kind, data):
    try:
        message = decode(kind, data)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert isinstance(message, kind)


@given(st.sampled_from(KINDS), st.binary(max_size=200))
@settings(max_examples=FEW, **PLAIN)
def test_any_bytes(kind, data):
    try_bytes(kind, data)


@given(messages, st.data())
@settings(max_examples=FEW, **PLAIN)
def test_damaged_messages(message, data):
    good = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try_bytes(type(message), bytes(good[: data.draw(st.integers(0, len(good)))]))


@pytest.mark.slow
@given(st.sampled_from(KINDS), st.binary(max_size=200), messages, st.data())
@settings(max_examples=MANY, **PLAIN)
def test_any_bytes_and_damaged_messages_at_length(kind, noise, message, data):
    try_bytes(kind, noise)
    good = bytearray(encode(message))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try_bytes(type(message), bytes(good))


def take_all(sent):
    """An intake takes messages in any order; the events that come of them are sound."""
    intake = Intake(1, True, 30, 10_000)
    takers = {
        Image: intake.image, CompressedImage: intake.compressed, AudioDataStamped: intake.audio,
        AudioInfo: intake.audio_info, AudioStamped: intake.audio_stamped, String: intake.query,
    }  # fmt: skip
    newest = None
    for message in sent:
        try:
            events = takers[type(message)](message)
        except ValueError as error:
            assert "\n" not in str(error)
            continue
        for event in events:
            if isinstance(event, ResetEvent):
                newest = None
                continue
            assert newest is None or event.stamp >= newest - 200_000_000
            newest = event.stamp
            if isinstance(event, ImageEvent):
                assert event.image.dtype == np.uint8 and event.image.shape[2] == 3
            elif isinstance(event, SoundEvent):
                assert event.samples.shape == (16_000,) and np.isfinite(event.samples).all()
            else:
                assert isinstance(event, TextEvent) and event.text.strip()
    counters = intake.segmenter.counters
    assert counters.frames_used <= counters.frames_in


@given(st.lists(messages, max_size=30))
@settings(max_examples=FEW, **PLAIN)
def test_any_messages_in_any_order(sent):
    take_all(sent)


@pytest.mark.slow
@given(st.lists(messages, max_size=30))
@settings(max_examples=MANY, **PLAIN)
def test_any_messages_in_any_order_at_length(sent):
    take_all(sent)
