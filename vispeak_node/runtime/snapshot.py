"""A session's memory and dialogue in one safetensors file, for a node that starts again.

The file has one tensor `frames/GROUP` [count, N, F] for each non-empty group of remembered frames, and one metadata
entry, JSON, with everything else and a SHA-256 over all of it. It is written beside the old one and renamed over it.
Nothing is allocated before the header was compared with what the session itself could hold.

Shape legend: N tokens of a frame, F width of a projector input.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vispeak_node.model.checkpoint import config_to_dict
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.dialogue import MAX_TURNS, Turn
from vispeak_node.runtime.memory.frame import Frame
from vispeak_node.runtime.session import Session

FORMAT, VERSION = "vispeak-snapshot", 1
_ENTRY = "vispeak"  # name of the metadata entry
_MAX_HEADER_BYTES = 4 * 2**20
_MAX_STAMP = 2**62
_MAX_TEXT = 65_536  # characters of a turn
_SAMPLES = 16  # values of each tensor that make a model's fingerprint


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What is kept of a session."""

    groups: dict[str, list[Frame]]  # by where they lie in the memory
    origin: int  # ns, where the remembered past begins
    num_offered: int  # frames seen
    turns: list[Turn]


def save_snapshot(session: Session, path: str | Path) -> None:
    """Saves what a session remembers; the old file stays until the new one is whole and on the disk.

    Call it from the thread that pushes.

    Raises:
        ValueError: the file cannot be written.
    """
    path, memory = Path(path), session.past.memory
    snapshot = Snapshot(memory.groups(), memory.origin, memory.num_offered, list(session.past.dialogue))
    data = to_bytes(snapshot, model_fingerprint(session.model), session.config.memory)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ValueError(f"{path}: the snapshot cannot be written: {error.strerror or error}") from error


def restore_snapshot(session: Session, path: str | Path) -> None:
    """Makes a fresh session remember what another one saved; its context is made anew from that.

    Raises:
        ValueError: the file is missing, damaged, cut short, of another version or model, or larger than this session's
            bounds; or the session has begun already. The session is as it was before.
    """
    if session.num_positions:
        raise ValueError("a snapshot is taken up before the first push")
    snapshot = load_snapshot(session, path)
    try:
        session.past.restore(snapshot.groups, snapshot.origin, snapshot.num_offered, snapshot.turns)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    session.rebuild()


def load_snapshot(session: Session, path: str | Path) -> Snapshot:
    """Reads a snapshot that fits a session, without changing the session.

    Raises:
        ValueError: as `restore_snapshot`.
    """
    path, memory = Path(path), session.past.memory
    shapes = {
        f"frames/{name}": (most, tokens, session.model.config.vision.feature_size)
        for name, (most, tokens) in memory.capacities().items()
    }
    most = _MAX_HEADER_BYTES + sum(count * tokens * width for count, tokens, width in shapes.values()) * 8
    try:
        data = _read(path, most)
        state = _checked_header(data, shapes)
        _check_origin(state, session)
        return _from_state(state, load(data), session)
    except (SafetensorError, OSError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a readable snapshot: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def model_fingerprint(model: ViSpeakModel) -> str:
    """Tells models apart: their shapes, type, and some values of every tensor."""
    digest = hashlib.sha256(json.dumps(config_to_dict(model.config), sort_keys=True).encode())
    digest.update(str(model.dtype).encode())
    for name, tensor in sorted(model.state_dict().items()):
        places = torch.linspace(0, max(tensor.numel() - 1, 0), _SAMPLES, dtype=torch.float64).long()
        values = tensor.detach().flatten()[places.to(tensor.device)] if tensor.numel() else tensor.flatten()
        digest.update(name.encode() + values.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def to_bytes(snapshot: Snapshot, model: str, memory: str) -> bytes:
    """A snapshot as the bytes of a safetensors file.

    Args:
        snapshot: what to write.
        model: fingerprint of the model that made the features.
        memory: the policy that kept them.
    """
    tensors = {
        f"frames/{name}": torch.stack([frame.features_NF for frame in frames]).contiguous().cpu()
        for name, frames in snapshot.groups.items()
        if frames
    }
    state: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        "memory": memory,
        "origin": snapshot.origin,
        "num_offered": snapshot.num_offered,
        "frames": {name: [[f.stamp, f.index] for f in frames] for name, frames in snapshot.groups.items() if frames},
        "turns": [[turn.stamp, turn.text, list(turn.token_ids)] for turn in snapshot.turns],
    }
    state["digest"] = _digest(state, tensors)
    return save(tensors, {_ENTRY: json.dumps(state)})


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces a file by a whole new one, readable by its owner only.

    The temporary name is always the same, so that a process that dies leaves at most one such file, which the next
    save overwrites. Two processes must not save to one path.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name is on the disk too
    finally:
        os.close(folder)


def _read(path: Path, most: int) -> bytes:
    if not path.is_file():
        raise ValueError("no such file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"{size} bytes are more than this session's memory can hold ({most})")
        return file.read(size)


def _checked_header(data: bytes, shapes: dict[str, tuple[int, int, int]]) -> dict[str, Any]:
    """The state of a file whose tensors are no larger than `shapes` and lie wholly in it."""
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 0 < length <= min(_MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError("damaged or cut short: its header is not whole")
    try:
        header = json.loads(data[8 : 8 + length])
        state = json.loads(header.pop("__metadata__")[_ENTRY])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("damaged, or not a snapshot: its header cannot be read") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError("not a snapshot")
    if state.get("version") != VERSION:
        raise ValueError(f"written in version {state.get('version')!r} of the format; this software reads {VERSION}")
    ends = [entry["data_offsets"][1] for entry in header.values()]
    if max(ends, default=0) != len(data) - 8 - length:
        raise ValueError("cut short: its frames are not whole")
    for name, entry in header.items():
        count, tokens, width = shapes.get(name, (0, 0, 0))
        found = entry["shape"]
        if len(found) != 3 or not 0 < found[0] <= count or found[1:] != [tokens, width]:
            raise ValueError(
                f"{name} has the shape {found}, this session's memory holds at most {[count, tokens, width]}: use the "
                "memory settings that it was saved with, or start without it"
            )
    return state


def _check_origin(state: dict[str, Any], session: Session) -> None:
    if state["model"] != model_fingerprint(session.model):
        raise ValueError("saved with another model or precision: its frames mean nothing to this one")
    if state["memory"] != session.config.memory:
        raise ValueError(f"saved with memory {state['memory']!r}, this session has memory {session.config.memory!r}")


def _from_state(state: dict[str, Any], tensors: dict[str, Tensor], session: Session) -> Snapshot:
    if state.get("digest") != _digest(state, tensors):
        raise ValueError("damaged: its contents do not match their digest")
    model, groups = session.model, {}
    for name, labels in state["frames"].items():
        stacked = tensors[f"frames/{name}"]
        if len(labels) != len(stacked) or stacked.dtype != model.dtype:
            raise ValueError(f"frames/{name} does not fit its labels")
        groups[name] = [
            Frame(_stamp(stamp), _stamp(index), features_NF.to(model.device).clone())
            for (stamp, index), features_NF in zip(labels, stacked, strict=True)
        ]
    turns = [_turn(turn, session) for turn in state["turns"][-MAX_TURNS:]]
    return Snapshot(groups, _stamp(state["origin"]), _stamp(state["num_offered"]), turns)


def _turn(raw: Any, session: Session) -> Turn:
    stamp, text, token_ids = raw
    size = session.model.config.language.vocab_size
    if not isinstance(text, str) or len(text) > _MAX_TEXT:
        raise ValueError("a turn of its dialogue is no text")
    if not all(isinstance(token, int) and 0 <= token < size for token in token_ids):
        raise ValueError("a reply of its dialogue has tokens that the model does not know")
    return Turn(_stamp(stamp), text, tuple(token_ids))


def _stamp(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not abs(value) < _MAX_STAMP:
        raise ValueError(f"{value!r} is no stamp")
    return value


def _digest(state: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Over everything but the digest itself."""
    plain = {key: value for key, value in state.items() if key != "digest"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
