"""What follows from the message dataclasses: .msg texts, type hashes, and the CDR codec.

The codec is rosbags': byte arrays stay numpy views, where a typed DDS reader would make a list of integers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vispeak_node.ros.message import Message, element, full_name
from vispeak_node.ros.messages import ALL, nested

Kind = TypeVar("Kind", bound=Message)
MAX_MESSAGE = 64 * 2**20  # bytes


def msg_text(kind: type[Message], comments: Mapping[str, str] | None = None) -> str:
    """The text of a message's .msg file.

    Args:
        kind: the message.
        comments: of its constants, by name; the fields have their own.
    """
    lines = [f"# {line}".rstrip() for line in (kind.__doc__ or "").splitlines()[:1]]
    for name, (type_, value) in kind.CONSTANTS.items():
        lines.append(f"{type_} {name}={value}" + _comment((comments or {}).get(name, "")))
    for entry in fields(kind):
        lines.append(f"{entry.metadata['ros']} {entry.name}" + _comment(entry.metadata["comment"]))
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return f"  # {text}" if text else ""


@functools.cache
def typestore(dialect: str = "") -> Typestore:
    """A rosbags store with the messages of one dialect and nothing else."""
    store = get_typestore(Stores.EMPTY)
    types: dict[str, Any] = {}
    for kind in sorted(ALL, key=lambda kind: dialect == kind.DIALECT):  # the dialect's own come last and stay
        if kind.DIALECT in ("", dialect):
            types.update(get_types_from_msg(msg_text(kind), kind.NAME))
    store.register(types)
    return store


def type_hash(kind: type[Message]) -> str:
    """The RIHS01 hash that ROS 2 announces for a type."""
    return str(typestore(kind.DIALECT).hash_rihs01(kind.NAME))


def encode(message: Message) -> bytes:
    """A message as XCDR1 bytes, little endian, with the four bytes of encapsulation header."""
    return bytes(typestore(message.DIALECT).serialize_cdr(_to_rosbags(message), message.NAME))


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
        parsed = typestore(kind.DIALECT).deserialize_cdr(data, kind.NAME)
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
        elif isinstance(value, tuple):
            plain[entry.name] = [to_plain(item, most_bytes) for item in value]
        elif isinstance(value, np.ndarray):
            plain[entry.name] = value.tolist() if value.size <= most_bytes else f"<{value.size} bytes>"
        else:
            plain[entry.name] = value
    return plain


def _to_rosbags(message: Message) -> Any:
    values = {}
    for entry in fields(message):
        value = getattr(message, entry.name)
        if isinstance(value, Message):
            value = _to_rosbags(value)
        elif isinstance(value, tuple):
            value = [_to_rosbags(item) for item in value]
        values[entry.name] = value
    return typestore(message.DIALECT).types[message.NAME](**values)


def _from_rosbags(kind: type[Kind], parsed: Any) -> Kind:
    values = {}
    for entry in fields(kind):
        value = getattr(parsed, entry.name)
        ros_type = entry.metadata["ros"]
        inner = nested(kind.DIALECT, full_name(element(ros_type)))
        if inner is not None:
            many = ros_type.endswith("]")
            value = tuple(_from_rosbags(inner, item) for item in value) if many else _from_rosbags(inner, value)
        values[entry.name] = value
    return kind(**values)
