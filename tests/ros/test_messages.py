"""Messages: ROS's own hashes and bytes, round trips, and bytes that are no message."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from vispeak_node.ros.idl import dds_name
from vispeak_node.ros.message import Message
from vispeak_node.ros.messages import (
    ALL,
    OURS,
    Anomaly,
    Attention,
    Audio,
    AudioArrays,
    AudioData,
    AudioDataStamped,
    AudioFormat,
    AudioStamped,
    CompressedImage,
    DiagnosticArray,
    DiagnosticStatus,
    Gesture,
    Gid,
    Header,
    Image,
    KeyValue,
    NodeEntitiesInfo,
    ParticipantEntitiesInfo,
    Response,
    State,
    String,
    Time,
)
from vispeak_node.ros.schema import decode, encode, msg_text, to_plain, type_hash

STANDARD = get_typestore(Stores.ROS2_JAZZY)
text = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
floats = st.floats(width=32, allow_nan=False)
times = st.builds(Time, st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1))
headers = st.builds(Header, times, text)
u32 = st.integers(0, 2**32 - 1)
octets = st.binary(max_size=200).map(lambda data: np.frombuffer(data, np.uint8))
i32 = st.integers(-(2**31), 2**31 - 1)
gids = st.builds(Gid, st.binary(min_size=16, max_size=16).map(lambda data: np.frombuffer(data, np.uint8)))
node_infos = st.builds(
    NodeEntitiesInfo, text, text, st.lists(gids, max_size=3).map(tuple), st.lists(gids, max_size=3).map(tuple)
)
key_values = st.lists(st.builds(KeyValue, text, text), max_size=3).map(tuple)
statuses = st.builds(DiagnosticStatus, st.integers(0, 3), text, text, text, key_values)


def arrays(dtype):
    return st.binary(max_size=40).map(lambda data: np.frombuffer(data[: len(data) // 4 * 4], np.uint8).astype(dtype))


messages = st.one_of(
    st.builds(String, text),
    st.builds(Image, headers, u32, u32, text, st.integers(0, 255), u32, octets),
    st.builds(CompressedImage, headers, text, octets),
    st.builds(AudioDataStamped, headers, st.builds(AudioData, octets)),
    st.builds(
        AudioStamped,
        headers,
        st.builds(
            Audio,
            st.builds(AudioArrays, arrays(np.float32), arrays(np.int32), arrays(np.int16), arrays(np.int8), octets),
            st.builds(AudioFormat, i32, i32, i32, i32),
        ),
    ),
    st.builds(DiagnosticArray, headers, st.lists(statuses, max_size=3).map(tuple)),
    st.builds(ParticipantEntitiesInfo, gids, st.lists(node_infos, max_size=2).map(tuple)),
    st.builds(Anomaly, headers, text, st.integers(0, 3), text, text, floats, times, st.booleans()),
    st.builds(Gesture, headers, st.integers(0, 255), text, floats, text),
    st.builds(State, headers, st.integers(0, 5), floats, floats, u32),
    st.builds(Attention, headers, floats, floats, floats, st.booleans(), st.booleans()),
    st.builds(
        Response,
        headers,
        text,
        u32,
        st.booleans(),
        st.integers(0, 255),
        text,
        text,
        floats,
        times,
        floats,
        st.booleans(),
    ),
)


def equal(first, second):
    return to_plain(first, 10**6) == to_plain(second, 10**6)


@pytest.mark.parametrize("kind", [k for k in ALL if k.NAME in STANDARD.types], ids=lambda kind: kind.__name__)
def test_types_are_those_of_ros(kind):
    assert type_hash(kind) == STANDARD.hash_rihs01(kind.NAME)


def test_published_hash_and_bytes():
    assert type_hash(String) == "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
    assert encode(String("hi")).hex() == "0001000003000000686900"
    header = Header(Time.from_ns(7_000_000_005), "cam")
    assert encode(CompressedImage(header, "png", np.array([1, 2], np.uint8))).hex() == (
        "00010000" "07000000" "05000000" "04000000" "63616d00" "04000000" "706e6700" "02000000" "0102"
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(messages)
def test_round_trip(message):
    assert equal(decode(type(message), encode(message)), message)


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(ALL), data=st.binary(max_size=120), plain=st.booleans())
def test_any_bytes_are_a_message_or_a_clear_refusal(kind, data, plain):
    try:
        assert isinstance(decode(kind, b"\0\1\0\0" + data if plain else data), Message)
    except ValueError as error:
        assert "\n" not in str(error) and kind.NAME in str(error)


@settings(max_examples=100, deadline=None)
@given(message=messages, cut=st.integers(1, 30))
def test_a_cut_message_is_refused(message, cut):
    data = encode(message)
    try:
        shorter = decode(type(message), data[:-cut])
    except ValueError:
        return
    assert isinstance(shorter, type(message))  # only where what was cut is padding or an empty end


def test_image_data_is_a_view():
    data = encode(Image(Header(Time(), ""), 100, 100, "mono8", 0, 100, np.zeros(10_000, np.uint8)))
    assert decode(Image, data).data.base is not None


def test_names_and_texts():
    assert dds_name("std_msgs/msg/String") == "std_msgs::msg::dds_::String_"
    assert "uint8 TRIGGER_PROACTIVE=5" in msg_text(Response) and "string text" in msg_text(Response)


@given(st.integers(-(2**60), 2**60))
def test_stamps_are_exact(stamp):
    assert Time.from_ns(stamp).ns == stamp


def typed(message):
    """The message as Cyclone DDS's own serializer takes it."""
    from vispeak_node.ros.idl import _struct

    def value(item):
        if isinstance(item, Message):
            return typed(item)
        if isinstance(item, tuple):
            return [typed(part) for part in item]
        # octets are unsigned there, whatever they mean
        octets = isinstance(item, np.ndarray) and item.dtype == np.int8
        return (item.view(np.uint8) if octets else item).tolist() if isinstance(item, np.ndarray) else item

    values = {entry.name: value(getattr(message, entry.name)) for entry in dataclasses.fields(message)}
    return structs(message.DIALECT, message.NAME, _struct)(**values)


@functools.cache
def structs(dialect, name, make):
    return make(dialect, name)


@settings(max_examples=200, deadline=None)
@given(messages)
def test_bytes_are_those_of_an_independent_serializer(message):
    pytest.importorskip("cyclonedds", reason="the DDS transport is not installed")
    assert encode(message)[4:] == bytes(typed(message).serialize())[4:]


def in_store(store, message):
    """The message as an object of a distribution's own definitions."""

    def value(item):
        if isinstance(item, Message):
            return in_store(store, item)
        return [in_store(store, part) for part in item] if isinstance(item, tuple) else item

    values = {entry.name: value(getattr(message, entry.name)) for entry in dataclasses.fields(message)}
    return store.types[message.NAME](**values)


@pytest.mark.parametrize("store", [Stores.ROS2_HUMBLE, Stores.ROS2_JAZZY, Stores.LATEST], ids=lambda store: store.name)
def test_bytes_are_those_of_every_distribution(store):
    theirs = get_typestore(store)
    for message in EXAMPLES:
        assert encode(message) == bytes(theirs.serialize_cdr(in_store(theirs, message), message.NAME))


CAM = Header(Time(5, 6), "cam")
EXAMPLES = (
    CAM,
    String("hi"),
    Image(CAM, 2, 3, "mono8", 0, 3, np.arange(6, dtype=np.uint8)),
    CompressedImage(CAM, "png", np.arange(5, dtype=np.uint8)),
    DiagnosticArray(CAM, (DiagnosticStatus(1, "n", "m", "h", (KeyValue("k", "v"),)),)),
)
HASHES = {  # a change of a message is a change for everybody who subscribes: it must be meant
    "Response": "324868d99df0a9dc",
    "Anomaly": "4be07d2e32ef1000",
    "Gesture": "aed8fb0ca7b09b45",
    "Attention": "98f9bb533bb71e6b",
    "State": "91ceb5b26611a4e7",
}


def test_our_types_change_only_on_purpose():
    assert {kind.__name__: type_hash(kind).removeprefix("RIHS01_")[:16] for kind in OURS} == HASHES
