"""The messages of other packages that the node speaks, field by field as ROS 2 defines them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vispeak_node.ros.message import Message, ros
from vispeak_node.stream.events import NANOSECONDS


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


@dataclass(frozen=True)
class Bool(Message):
    """Yes or no."""

    NAME: ClassVar[str] = "std_msgs/msg/Bool"
    data: bool = ros("bool")


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


@dataclass(frozen=True, eq=False)
class AudioArrays(Message):
    """Samples in whichever type they were recorded (the other dialect of audio_common_msgs, by mgonzs13)."""

    NAME: ClassVar[str] = "audio_common_msgs/msg/AudioData"
    DIALECT: ClassVar[str] = "mgonzs13"
    float32_data: NDArray[np.float32] = ros("float32[]")
    int32_data: NDArray[np.int32] = ros("int32[]")
    int16_data: NDArray[np.int16] = ros("int16[]")
    int8_data: NDArray[np.int8] = ros("int8[]")
    uint8_data: NDArray[np.uint8] = ros("uint8[]")


@dataclass(frozen=True)
class AudioFormat(Message):
    """What the samples mean (mgonzs13)."""

    NAME: ClassVar[str] = "audio_common_msgs/msg/AudioInfo"
    DIALECT: ClassVar[str] = "mgonzs13"
    format: int = ros("int32")  # PortAudio's number: 1 float32, 2 int32, 8 int16, 16 int8, 32 uint8
    channels: int = ros("int32")
    rate: int = ros("int32")
    chunk: int = ros("int32")


@dataclass(frozen=True, eq=False)
class Audio(Message):
    """Sound and its format (mgonzs13)."""

    NAME: ClassVar[str] = "audio_common_msgs/msg/Audio"
    DIALECT: ClassVar[str] = "mgonzs13"
    audio_data: AudioArrays = ros("audio_common_msgs/AudioData")
    info: AudioFormat = ros("audio_common_msgs/AudioInfo")


@dataclass(frozen=True, eq=False)
class AudioStamped(Message):
    """Sound, its format and the time of its first sample (mgonzs13)."""

    NAME: ClassVar[str] = "audio_common_msgs/msg/AudioStamped"
    DIALECT: ClassVar[str] = "mgonzs13"
    header: Header = ros("std_msgs/Header")
    audio: Audio = ros("audio_common_msgs/Audio")


@dataclass(frozen=True)
class HriGesture(Message):
    """A gesture as ROS4HRI (REP 155) knows it: without confidence, label or person."""

    NAME: ClassVar[str] = "hri_msgs/msg/Gesture"
    header: Header = ros("std_msgs/Header")
    gesture: int = ros("uint8")


@dataclass(frozen=True)
class ObjectHypothesis(Message):
    """One class and how likely it is."""

    NAME: ClassVar[str] = "vision_msgs/msg/ObjectHypothesis"
    class_id: str = ros("string")
    score: float = ros("float64")


@dataclass(frozen=True)
class Classification(Message):
    """What a whole picture shows."""

    NAME: ClassVar[str] = "vision_msgs/msg/Classification"
    header: Header = ros("std_msgs/Header")
    results: tuple[ObjectHypothesis, ...] = ros("vision_msgs/ObjectHypothesis[]")


@dataclass(frozen=True)
class KeyValue(Message):
    """One line of a diagnosis."""

    NAME: ClassVar[str] = "diagnostic_msgs/msg/KeyValue"
    key: str = ros("string")
    value: str = ros("string")


@dataclass(frozen=True)
class DiagnosticStatus(Message):
    """The health of one part."""

    NAME: ClassVar[str] = "diagnostic_msgs/msg/DiagnosticStatus"
    CONSTANTS: ClassVar[dict[str, tuple[str, int]]] = {
        "OK": ("byte", 0),
        "WARN": ("byte", 1),
        "ERROR": ("byte", 2),
        "STALE": ("byte", 3),
    }
    level: int = ros("byte")
    name: str = ros("string")
    message: str = ros("string")
    hardware_id: str = ros("string")
    values: tuple[KeyValue, ...] = ros("diagnostic_msgs/KeyValue[]")


@dataclass(frozen=True)
class DiagnosticArray(Message):
    """The health of a node."""

    NAME: ClassVar[str] = "diagnostic_msgs/msg/DiagnosticArray"
    header: Header = ros("std_msgs/Header")
    status: tuple[DiagnosticStatus, ...] = ros("diagnostic_msgs/DiagnosticStatus[]")


@dataclass(frozen=True, eq=False)
class Gid(Message):
    """Identity of an endpoint or a participant (since Iron; Humble's is eight octets longer)."""

    NAME: ClassVar[str] = "rmw_dds_common/msg/Gid"
    data: NDArray[np.uint8] = ros("char[16]")


@dataclass(frozen=True)
class NodeEntitiesInfo(Message):
    """A node and its endpoints."""

    NAME: ClassVar[str] = "rmw_dds_common/msg/NodeEntitiesInfo"
    node_namespace: str = ros("string<=256")
    node_name: str = ros("string<=256")
    reader_gid_seq: tuple[Gid, ...] = ros("rmw_dds_common/Gid[]")
    writer_gid_seq: tuple[Gid, ...] = ros("rmw_dds_common/Gid[]")


@dataclass(frozen=True)
class ParticipantEntitiesInfo(Message):
    """The nodes of a participant: what `ros2 node list` reads."""

    NAME: ClassVar[str] = "rmw_dds_common/msg/ParticipantEntitiesInfo"
    gid: Gid = ros("rmw_dds_common/Gid")
    node_entities_info_seq: tuple[NodeEntitiesInfo, ...] = ros("rmw_dds_common/NodeEntitiesInfo[]")
