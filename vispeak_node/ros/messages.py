"""Every message of the graph, once: plain dataclasses whose fields name their ROS types.

The .msg files, the CDR codec and the DDS types all follow from these (see `schema`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vispeak_node.stream.events import NANOSECONDS


def ros(kind: str, comment: str = "", default: Any = None) -> Any:
    """A field of a ROS type, e.g. `uint32`, `string`, `uint8[]`, `std_msgs/Header`."""
    metadata = {"ros": kind, "comment": comment}
    return field(metadata=metadata) if default is None else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Message:
    """What all messages share: a ROS name, and constants for the .msg file."""

    NAME: ClassVar[str] = ""
    CONSTANTS: ClassVar[dict[str, tuple[str, int]]] = {}  # name -> type, value


@dataclass(frozen=True)
class Time(Message):
    """A stamp."""

    NAME: ClassVar[str] = "builtin_interfaces/msg/Time"
    sec: int = ros("int32", default=0)
    nanosec: int = ros("uint32", default=0)

    @classmethod
    def from_ns(cls, stamp: int) -> Time:
        """From integer nanoseconds."""
        return cls(stamp // NANOSECONDS, stamp % NANOSECONDS)

    @property
    def ns(self) -> int:
        """As integer nanoseconds."""
        return self.sec * NANOSECONDS + self.nanosec


@dataclass(frozen=True)
class Header(Message):
    """Where and when."""

    NAME: ClassVar[str] = "std_msgs/msg/Header"
    stamp: Time = ros("builtin_interfaces/Time")
    frame_id: str = ros("string")


@dataclass(frozen=True)
class String(Message):
    """A plain text."""

    NAME: ClassVar[str] = "std_msgs/msg/String"
    data: str = ros("string")


@dataclass(frozen=True, eq=False)
class Image(Message):
    """An uncompressed picture; `data` is a view of the received bytes."""

    NAME: ClassVar[str] = "sensor_msgs/msg/Image"
    header: Header = ros("std_msgs/Header")
    height: int = ros("uint32")
    width: int = ros("uint32")
    encoding: str = ros("string")
    is_bigendian: int = ros("uint8")
    step: int = ros("uint32")
    data: NDArray[np.uint8] = ros("uint8[]")


@dataclass(frozen=True, eq=False)
class CompressedImage(Message):
    """A picture as a JPEG or PNG file."""

    NAME: ClassVar[str] = "sensor_msgs/msg/CompressedImage"
    header: Header = ros("std_msgs/Header")
    format: str = ros("string")
    data: NDArray[np.uint8] = ros("uint8[]")


@dataclass(frozen=True, eq=False)
class AudioData(Message):
    """Bytes of sound (ros-drivers' dialect of audio_common_msgs)."""

    NAME: ClassVar[str] = "audio_common_msgs/msg/AudioData"
    data: NDArray[np.uint8] = ros("uint8[]")


@dataclass(frozen=True, eq=False)
class AudioDataStamped(Message):
    """Bytes of sound with the time of their first sample."""

    NAME: ClassVar[str] = "audio_common_msgs/msg/AudioDataStamped"
    header: Header = ros("std_msgs/Header")
    audio: AudioData = ros("audio_common_msgs/AudioData")


@dataclass(frozen=True)
class AudioInfo(Message):
    """What the bytes of sound mean."""

    NAME: ClassVar[str] = "audio_common_msgs/msg/AudioInfo"
    channels: int = ros("uint8")
    sample_rate: int = ros("uint32")
    sample_format: str = ros("string")
    bitrate: int = ros("uint32")
    coding_format: str = ros("string")


@dataclass(frozen=True)
class Response(Message):
    """One thing that the assistant said."""

    NAME: ClassVar[str] = "vispeak_msgs/msg/Response"
    CONSTANTS: ClassVar[dict[str, tuple[str, int]]] = {
        "TRIGGER_QUERY": ("uint8", 0),
        "TRIGGER_GESTURE": ("uint8", 1),
        "TRIGGER_WAKE": ("uint8", 2),
        "TRIGGER_INTERRUPT": ("uint8", 3),
        "TRIGGER_ANOMALY": ("uint8", 4),
        "TRIGGER_PROACTIVE": ("uint8", 5),
    }
    header: Header = ros("std_msgs/Header", "stamp: newest moment read when the reply ended; frame_id: the camera's")
    id: str = ros("string", "the same for all messages of one reply")
    seq: int = ros("uint32", "counts the messages of one reply")
    is_final: bool = ros("bool", "the reply is over")
    trigger: int = ros("uint8", "why the assistant spoke, one of TRIGGER_*")
    text: str = ros("string")
    trigger_label: str = ros("string", "visual, text or voice")
    confidence: float = ros("float32", "how strongly the moment called for words")
    segment_start: Time = ros("builtin_interfaces/Time", "the moment that triggered the reply")
    latency_s: float = ros("float32", "s from that moment's arrival to this message")
    interrupted: bool = ros("bool", "cut short by a new trigger, a reset or the length limit")


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


ALL: tuple[type[Message], ...] = (
    Time, Header, String, Image, CompressedImage, AudioData, AudioDataStamped, AudioInfo, Response, Attention,
)  # fmt: skip
BY_NAME: dict[str, type[Message]] = {message.NAME: message for message in ALL}
