"""The safetensors files of a checkpoint's folder and their headers; no tensor is read here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

_MAX_JSON_BYTES = 16 * 2**20
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# written by some tools, never read by the model: positions are computed
_IGNORED_SUFFIXES = ("rotary_emb.inv_freq", "num_batches_tracked")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """Where one tensor lies."""

    file: Path
    name: str  # its name in that file
    shape: Shape
    dtype: str  # safetensors' spelling: F16, BF16, F32, ...


def headers(folder: Path) -> Iterator[tuple[str, Source]]:
    """Every tensor of a folder by its name, from the files' headers only.

    Raises:
        ValueError: there are no safetensors, a shard is missing, or a file is damaged.
    """
    for file in _weight_files(folder):
        try:
            with safe_open(file, framework="pt", device="cpu") as shard:
                for name in shard.keys():  # noqa: SIM118 - not a mapping
                    if not name.endswith(_IGNORED_SUFFIXES):
                        piece = shard.get_slice(name)
                        yield name, Source(file, name, tuple(piece.get_shape()), str(piece.get_dtype()))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file}: damaged or truncated, or no safetensors file: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """An object of bounded size.

    Raises:
        ValueError: it is too large, no JSON, or no object.
    """
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ValueError(f"{path}: larger than {_MAX_JSON_BYTES} bytes")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object at the top")
    return value


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise ValueError(f"{index}: weight_map must map tensor names to file names")
        files = []
        for name in sorted(set(names.values())):
            if Path(name).name != name:
                raise ValueError(f"{index}: {name!r} is not a plain file name")
            if not (folder / name).is_file():
                raise ValueError(f"{folder}: the shard {name} is missing")
            files.append(folder / name)
        return files
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [path.name for path in folder.iterdir() if path.suffix in _PICKLES]
        if pickles:
            raise ValueError(
                f"{folder}: only safetensors are loaded, found {', '.join(sorted(pickles)[:3])}; "
                f"rewrite with `vispeak checkpoint --convert {folder / pickles[0]} OUT.safetensors`"
            )
        raise ValueError(f"{folder}: not a checkpoint: no .safetensors file")
    return files
