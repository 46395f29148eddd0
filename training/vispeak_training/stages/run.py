"""Runs one stage from its configuration to a folder that `merge` reads; started again, it goes on where it was."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainingArguments, set_seed

from vispeak_node.model.tokens import Vocabulary
from vispeak_training.data.sample import Sample
from vispeak_training.stages.artefact import REST_FILE
from vispeak_training.stages.base import build_stage_model
from vispeak_training.stages.batch import Collator
from vispeak_training.stages.config import StageConfig, stage_to_dict
from vispeak_training.stages.journal import Journal
from vispeak_training.stages.learner import Learner
from vispeak_training.stages.trainer import PARTIAL, StageTrainer, last_checkpoint

logger = logging.getLogger(__name__)

FINAL = "final"  # the stage's result, beside its checkpoints
_RECORD = "stage.json"
# these may change between a run and its continuation, for they change no number
_FREE = ("output", "save_steps", "save_limit", "workers", "max_bad_share", "peak_flops", "name")


def run_stage(
    config: StageConfig,
    dataset: Dataset[Sample | None] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Trains a stage, or finishes one that was cut short.

    Args:
        config: the stage.
        dataset: its samples, None for bad ones; by default those of the registry `config.data`.
        callbacks: more of transformers' callbacks.

    Returns:
        The folder for `merge`.

    Raises:
        ValueError: base, data or output cannot be used, or training had to stop (`TrainingStoppedError`); the last
            good checkpoint is kept.
    """
    output = Path(config.output)
    final = output / FINAL
    if (final / REST_FILE).is_file():
        logger.info("%s is finished already: %s", config.name, final)
        return final
    if not Path(config.base).is_dir():
        raise ValueError(f"base: {config.base}: no such folder; name the checkpoint to start from with --base DIR")
    vocabulary = Vocabulary.from_folder(Path(config.base))
    arguments = training_arguments(config)
    with arguments.main_process_first(desc="preparing the output folder"):
        if arguments.process_index == 0:
            _prepare(output, config, arguments.world_size)
    set_seed(config.seed)  # fresh layers are the same in every process and every time
    sharded = config.fsdp is not None or config.deepspeed is not None
    place = torch.device("cpu") if sharded else arguments.device
    core = build_stage_model(config, place, _frozen_dtype(config, arguments.device))
    learner = Learner(core, config.focal_weight, config.event_weight, config.gradient_checkpointing)
    data = dataset if dataset is not None else _training_set(config, vocabulary, core.config)
    collator = Collator(core.config, vocabulary.pad, config.max_length, config.dither)
    more = [Journal(output), *_tensorboard(output, arguments), *callbacks]
    trainer = StageTrainer(learner, config, arguments, data, collator, more)
    resume = last_checkpoint(output)
    if resume is not None:
        logger.info("going on from %s", resume)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer.save_final(FINAL)


def training_arguments(config: StageConfig) -> TrainingArguments:
    """What the Trainer is told; choosing the device and joining other processes happen here."""
    cuda = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=config.output,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_gradient_norm,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_ratio,  # below 1 it is a share of the steps
        optim="adamw_torch",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.save_steps,
        seed=config.seed,
        data_seed=config.seed,
        bf16=cuda and torch.cuda.is_bf16_supported(),
        tf32=True if cuda and torch.cuda.get_device_capability() >= (8, 0) else None,
        use_cpu=not cuda,
        dataloader_num_workers=config.workers,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        report_to="none",
        disable_tqdm=True,
        fsdp=config.fsdp is not None or None,  # type: ignore[arg-type]  # annotated for an older form
        fsdp_config=None if config.fsdp is None else dict(config.fsdp),
        deepspeed=config.deepspeed,
    )
    if arguments.n_gpu > 1:
        raise ValueError(
            f"{arguments.n_gpu} GPUs are visible to one process; start one process a GPU: "
            f"torchrun --nproc-per-node {arguments.n_gpu} -m vispeak_training.cli run ..."
        )
    return arguments


def _frozen_dtype(config: StageConfig, device: torch.device) -> torch.dtype:
    if config.weights == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if config.weights == "bfloat16" else torch.float32


def _prepare(output: Path, config: StageConfig, world_size: int) -> None:
    """Clears what a kill left half-written, and refuses to go on with other settings than a run began with."""
    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / PARTIAL, ignore_errors=True)
    record = {**stage_to_dict(config), "processes": world_size}
    path = output / _RECORD
    if path.is_file() and last_checkpoint(output) is not None:
        _compare(path, record)
    path.write_text(json.dumps(record, indent=2) + "\n")


def _compare(path: Path, record: Mapping[str, Any]) -> None:
    try:
        began = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable: {error}; remove the run, or choose another output") from error
    for key in sorted(record.keys() | began.keys()):
        if key not in _FREE and record.get(key) != began.get(key):
            raise ValueError(
                f"{path.parent} holds a run with {key} {began.get(key)!r}, not {record.get(key)!r}; "
                "choose another output, or go on with the same settings"
            )


def _training_set(config: StageConfig, vocabulary: Vocabulary, model_config: Any) -> Dataset[Sample | None]:
    from vispeak_training.data.dataset import TrainingSet  # noqa: PLC0415 - decoders are slow to import
    from vispeak_training.data.options import BuildOptions, Quirks  # noqa: PLC0415

    raw = {"max_length": config.max_length, "seed": config.seed, **config.data_options}
    try:
        quirks = Quirks(**raw.pop("quirks", {}))
        options = BuildOptions(**raw, quirks=quirks)
    except TypeError as error:
        raise ValueError(f"data_options: {str(error).split('__init__() ')[-1]}") from error
    return TrainingSet(Path(config.data), vocabulary, model_config, options)


def _tensorboard(output: Path, arguments: TrainingArguments) -> list[TrainerCallback]:
    if arguments.process_index:
        return []
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
    except ImportError:
        logger.warning("tensorboard is not installed: only log.jsonl is written")
        return []
    from transformers.integrations import TensorBoardCallback  # noqa: PLC0415

    resumed = last_checkpoint(output)
    purge = int(resumed.name.rpartition("-")[2]) + 1 if resumed else None
    return [TensorBoardCallback(SummaryWriter(str(output / "tensorboard"), purge_step=purge))]
