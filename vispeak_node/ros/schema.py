"""What follows from the message dataclasses: .msg texts, type hashes, and the CDR codec.

The codec is rosbags': byte arrays stay numpy views, where a typed DDS reader would make a list of integers.
"""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vispeak_node.ros.messages import ALL, BY_NAME, Message

Kind = TypeVar("Kind", bound=Message)
MAX_MESSAGE = 64 * 2**20  # bytes


def msg_text(kind: type[Message]) -> str:
    """The text of a message's .msg file."""
    lines = [f"# {line}".rstrip() for line in (kind.__doc__ or "").splitlines()[:1]]
    lines += [f"{type_} {name}={value}" for name, (type_, value) in kind.CONSTANTS.items()]
    for entry in fields(kind):
        comment = entry.metadata["comment"]
        lines.append(f"{entry.metadata['ros']} {entry.name}" + (f"  # {comment}" if comment else ""))
    return "\n".join(lines) + "\n"


@functools.cache
def typestore() -> Typestore:
    """A rosbags store with our messages and nothing else."""
    store = get_typestore(Stores.EMPTY)
    types: dict[str, Any] = {}
    for kind in ALL:
        types.update(get_types_from_msg(msg_text(kind), kind.NAME))
    store.register(types)
    return store


def type_hash(kind: type[Message]) -> str:
    """The RIHS01 hash that ROS 2 announces for a type."""
    return str(typestore().hash_rihs01(kind.NAME))


def encode(message: Message) -> bytes:
    """A message as XCDR1 bytes, little endian, with the four bytes of encapsulation header."""
    return bytes(typestore().serialize_cdr(_to_rosbags(message), message.NAME))


def decode(kind: type[Kind], data: bytes) -> Kind:
    """A message from XCDR1 bytes of either endianness; byte arrays are views of `data`.

    Raises:
        ValueError: the bytes are no such message.
    """
    if len(data) < 4 or len(data) > MAX_MESSAGE:
        raise ValueError(f"{kind.NAME}: a message of {len(data)} bytes")
    if data[0] != 0 or data[1] not in (0, 1):
        raise ValueError(f"{kind.NAME}: encapsulation {data[:2].hex()} is not plain CDR")
    try:
        parsed = typestore().deserialize_cdr(data, kind.NAME)
    except Exception as error:
        raise ValueError(f"{kind.NAME}: not its CDR ({type(error).__name__})") from error
    return _from_rosbags(kind, parsed)


def to_plain(message: Message, most_bytes: int = 64) -> dict[str, Any]:
    """A message as what JSON knows; long byte arrays as their length."""
    plain: dict[str, Any] = {}
    for entry in fields(message):
        value = getattr(message, entry.name)
        if isinstance(value, Message):
            plain[entry.name] = to_plain(value, most_bytes)
        elif isinstance(value, np.ndarray):
            plain[entry.name] = value.tolist() if value.size <= most_bytes else f"<{value.size} bytes>"
        else:
            plain[entry.name] = value
    return plain


def _to_rosbags(message: Message) -> Any:
    values = {}
    for entry in fields(message):
        value = getattr(message, entry.name)
        values[entry.name] = _to_rosbags(value) if isinstance(value, Message) else value
    return typestore().types[message.NAME](**values)


def _from_rosbags(kind: type[Kind], parsed: Any) -> Kind:
    values = {}
    for entry in fields(kind):
        value = getattr(parsed, entry.name)
        nested = BY_NAME.get(full_name(entry.metadata["ros"]))
        values[entry.name] = value if nested is None else _from_rosbags(nested, value)
    return kind(**values)


def full_name(ros_type: str) -> str:
    """`std_msgs/Header` as `std_msgs/msg/Header`; a basic type as itself."""
    package, slash, name = ros_type.partition("/")
    return f"{package}/msg/{name}" if slash else ros_type
