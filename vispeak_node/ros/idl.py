"""Message dataclasses as Cyclone DDS types that carry raw CDR bytes.

The type object is only announced, so that peers and tools know the type; the samples stay bytes. Octets are `byte`: a
type object with uint8 makes every Cyclone DDS 0.10 process on the domain crash.
"""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import Any

from vispeak_node.ros.message import Message, element, full_name
from vispeak_node.ros.messages import nested


def dds_name(ros_name: str) -> str:
    """`std_msgs/msg/String` as DDS knows it."""
    package, _, name = ros_name.split("/")
    return f"{package}::msg::dds_::{name}_"


def raw_type(kind: type[Message]) -> Any:
    """A DDS type for `kind` whose samples are objects with one attribute, `cdr`, the bytes."""
    return _raw_type(kind.DIALECT, kind.NAME)


@functools.cache
def _raw_type(dialect: str, name: str) -> Any:
    struct = _struct(dialect, name)

    def init(self: Any, cdr: bytes) -> None:
        self.cdr = cdr

    def deserialize(cls: Any, data: bytes, *_: Any, **__: Any) -> Any:
        return cls(bytes(data))

    struct.__init__ = init
    struct.serialize = lambda self, *_, **__: self.cdr
    struct.deserialize = classmethod(deserialize)
    # called for samples without data, which announce that a writer left
    struct.deserialize_key = classmethod(deserialize)
    return struct


def _struct(dialect: str, name: str) -> Any:
    from cyclonedds.idl import make_idl_struct  # noqa: PLC0415 - the node's transport, absent on some machines

    kind = nested(dialect, name)
    assert kind is not None, name
    package_and_name = dds_name(kind.NAME)
    members = {entry.name: _member(kind.DIALECT, entry.metadata["ros"]) for entry in fields(kind)}
    return make_idl_struct(package_and_name.rsplit("::", 1)[1], package_and_name, members)


@functools.cache
def _nested(dialect: str, name: str) -> Any:
    return _struct(dialect, name)


def _member(dialect: str, ros_type: str) -> Any:
    from cyclonedds.idl import types  # noqa: PLC0415 - as above

    if ros_type.endswith("]"):
        inner, length = _member(dialect, element(ros_type)), ros_type[ros_type.index("[") + 1 : -1]
        sequence: Any = types.sequence  # indexable only at run time
        array: Any = types.array
        return array[inner, int(length)] if length else sequence[inner]
    bounded: Any = types.bounded_str
    plain = {
        "bool": bool,
        "string": str,
        "string<=256": bounded[256],
        "byte": types.byte,
        "char": types.byte,
        "uint8": types.byte,
        "int8": types.byte,
        "int16": types.int16,
        "int32": types.int32,
        "uint32": types.uint32,
        "float32": types.float32,
        "float64": types.float64,
    }
    return plain[ros_type] if ros_type in plain else _nested(dialect, full_name(ros_type))
