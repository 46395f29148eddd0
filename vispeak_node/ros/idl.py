"""Message dataclasses as Cyclone DDS types that carry raw CDR bytes.

The type object is only announced, so that peers and tools know the type; the samples stay bytes. Octets are `byte`: a
type object with uint8 makes every Cyclone DDS 0.10 process on the domain crash.
"""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import Any

from vispeak_node.ros.messages import BY_NAME, Message
from vispeak_node.ros.schema import full_name


def dds_name(ros_name: str) -> str:
    """`std_msgs/msg/String` as DDS knows it."""
    package, _, name = ros_name.split("/")
    return f"{package}::msg::dds_::{name}_"


def raw_type(kind: type[Message]) -> Any:
    """A DDS type for `kind` whose samples are objects with one attribute, `cdr`, the bytes."""
    return _raw_type(kind.NAME)


@functools.cache
def _raw_type(name: str) -> Any:
    struct = _struct(name)

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


def _struct(name: str) -> Any:
    from cyclonedds.idl import make_idl_struct  # noqa: PLC0415 - the node's transport, absent on some machines

    package_and_name = dds_name(name)
    members = {entry.name: _member(entry.metadata["ros"]) for entry in fields(BY_NAME[name])}
    return make_idl_struct(package_and_name.rsplit("::", 1)[1], package_and_name, members)


@functools.cache
def _nested(name: str) -> Any:
    return _struct(name)


def _member(ros_type: str) -> Any:
    from cyclonedds.idl import types  # noqa: PLC0415 - as above

    if ros_type.endswith("[]"):
        sequence: Any = types.sequence  # indexable only at run time
        return sequence[_member(ros_type[:-2])]
    plain = {
        "bool": bool,
        "string": str,
        "uint8": types.byte,
        "int32": types.int32,
        "uint32": types.uint32,
        "float32": types.float32,
        "float64": types.float64,
    }
    return plain[ros_type] if ros_type in plain else _nested(full_name(ros_type))
