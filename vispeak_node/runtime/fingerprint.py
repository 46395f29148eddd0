"""Which weights and which file: hashes that tie an exported encoder to the checkpoint it was made from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from vispeak_node.model.checkpoint import AUDIO_PREFIX, inspect_checkpoint
from vispeak_node.model.config import ModelConfig

PARTS = ("vision", "audio")
PREFIXES = {"vision": ("model.vision_tower.", "model.mm_projector."), "audio": (AUDIO_PREFIX,)}
_BLOCK = 2**20  # bytes read at a time


def weights_sha256(folder: str | Path, part: str) -> str:
    """Hash of one encoder's stored tensors and of the settings that shape its graph.

    It is the same however the checkpoint is cut into files, and changes with any bit of a weight. Only the encoder's
    tensors are read, one at a time.

    Args:
        folder: the checkpoint.
        part: one of `PARTS`.

    Raises:
        ValueError: the folder is no checkpoint, or a file in it is damaged.
    """
    report = inspect_checkpoint(folder)
    digest = hashlib.sha256(json.dumps(shaping_settings(report.config, part), sort_keys=True).encode())
    for name in sorted(name for name in report.sources if name.startswith(PREFIXES[part])):
        source = report.sources[name]
        digest.update(f"{name} {source.dtype} {source.shape}".encode())
        try:
            with safe_open(source.file, framework="pt", device="cpu") as shard:
                values = shard.get_tensor(source.name).contiguous()
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{source.file}: damaged or truncated: {error}") from error
        digest.update(memoryview(values.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def shaping_settings(config: ModelConfig, part: str) -> dict[str, object]:
    """What of the configuration an encoder's graph depends on."""
    hidden = config.language.hidden_size
    if part == "vision":
        return dataclasses.asdict(config.vision) | {"pooling_size": config.pooling_size, "language_hidden_size": hidden}
    return dataclasses.asdict(config.audio) | {"language_hidden_size": hidden}


def files_sha256(*paths: Path) -> str:
    """Hash of files' bytes, one after the other.

    Raises:
        ValueError: one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()
