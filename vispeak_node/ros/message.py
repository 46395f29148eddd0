"""What a message is: a plain dataclass whose fields name their ROS types.

The .msg files, the CDR codec, the DDS types and the rclpy conversion all follow from these (see `schema`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


def ros(kind: str, comment: str = "", default: Any = None) -> Any:
    """A field of a ROS type, e.g. `uint32`, `string`, `uint8[]`, `std_msgs/Header`, `diagnostic_msgs/KeyValue[]`."""
    metadata = {"ros": kind, "comment": comment}
    return field(metadata=metadata) if default is None else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Message:
    """What all messages share: a ROS name, and constants for the .msg file."""

    NAME: ClassVar[str] = ""
    DIALECT: ClassVar[str] = ""  # tells two packages apart that have the same name
    CONSTANTS: ClassVar[dict[str, tuple[str, int]]] = {}  # name -> type, value


def full_name(ros_type: str) -> str:
    """`std_msgs/Header` as `std_msgs/msg/Header`; a basic type as itself."""
    package, slash, name = ros_type.partition("/")
    return f"{package}/msg/{name}" if slash else ros_type


def element(ros_type: str) -> str:
    """The element's type of an array type, `uint8` of `uint8[]` or `uint8[16]`; anything else as itself."""
    return ros_type.partition("[")[0]
