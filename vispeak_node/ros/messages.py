"""What the node says (package vispeak_msgs), and every message of the graph by its name.

Fields are flat, kinds are numbers with names, scores are floats, so that behaviour trees can read them without code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vispeak_node.ros.message import Message, ros
from vispeak_node.ros.standard import (
    Audio,
    AudioArrays,
    AudioData,
    AudioDataStamped,
    AudioFormat,
    AudioInfo,
    AudioStamped,
    Bool,
    Classification,
    CompressedImage,
    DiagnosticArray,
    DiagnosticStatus,
    Gid,
    Header,
    HriGesture,
    Image,
    KeyValue,
    NodeEntitiesInfo,
    ObjectHypothesis,
    ParticipantEntitiesInfo,
    String,
    Time,
)


@dataclass(frozen=True)
class Response(Message):
    """Something that the assistant said: a whole reply on `response`, its pieces on `response/partial`."""

    NAME: ClassVar[str] = "vispeak_msgs/msg/Response"
    CONSTANTS: ClassVar[dict[str, tuple[str, int]]] = {
        "TRIGGER_QUERY": ("uint8", 0),  # somebody asked
        "TRIGGER_GESTURE": ("uint8", 1),
        "TRIGGER_WAKE": ("uint8", 2),  # somebody greeted the robot
        "TRIGGER_INTERRUPT": ("uint8", 3),  # somebody signalled it to be silent
        "TRIGGER_ANOMALY": ("uint8", 4),
        "TRIGGER_PROACTIVE": ("uint8", 5),  # the scene called for words; of what kind is not known
        "TRIGGER_REFERENCE": ("uint8", 6),  # somebody pointed at something
        "TRIGGER_HUMOR": ("uint8", 7),
        "TRIGGER_TERMINATION": ("uint8", 8),  # somebody waved goodbye
    }
    header: Header = ros("std_msgs/Header", "stamp: newest moment read when this was said; frame_id: the camera's")
    id: str = ros("string", "the same for all messages of one reply")
    seq: int = ros("uint32", "counts the messages of one reply")
    is_final: bool = ros("bool", "the reply is over; text is the whole of it")
    trigger: int = ros("uint8", "why the assistant spoke, one of TRIGGER_*")
    text: str = ros("string", "of a partial message: what is new")
    trigger_label: str = ros("string", "the event by name, such as wave; else visual, text or voice")
    confidence: float = ros("float32", "sum of the scores in the window; of an answer its first word's probability")
    segment_start: Time = ros("builtin_interfaces/Time", "the moment that triggered the reply")
    latency_s: float = ros("float32", "s from that moment's arrival to this message")
    interrupted: bool = ros("bool", "cut short by a new trigger, a reset or the length limit")


@dataclass(frozen=True)
class Anomaly(Message):
    """Something dangerous or abnormal began, or is over."""

    NAME: ClassVar[str] = "vispeak_msgs/msg/Anomaly"
    CONSTANTS: ClassVar[dict[str, tuple[str, int]]] = {
        "OK": ("uint8", 0),
        "WARN": ("uint8", 1),
        "ERROR": ("uint8", 2),
        "STALE": ("uint8", 3),
    }
    header: Header = ros("std_msgs/Header", "stamp: the moment that showed it, or that showed its end")
    id: str = ros("string", "the same when it is raised and when it is cleared")
    level: int = ros("uint8", "numbers of diagnostic_msgs/DiagnosticStatus")
    category: str = ros("string", "the event by name, such as fall")
    description: str = ros("string", "what the assistant said of it; empty when it is cleared")
    score: float = ros("float32", "0 to 1")
    segment_start: Time = ros("builtin_interfaces/Time", "the moment that raised it")
    active: bool = ros("bool", "true: raised; false: cleared")


@dataclass(frozen=True)
class Gesture(Message):
    """Somebody made a gesture that calls for a reaction."""

    NAME: ClassVar[str] = "vispeak_msgs/msg/Gesture"
    CONSTANTS: ClassVar[dict[str, tuple[str, int]]] = {
        "OTHER": ("uint8", 0),  # 0 to 6 are the numbers of hri_msgs/Gesture
        "HANDS_ON_FACE": ("uint8", 1),
        "ARMS_CROSSED": ("uint8", 2),
        "LEFT_HAND_RAISED": ("uint8", 3),
        "RIGHT_HAND_RAISED": ("uint8", 4),
        "BOTH_HANDS_RAISED": ("uint8", 5),
        "WAVING": ("uint8", 6),
        "STOP": ("uint8", 64),
        "POINTING": ("uint8", 65),
        "GOODBYE": ("uint8", 66),
    }
    header: Header = ros("std_msgs/Header", "stamp: the moment that showed it")
    gesture: int = ros("uint8", "one of the above")
    label: str = ros("string", "the event by name, such as wave")
    confidence: float = ros("float32", "0 to 1, among the kinds of events")
    person_id: str = ros("string", "empty: people are not told apart")


@dataclass(frozen=True)
class Attention(Message):
    """How much one moment called for words."""

    NAME: ClassVar[str] = "vispeak_msgs/msg/Attention"
    header: Header = ros("std_msgs/Header", "the moment")
    score: float = ros("float32", "of this moment alone, 0 to 1")
    total: float = ros("float32", "sum over the last moments; a reply starts above the threshold")
    threshold: float = ros("float32")
    speaking: bool = ros("bool", "a reply was under way")
    fired: bool = ros("bool", "this moment started a reply")


@dataclass(frozen=True)
class State(Message):
    """What the node is doing; latched, so a late subscriber knows it too."""

    NAME: ClassVar[str] = "vispeak_msgs/msg/State"
    CONSTANTS: ClassVar[dict[str, tuple[str, int]]] = {
        "LOADING": ("uint8", 0),
        "IDLE": ("uint8", 1),  # switched off, or nothing comes in
        "LISTENING": ("uint8", 2),
        "SPEAKING": ("uint8", 3),
        "OVERLOADED": ("uint8", 4),  # the model is slower than the world
        "ERROR": ("uint8", 5),
    }
    header: Header = ros("std_msgs/Header", "stamp: newest moment read")
    state: int = ros("uint8", "one of the above")
    segment_rate: float = ros("float32", "segments read per s")
    lag_s: float = ros("float32", "s that the newest segment waited and took")
    dropped_segments: int = ros("uint32", "since the start")


STANDARD: tuple[type[Message], ...] = (
    Time, Header, String, Bool, Image, CompressedImage, AudioData, AudioDataStamped, AudioInfo, AudioArrays,
    AudioFormat, Audio, AudioStamped, KeyValue, DiagnosticStatus, DiagnosticArray, Gid, NodeEntitiesInfo,
    ParticipantEntitiesInfo, HriGesture, ObjectHypothesis, Classification,
)  # fmt: skip
OURS: tuple[type[Message], ...] = (Response, Anomaly, Gesture, Attention, State)
ALL: tuple[type[Message], ...] = (*STANDARD, *OURS)
BY_NAME: dict[str, type[Message]] = {message.NAME: message for message in ALL if not message.DIALECT}


def nested(dialect: str, name: str) -> type[Message] | None:
    """The message of this full name as a dialect knows it; None for a basic type."""
    own = next((kind for kind in ALL if name == kind.NAME and dialect == kind.DIALECT), None)
    return own or BY_NAME.get(name)
