"""The model that a stage starts from: a checkpoint, with the layers that it lacks made fresh, and its adapters."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from vispeak_node.model.checkpoint import CheckpointReport, inspect_checkpoint
from vispeak_node.model.config import ModelConfig
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_training.stages.config import LoraSettings, StageConfig
from vispeak_training.stages.parts import ADAPTER, PARTS, belongs, missing_parts

logger = logging.getLogger(__name__)

# what a base may lack: VITA-1.5 has neither a gate nor heads
_MAY_BE_FRESH = ("combination", "informative_head", "event_head")


def load_base(
    folder: str | Path,
    wanted: ModelConfig | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    vision_folder: str | Path | None = None,
    audio_folder: str | Path | None = None,
    fresh: tuple[str, ...] = (),
) -> ViSpeakModel:
    """A checkpoint's model, where gate and heads may be missing: these are then made fresh, from torch's own seed.

    Tensors are streamed from the shards one by one, so no weight lies in memory twice.

    Args:
        folder: the checkpoint.
        wanted: the configuration to build; the checkpoint's own by default.
        device: where the weights go.
        dtype: type of the weights that are read; fresh ones are float32.
        vision_folder: an InternViT in a folder of its own.
        audio_folder: an audio encoder in a folder of its own.
        fresh: parts of `PARTS` that are made fresh even where the checkpoint holds them.

    Raises:
        ValueError: no checkpoint, a shard missing or damaged, a tensor missing or of another shape.
    """
    report = inspect_checkpoint(folder, vision_folder, audio_folder)
    with torch.device("meta"):
        model = ViSpeakModel(wanted or report.config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    new = {name for name in shapes if name not in report.sources or belongs(name, fresh)}
    _check(folder, report, shapes, new)
    _initialise(model, new, device)
    by_file: dict[Path, list[str]] = {}
    for name in shapes.keys() - new:
        by_file.setdefault(report.sources[name].file, []).append(name)
    for file, names in sorted(by_file.items()):
        try:
            with safe_open(file, framework="pt", device="cpu") as shard:
                for name in sorted(names):
                    tensor = shard.get_tensor(report.sources[name].name).to(device=device, dtype=dtype)
                    model.load_state_dict({name: tensor}, strict=False, assign=True)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file}: damaged or truncated: {error}") from error
    if new:
        logger.info("made fresh: %s", ", ".join(missing_parts(sorted(new))))
    return model.eval().requires_grad_(False)


def stage_model_config(found: ModelConfig, config: StageConfig) -> ModelConfig:
    """The model that a stage trains: the base's, with the stage's pooling, gate and heads."""
    if found.event_labels and config.event_labels and found.event_labels != config.event_labels:
        raise ValueError(
            f"event_labels: the base's event head has {', '.join(found.event_labels)}; use the same, or a base without"
        )
    return dataclasses.replace(
        found,
        pooling_size=config.pooling_size,
        informative_head=found.informative_head or "informative_head" in config.parts,
        event_labels=config.event_labels or found.event_labels,
    )


def build_stage_model(
    config: StageConfig, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> ViSpeakModel:
    """The model of a stage, ready to learn: loaded, adapters in place, everything but the stage's parts frozen.

    Raises:
        ValueError: see `load_base`; or a fresh layer would not be trained.
    """
    report = inspect_checkpoint(config.base, config.vision_folder, config.audio_folder)
    found = report.config
    if not any(belongs(name, ["combination"]) for name in report.sources):
        found = dataclasses.replace(found, combination=config.combination)
    if found.combination != config.combination:
        raise ValueError(f"combination: {config.base} has {found.combination}, the stage wants {config.combination}")
    wanted = stage_model_config(found, config)
    wanted.check()
    fresh = ("informative_head",) if config.fresh_informative_head else ()
    folders = config.vision_folder, config.audio_folder
    model = load_base(config.base, wanted, device, dtype, *folders, fresh=fresh)
    trained = set(config.parts)
    for part in _MAY_BE_FRESH:
        lacking = not any(belongs(name, [part]) for name in report.sources) or part in fresh
        present = any(belongs(name, [part]) for name in model.state_dict())
        if lacking and present and part not in trained:
            raise ValueError(f"train: {config.base} has no {part}; it is made fresh and must be trained")
    if config.lora is not None:
        attach_adapters(model, config.lora)
    choose_trainable(model, config.parts)
    return model


def attach_adapters(model: ViSpeakModel, settings: LoraSettings) -> nn.Module:
    """Puts LoRA beside the language model's linear layers, in place.

    Returns:
        peft's tuner around the model, which can merge the adapters.
    """
    from peft import LoraConfig, LoraModel  # noqa: PLC0415 - slow to import, and only for LoRA

    lora = LoraConfig(
        r=settings.r, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=list(settings.targets)
    )
    return LoraModel(model, lora, "default")


def choose_trainable(model: ViSpeakModel, parts: tuple[str, ...]) -> None:
    """Lets the adapters and these parts learn, in float32, and freezes all else."""
    for name, parameter in model.named_parameters():
        learns = ADAPTER in name or belongs(name, parts)
        parameter.requires_grad_(learns)
        if learns:
            parameter.data = parameter.data.float()
    absent = [part for part in parts if not any(belongs(name, [part]) for name, _ in model.named_parameters())]
    if absent and absent != ["combination"]:  # the `add` gate has no layers
        raise ValueError(f"train: the model has no {absent[0]}")


def _check(folder: str | Path, report: CheckpointReport, shapes: dict[str, tuple[int, ...]], new: set[str]) -> None:
    lost = sorted(name for name in new if not belongs(name, _MAY_BE_FRESH))
    if lost:
        raise ValueError(f"{folder}: {len(lost)} tensors are missing, first {lost[0]}; `vispeak checkpoint` lists all")
    for name in shapes.keys() - new:
        if report.sources[name].shape != shapes[name]:
            found = list(report.sources[name].shape)
            raise ValueError(f"{folder}: {name} has shape {found}, needs {list(shapes[name])}")
    if report.vocabulary_size is None:
        raise ValueError(f"{folder}: {report.notes[-1]}")


def _initialise(model: ViSpeakModel, new: set[str], device: str | torch.device) -> None:
    """Fresh layers as torch makes linear layers; the linear gate starts as [I | 0], the agent's stream alone."""
    for path, module in model.named_modules():
        names = [name for name in new if name.rpartition(".")[0] == path]
        if not names:
            continue
        assert isinstance(module, nn.Linear), path
        made = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
        if path + "." == PARTS["combination"][0]:
            nn.init.eye_(made.weight)
        else:
            assert math.isfinite(float(made.weight.detach().sum()))
        state = {f"{path}.{key}": tensor.to(device) for key, tensor in made.state_dict().items()}
        model.load_state_dict(state, strict=False, assign=True)
