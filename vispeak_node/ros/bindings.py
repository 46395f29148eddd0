"""What ties the node's own messages and topics to rclpy: generated classes, quality of service, callbacks.

Imported by the rclpy node only: it needs a ROS 2 environment.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from vispeak_node.ros.assistant import Assistant
from vispeak_node.ros.message import Message
from vispeak_node.ros.schema import decode
from vispeak_node.ros.topics import RELATIVE, Delivery, Topic, TopicNames


def prefixed(camera: str) -> TopicNames:
    """The node's relative topics under a camera's name."""
    if not camera:
        return RELATIVE
    names = {field: value for field, value in vars(RELATIVE).items() if not value.startswith("/")}
    return replace(RELATIVE, **{field: f"{camera}/{value}" for field, value in names.items()})


def ros_type(kind: type[Message]) -> Any:
    """The generated class of a message.

    Raises:
        ValueError: its package is not installed.
    """
    package, _, name = kind.NAME.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{kind.NAME} is not installed ({error}): build or install the package {package}") from error


def taker(topic: Topic, handler: Callable[[Any], None], assistant: Assistant) -> Callable[[bytes], None]:
    """A callback for a raw subscription."""

    def take(data: bytes) -> None:
        try:
            handler(decode(topic.kind, data))
        except ValueError as error:
            assistant.on_bad(topic.name, error)

    return take


def task(assistant: Assistant) -> Callable[[Any], Any]:
    """What diagnostic_updater calls every period: the assistant's health."""

    def run(status: Any) -> Any:
        found = assistant.status()
        status.summary(bytes([found.level]), found.message)
        for pair in found.values:
            status.add(pair.key, pair.value)
        return status

    return run


def output_qos(topic: Topic) -> QoSProfile:
    """What an output topic promises."""
    latched = topic.delivery is Delivery.LATCHED
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    return QoSProfile(depth=1 if latched else 10, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
