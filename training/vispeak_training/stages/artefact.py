"""What a stage leaves: a folder of what it trained, small beside the model, which `merge` folds into a checkpoint.

| file | what |
|---|---|
| adapter_model.safetensors, adapter_config.json | the LoRA, as peft writes and reads it |
| non_lora_trainables.safetensors | every other trained tensor, under its name in a checkpoint |
| config.json | the complete configuration of the merged model |
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vispeak_node.model.checkpoint import config_to_dict
from vispeak_node.model.config import ModelConfig
from vispeak_training.stages.config import LoraSettings, TrainingStoppedError
from vispeak_training.stages.parts import ADAPTER

ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
REST_FILE = "non_lora_trainables.safetensors"
_PEFT = "base_model.model."  # what peft puts before the model's own names
_NAME = ".default"  # peft's name of the only adapter; it is left out in files


def write_artefact(
    folder: Path, trained: Mapping[str, Tensor], config: ModelConfig, lora: LoraSettings | None, base: str
) -> None:
    """Writes the trained tensors.

    Args:
        folder: made if it does not exist.
        trained: tensors by their names in the model, adapters' included.
        config: of the model.
        lora: settings of the adapters, if there are any.
        base: the checkpoint that was trained, for the record.

    Raises:
        TrainingStoppedError: a tensor holds values that are not finite; nothing is written.
        OSError: the folder cannot be written.
    """
    for name, tensor in trained.items():
        if not bool(torch.isfinite(tensor).all()):
            raise TrainingStoppedError(f"{name} holds values that are not finite: nothing is saved")
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: tensor.detach().to("cpu").contiguous() for name, tensor in trained.items()}
    adapters = {_PEFT + name.replace(_NAME + ".", "."): t for name, t in stored.items() if ADAPTER in name}
    rest = {name: tensor for name, tensor in stored.items() if ADAPTER not in name}
    if adapters:
        assert lora is not None
        save_file(adapters, folder / ADAPTER_FILE, metadata={"format": "pt"})
        _write_adapter_config(folder, lora, base)
    save_file(rest, folder / REST_FILE, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config_to_dict(config), indent=2) + "\n")


def read_artefact(folder: Path, model: nn.Module) -> set[str]:
    """Puts the trained tensors of a folder into a model that has their places.

    Returns:
        The names of the places that were filled.

    Raises:
        ValueError: a file is missing or damaged, or a tensor has no place or another shape.
    """
    places = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    files = [name for name in (ADAPTER_FILE, REST_FILE) if (folder / name).is_file()]
    if REST_FILE not in files:
        raise ValueError(f"{folder}: {REST_FILE} is missing")
    if any(ADAPTER in name for name in places) != (ADAPTER_FILE in files):
        raise ValueError(f"{folder}: {ADAPTER_FILE} is missing, or the run has no adapters")
    filled = set()
    for file in files:
        try:
            with safe_open(folder / file, framework="pt", device="cpu") as stored, torch.no_grad():
                for name in stored.keys():  # noqa: SIM118 - not a mapping
                    place = places.get(_place_of(name))
                    shape = stored.get_slice(name).get_shape()
                    if place is None or list(place.shape) != shape:
                        raise ValueError(f"{folder / file}: {name} {shape} has no place in the model")
                    place.copy_(stored.get_tensor(name))
                    filled.add(_place_of(name))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{folder / file}: damaged or truncated: {error}") from error
    return filled


def publish(partial: Path, target: Path) -> None:
    """Moves a complete folder to its place in one step; what was written is on the disk before."""
    for path in sorted(partial.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)


def _place_of(name: str) -> str:
    name = name.removeprefix(_PEFT)
    head, dot, leaf = name.rpartition(".lora_")
    return f"{head}{dot}{leaf.replace('.', _NAME + '.', 1)}" if dot else name


def _write_adapter_config(folder: Path, lora: LoraSettings, base: str) -> None:
    raw = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(lora.targets),
        "bias": "none",
        "inference_mode": True,
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(raw, indent=2) + "\n")
