"""Topics of any type as raw CDR bytes: what a bag needs, which neither reads nor makes messages.

A type is one of the node's own, or is built from a definition: the bag's, or that of a ROS 2 release.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.idl import dds_name, raw_type
from vispeak_node.ros.message import Message, full_name
from vispeak_node.ros.messages import ALL
from vispeak_node.ros.schema import type_hash, typestore

_NAME = re.compile(r"[A-Za-z]\w*/msg/[A-Za-z]\w*", re.ASCII)
_MOST_TEXT = 2**20  # characters of a definition


class RawNode(DdsNode):
    """A participant for topics of any type."""

    def __enter__(self) -> RawNode:
        return self

    def _struct(self, kind: type[Message]) -> Any:
        return raw_type(kind) if kind in ALL else _foreign(kind.DIALECT, kind.NAME)


def is_plain_cdr(data: bytes) -> bool:
    """Whether bytes begin as a message of a ROS 2 graph does."""
    return len(data) >= 4 and data[0] == 0 and data[1] in (0, 1)


def kind_of(name: str, definition: str = "", idl: bool = False) -> type[Message]:
    """A message type by its name, `std_msgs/msg/String` or `std_msgs/String`.

    Args:
        name: of the type.
        definition: its text and that of the types in it; empty where only the name is known.
        idl: whether that is OMG IDL and not the text of .msg files.

    Raises:
        ValueError: it is unknown, or its definition makes no sense.
    """
    name = name if name.count("/") == 2 else full_name(name)
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is not a message type such as std_msgs/msg/String")
    if definition:
        return _defined(name, definition, idl)
    known = next((kind for kind in ALL if name == kind.NAME and not kind.DIALECT), None)
    if known is not None:
        return known
    release = _release()
    if name not in release.fielddefs:
        raise ValueError(f"the type {name} is unknown, and nothing here defines it")
    return _defined(name, release.generate_msgdef(name, ros_version=2)[0], False)


def definition_of(kind: type[Message]) -> tuple[str, str]:
    """A type's text with that of the types in it, and its hash."""
    store = typestore(kind.DIALECT)
    return store.generate_msgdef(kind.NAME, ros_version=2)[0], store.hash_rihs01(kind.NAME)


@functools.cache
def _release() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)


@functools.cache
def _defined(name: str, definition: str, idl: bool) -> type[Message]:
    """The node's own type if it is the same, else a type made of the definition."""
    if len(definition) > _MOST_TEXT:
        raise ValueError(f"{name}: a definition of {len(definition)} characters")
    try:
        types = get_types_from_idl(definition) if idl else get_types_from_msg(definition, name)
        # the store makes code of them
        if not all(_NAME.fullmatch(str(found)) for found in types):
            raise ValueError("a type in it has no proper name")
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        digest = store.hash_rihs01(name)
        own = next((kind for kind in ALL if name == kind.NAME and type_hash(kind) == digest), None)
        if own is not None:
            return own
        dialect = f"bag {hashlib.sha256(definition.encode()).hexdigest()}"
        typestore(dialect).register(types)
    except Exception as error:
        raise ValueError(f"{name}: its definition cannot be used ({type(error).__name__})") from error
    return type("Foreign", (Message,), {"NAME": name, "DIALECT": dialect, "__doc__": f"{name} as a bag defines it."})


@functools.cache
def _foreign(dialect: str, name: str) -> Any:
    """A DDS type like `idl.raw_type`, from a store's definition."""
    struct = _struct(typestore(dialect), name)

    def init(self: Any, cdr: bytes) -> None:
        self.cdr = cdr

    def deserialize(cls: Any, data: bytes, *_: Any, **__: Any) -> Any:
        return cls(bytes(data))

    struct.__init__ = init
    struct.serialize = lambda self, *_, **__: self.cdr
    struct.deserialize = struct.deserialize_key = classmethod(deserialize)
    return struct


def _struct(store: Typestore, name: str) -> Any:
    from cyclonedds.idl import make_idl_struct  # noqa: PLC0415 - as above

    whole = dds_name(name)
    members = {field: _member(store, name, description) for field, description in store.fielddefs[name][1]}
    return make_idl_struct(whole.rsplit("::", 1)[1], whole, members)


def _member(store: Typestore, owner: str, description: Any) -> Any:
    from cyclonedds.idl import types  # noqa: PLC0415 - as above

    form, detail = description
    if form == Nodetype.NAME:
        return _struct(store, detail)
    if form in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        inner, length = _member(store, owner, detail[0]), detail[1]
        maker: Any = types.array if form == Nodetype.ARRAY else types.sequence
        return maker[inner, length] if length else maker[inner]
    base, bound = detail
    if base == "string":
        bounded: Any = types.bounded_str
        return bounded[bound] if bound else str
    if base in ("uint8", "int8", "char", "byte", "octet"):
        return types.byte  # see `idl`: a type object with uint8 makes older peers crash
    if base == "bool":
        return bool
    plain = getattr(types, base, None) if base in _NUMBERS else None
    if plain is None:
        raise ValueError(f"{owner}: a {base} cannot cross DDS here")
    return plain


_NUMBERS = ("int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
