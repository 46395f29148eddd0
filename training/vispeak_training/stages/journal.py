"""What one sees of a run: a progress bar, a line of JSON for every step, and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

LOG_FILE = "log.jsonl"
_SHOWN = {"text": "text", "focal": "focal", "events": "events", "tokens_per_second": "tok/s", "mfu": "mfu"}


class Journal(TrainerCallback):
    """Writes on the first process only; the file goes on where a resumed run goes on."""

    def __init__(self, output: Path) -> None:
        self._path = output / LOG_FILE
        self._bar: tqdm[Any] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forgets lines of steps that a killed run took after its last checkpoint: they will be taken again."""
        if not state.is_world_process_zero:
            return
        kept = [line for line in self._lines() if line["step"] <= state.global_step]
        self._path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="steps", disable=None)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """One line a step."""
        if not state.is_world_process_zero or "loss" not in logs:
            return
        with self._path.open("a") as file:
            file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        if self._bar is not None:
            self._bar.set_postfix({_SHOWN[key]: f"{value:.4g}" for key, value in logs.items() if key in _SHOWN})

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()

    def _lines(self) -> list[dict[str, Any]]:
        """Whole lines of an earlier run; a kill may have cut the last one."""
        lines = []
        for text in self._path.read_text().splitlines() if self._path.is_file() else []:
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                break
        return lines
