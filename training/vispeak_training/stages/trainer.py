"""transformers' Trainer with what a stage needs beside it: losses apart, checkpoints in one step, and clear stops."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from vispeak_training.data.sample import Sample
from vispeak_training.stages.artefact import publish, read_artefact, write_artefact
from vispeak_training.stages.batch import Batch, Collator
from vispeak_training.stages.config import StageConfig, TrainingStoppedError
from vispeak_training.stages.learner import Learner
from vispeak_training.stages.muon import Together, muon, split_matrices
from vispeak_training.stages.parts import is_projector
from vispeak_training.stages.throughput import Cost, peak_flops

PARTIAL = "partial"  # where a checkpoint lies until it is whole
_COUNTED = ("text", "focal", "events", "batches", "positions", "flops")
_FIRST_SAMPLES = 100  # the share of bad ones is not judged on fewer


class StageTrainer(Trainer):
    """Runs a stage. Only tensors that learn are saved; the base checkpoint holds the rest."""

    def __init__(
        self,
        learner: Learner,
        config: StageConfig,
        arguments: TrainingArguments,
        dataset: Dataset[Sample | None],
        collator: Collator,
        callbacks: list[TrainerCallback],
    ) -> None:
        super().__init__(
            model=learner,
            args=arguments,
            train_dataset=dataset,
            data_collator=collator,  # type: ignore[arg-type]  # a TypedDict is a dict
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the micro-batch, as published
        self._config, self._learner, self._output = config, learner, Path(config.output)
        self._cost = Cost.of(learner.core)
        self._peak = config.peak_flops or peak_flops(arguments.device)
        self._tally = torch.zeros(len(_COUNTED), dtype=torch.float64)
        self._since = time.monotonic()
        self._seen = self._bad = 0
        self._saving_to: Path | None = None

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """One micro-batch's loss.

        Raises:
            TrainingStoppedError: it is not finite, or too many samples are bad.
        """
        self._count_bad(inputs["counts"])
        terms = model(inputs)
        if not bool(torch.isfinite(terms["loss"])):
            parts = ", ".join(f"{name} {float(value.detach()):g}" for name, value in terms.items())
            raise TrainingStoppedError(
                f"the loss is not finite after step {self.state.global_step} ({parts}); {self._last_good()}"
            )
        self._add(terms, inputs)
        return (terms["loss"], terms) if return_outputs else terms["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the loss's terms, tokens a second and MFU to what the Trainer logs of a step."""
        if "loss" in logs:
            logs.update(self._measured())
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """A set whose order is part of it is not shuffled."""
        if getattr(self.train_dataset, "in_order", False):
            assert self.train_dataset is not None
            return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]
        return super()._get_train_sampler(train_dataset)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over the tensors that learn, the projectors with a rate of their own; Muon where it is asked for."""
        if self.optimizer is None:
            model = model or self._learner
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            groups, rate = parameter_groups(model, self._config), self._config.matrix_learning_rate
            matrices, rest = split_matrices(model.named_parameters(), groups) if rate else ([], groups)
            inner = muon(matrices, rate, self._config.weight_decay) if rate else None
            self.optimizer = Together([kind(rest, **options), inner]) if inner else kind(groups, **options)
        return self.optimizer

    def _measured(self) -> dict[str, float]:
        totals = self.accelerator.reduce(self._tally.to(self.args.device, torch.float32), "sum")
        text, focal, events, batches, positions, flops = totals.tolist()
        seconds = max(time.monotonic() - self._since, 1e-9)
        self._since = time.monotonic()
        self._tally.zero_()
        if not batches:
            return {}
        core = self._learner.core
        measured = {"text": text / batches}
        if core.informative_head is not None:
            measured["focal"] = focal / batches
        if core.event_head is not None:
            measured["events"] = events / batches
        measured["tokens_per_second"] = positions / seconds
        if self._peak:
            measured["mfu"] = flops / seconds / (self._peak * self.args.world_size)
        return measured

    def _add(self, terms: dict[str, Tensor], batch: Batch) -> None:
        values = [float(terms[name]) for name in ("text", "focal", "events")]
        values += [1.0, float(batch["lengths"].sum()), self._cost.batch(batch)]
        self._tally += torch.tensor(values, dtype=torch.float64)

    def _count_bad(self, counts: Tensor) -> None:
        asked, bad = counts.tolist()
        self._seen, self._bad = self._seen + asked, self._bad + bad
        if self._bad > self._config.max_bad_share * max(self._seen, _FIRST_SAMPLES):
            raise TrainingStoppedError(
                f"{self._bad} of {self._seen} samples cannot be used, more than max_bad_share "
                f"{self._config.max_bad_share:g}; `vispeak-train check` names them; {self._last_good()}"
            )

    def _last_good(self) -> str:
        kept = last_checkpoint(self._output)
        return f"the last good checkpoint is {kept}" if kept else "there is no checkpoint yet"

    # checkpoints: written aside, then moved to their place in one step

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._saving_to or super()._get_output_dir(trial))

    @contextlib.contextmanager
    def _aside(self, folder: Path) -> Iterator[None]:
        self._saving_to = folder
        try:
            yield
        finally:
            self._saving_to = None

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        with self._whole(f"checkpoint-{self.state.global_step}"), self._aside(self._output / PARTIAL):
            super()._save_checkpoint(model, trial)
        if self.is_world_process_zero():
            for old in checkpoints(self._output)[: -self._config.save_limit]:
                shutil.rmtree(old)

    def save_final(self, name: str) -> Path:
        """Writes the stage's result beside the checkpoints.

        Raises:
            TrainingStoppedError: it cannot be written; the checkpoints are kept.
        """
        with self._whole(name):
            self.save_model(str(self._output / PARTIAL / name))
        return self._output / name

    @contextlib.contextmanager
    def _whole(self, name: str) -> Iterator[None]:
        """What is written to `partial/name` inside appears as `name` when all processes are done with it."""
        partial, target = self._output / PARTIAL, self._output / name
        try:
            yield
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                publish(partial / name, target)
                partial.rmdir()
            self.accelerator.wait_for_everyone()
        except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as RuntimeError
            shutil.rmtree(partial, ignore_errors=True)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TrainingStoppedError(f"{target} cannot be written ({reason}); {self._last_good()}") from error

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes the tensors that learn; under FSDP they are gathered first, whatever its own files look like."""
        if self.is_fsdp_enabled:
            self._save(output_dir, self.accelerator.get_state_dict(self.model))
        else:
            super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if not self.args.should_save:
            return
        named = dict(self._learner.named_parameters())
        state = named if state_dict is None else state_dict
        trained = {name.removeprefix("core."): state[name] for name, tensor in named.items() if tensor.requires_grad}
        folder = Path(output_dir) if output_dir else self._output
        write_artefact(folder, trained, self._learner.core.config, self._config.lora, self._config.base)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            read_artefact(Path(resume_from_checkpoint), self._learner.core)


def parameter_groups(model: nn.Module, config: StageConfig) -> list[dict[str, Any]]:
    """The tensors that learn, as AdamW takes them: the projectors apart if they have their own learning rate."""
    rest: list[nn.Parameter] = []
    projectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            own = name.removeprefix("module.").removeprefix("core.")
            (projectors if is_projector(own) else rest).append(parameter)
    rate = config.projector_learning_rate
    if rate is None:
        return [{"params": rest + projectors, "weight_decay": config.weight_decay}]
    groups = [
        {"params": rest, "weight_decay": config.weight_decay},
        {"params": projectors, "weight_decay": config.weight_decay, "lr": rate},
    ]
    return [group for group in groups if group["params"]]


def checkpoints(output: Path) -> list[Path]:
    """Whole checkpoints of a run, the oldest first; a folder without the Trainer's state is none."""
    numbered = []
    for path in output.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if number.isdigit() and (path / "trainer_state.json").is_file():
            numbered.append((int(number), path))
    return [path for _, path in sorted(numbered)]


def last_checkpoint(output: Path) -> Path | None:
    """The newest whole checkpoint of a run."""
    found = checkpoints(output)
    return found[-1] if found else None
