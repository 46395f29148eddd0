"""Folds what a stage trained into its base: a checkpoint in the released layout that the runtime loads unchanged."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from vispeak_node.model.checkpoint import inspect_checkpoint, save_checkpoint
from vispeak_node.model.config import ModelConfig
from vispeak_training.stages.artefact import ADAPTER_CONFIG, ADAPTER_FILE, REST_FILE, publish, read_artefact
from vispeak_training.stages.base import attach_adapters, load_base
from vispeak_training.stages.config import LoraSettings

logger = logging.getLogger(__name__)

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
# what a tokenizer and a generator need beside the weights
_COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "generation_config.json",
)
_MAX_JSON_BYTES = 2**20


def merge(
    folder: str | Path,
    base: str | Path,
    out: str | Path,
    dtype: str | None = None,
    vision_folder: str | Path | None = None,
    audio_folder: str | Path | None = None,
) -> None:
    """Writes the merged checkpoint; it appears under its name only when it is whole.

    Args:
        folder: a stage's `final`, or one of its checkpoints.
        base: the checkpoint that the stage started from.
        out: folder to write, which must not exist.
        dtype: float16, bfloat16 or float32; by default the base's. The sums are made in it too.
        vision_folder: an InternViT in a folder of its own, if the base holds none.
        audio_folder: an audio encoder in a folder of its own, likewise.

    Raises:
        ValueError: a folder cannot be read, the two do not belong together, or `out` exists.
    """
    folder, base, out = Path(folder), Path(base), Path(out)
    if out.exists():
        raise ValueError(f"{out}: exists already")
    if not (folder / REST_FILE).is_file():
        raise ValueError(f"{folder}: not the result of a stage: {REST_FILE} is missing")
    raw = _read(base / "config.json")
    name = dtype or str(raw.get("torch_dtype") or "float32")
    if name not in _DTYPES:
        raise ValueError(f"dtype: {name!r} is unknown; expected one of {', '.join(_DTYPES)}")
    wanted = ModelConfig.from_dict(_read(folder / "config.json"))
    model = load_base(base, wanted, "cpu", _DTYPES[name], vision_folder, audio_folder)
    lacking = model.state_dict().keys() - inspect_checkpoint(base, vision_folder, audio_folder).sources.keys()
    tuner = None
    if (folder / ADAPTER_FILE).is_file():
        tuner = attach_adapters(model, _lora_settings(folder))
    lacking -= read_artefact(folder, model)
    if lacking:
        raise ValueError(f"{folder} does not belong to {base}: neither holds {min(lacking)}")
    if tuner is not None:
        # one layer after the other and in place: beside the model, one matrix at a time lies in memory
        tuner.merge_and_unload(safe_merge=True)  # type: ignore[operator]
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    save_checkpoint(model, partial, raw, _DTYPES[name])
    for file in _COPIED:
        if (base / file).is_file():
            shutil.copyfile(base / file, partial / file)
    publish(partial, out)
    logger.info("wrote %s", out)


def _lora_settings(folder: Path) -> LoraSettings:
    raw = _read(folder / ADAPTER_CONFIG)
    for key in ("use_dora", "use_rslora", "alpha_pattern", "rank_pattern", "modules_to_save", "fan_in_fan_out"):
        if raw.get(key):
            raise ValueError(f"{folder / ADAPTER_CONFIG}: {key} is set, and only plain LoRA is merged")
    try:
        r, alpha, targets = int(raw["r"]), int(raw["lora_alpha"]), tuple(str(name) for name in raw["target_modules"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / ADAPTER_CONFIG}: needs r, lora_alpha and target_modules ({error})") from error
    return LoraSettings(r, alpha, 0.0, targets)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ValueError(f"{path}: larger than {_MAX_JSON_BYTES} bytes")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object at the top")
    return value
