"""The node's topics in one table: name, type, quality of service, direction. Transports and docs follow from it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from vispeak_node.ros.message import Message
from vispeak_node.ros.messages import (
    Anomaly,
    Attention,
    AudioDataStamped,
    AudioInfo,
    AudioStamped,
    Bool,
    Classification,
    CompressedImage,
    DiagnosticArray,
    Gesture,
    HriGesture,
    Image,
    Response,
    State,
    String,
)


class Delivery(Enum):
    """Quality of service, by what a topic is for."""

    SENSOR = "sensor"  # best effort, last 5: subscribers match every camera
    RELIABLE = "reliable"  # last 10: what behaviour trees need, and a player for which every frame counts
    LATCHED = "latched"  # reliable, transient local, last 1: a late subscriber gets the newest


@dataclass(frozen=True)
class Topic:
    """One topic."""

    name: str  # in a graph without remapping
    kind: type[Message]
    delivery: Delivery
    about: str


@dataclass(frozen=True)
class TopicNames:
    """Topics of the node."""

    image: str = "/camera/image_raw"  # sensor_msgs/Image
    compressed: str = "/camera/image_raw/compressed"  # sensor_msgs/CompressedImage
    audio: str = "/audio"  # audio_common_msgs/AudioDataStamped, or AudioStamped in mgonzs13's dialect
    audio_info: str = "/audio_info"  # audio_common_msgs/AudioInfo, of ros-drivers' dialect only
    query: str = "/vispeak/query"  # std_msgs/String
    enable: str = "/vispeak/enable"  # std_msgs/Bool
    reset: str = "/vispeak/reset"  # std_msgs/Bool
    response: str = "/vispeak/response"  # vispeak_msgs/Response
    partial: str = "/vispeak/response/partial"  # vispeak_msgs/Response
    response_text: str = "/vispeak/response_text"  # std_msgs/String
    anomaly: str = "/vispeak/anomaly"  # vispeak_msgs/Anomaly
    anomaly_active: str = "/vispeak/anomaly_active"  # std_msgs/Bool
    gesture: str = "/vispeak/gesture"  # vispeak_msgs/Gesture
    attention: str = "/vispeak/attention"  # vispeak_msgs/Attention
    state: str = "/vispeak/state"  # vispeak_msgs/State
    diagnostics: str = "/diagnostics"  # diagnostic_msgs/DiagnosticArray
    hri_gesture: str = "/vispeak/hri_gesture"  # hri_msgs/Gesture, with the bridge hri_msgs
    classification: str = "/vispeak/classification"  # vision_msgs/Classification, with the bridge vision_msgs


RELATIVE = TopicNames(
    "image", "image/compressed", "audio", "audio_info", "query", "enable", "reset", "response", "response/partial",
    "response_text", "anomaly", "anomaly_active", "gesture", "attention", "state", "/diagnostics",
    "hri_gesture", "classification",
)  # fmt: skip


def inputs(names: TopicNames, dialect: str = "ros-drivers", audio: bool = True) -> list[Topic]:
    """What the node subscribes to."""
    sensor, reliable = Delivery.SENSOR, Delivery.RELIABLE
    topics = [
        Topic(names.image, Image, sensor, "frames: rgb8, bgr8, rgba8, bgra8, mono8, yuv422_yuy2"),
        Topic(names.compressed, CompressedImage, sensor, "frames as jpeg or png"),
        Topic(names.query, String, reliable, "a typed question"),
        Topic(names.enable, Bool, reliable, "false: the node rests; true: it goes on"),
        Topic(names.reset, Bool, reliable, "true: the node forgets what it saw and said"),
    ]
    if audio and dialect == "mgonzs13":
        topics.append(Topic(names.audio, AudioStamped, sensor, "sound with its format"))
    elif audio:
        topics.append(Topic(names.audio, AudioDataStamped, sensor, "16-bit PCM, described by audio_info"))
        topics.append(Topic(names.audio_info, AudioInfo, sensor, "what the bytes of sound mean"))
    return topics


BRIDGES = ("hri_msgs", "vision_msgs")


def outputs(names: TopicNames, bridges: Collection[str] = ()) -> list[Topic]:
    """What the node publishes; the topics of other packages' messages only where their bridge is asked for."""
    reliable, latched = Delivery.RELIABLE, Delivery.LATCHED
    extra = {
        "hri_msgs": Topic(names.hri_gesture, HriGesture, reliable, "gestures as ROS4HRI numbers them"),
        "vision_msgs": Topic(names.classification, Classification, reliable, "every frame's kinds of events"),
    }
    return [
        *(extra[bridge] for bridge in bridges),
        Topic(names.response, Response, reliable, "every finished reply"),
        Topic(names.partial, Response, reliable, "a reply's pieces while it is spoken"),
        Topic(names.response_text, String, reliable, "a finished reply's words alone"),
        Topic(names.anomaly, Anomaly, reliable, "something dangerous or abnormal: raised, and cleared"),
        Topic(names.anomaly_active, Bool, latched, "whether an anomaly is raised now"),
        Topic(names.gesture, Gesture, reliable, "somebody waved, pointed, signalled to stop, ..."),
        Topic(names.attention, Attention, reliable, "the score of every frame"),
        Topic(names.state, State, latched, "loading, idle, listening, speaking, overloaded, error"),
        Topic(names.diagnostics, DiagnosticArray, reliable, "rates, lag, drops, refusals, back ends; once a second"),
    ]
