"""Small stages over made-up samples; run as a script, one process of a run that a test kills or multiplies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset
from transformers import TrainerCallback

from vispeak_node.model.checkpoint import save_checkpoint
from vispeak_node.model.config import AudioConfig, LanguageConfig, ModelConfig, VisionConfig
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_training.data.sample import AUDIO, IGNORE, IMAGE, VIDEO_AUDIO, Sample
from vispeak_training.stages.config import stage_from_dict
from vispeak_training.stages.run import run_stage

TOKENIZER = Path(__file__).parent.parent.parent / "models/vispeak-tiny/tokenizer.json"
LABELS = ("none", "anomaly_warning")
TOKENS, SECOND = 4, 12  # of an image of 56 pixels without pooling, of a second


def write_base(folder: Path, head: bool = True, combination: bool = True) -> Path:
    """A random checkpoint that a step of training takes milliseconds on."""
    folder.mkdir(parents=True)
    shutil.copyfile(TOKENIZER, folder / "tokenizer.json")
    vocabulary = Vocabulary.from_folder(folder)
    torch.manual_seed(0)
    config = ModelConfig(
        VisionConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32, image_size=56),
        AudioConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32),
        LanguageConfig(
            len(vocabulary), hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4, num_kv_heads=2
        ),
        "adaptive_combine" if combination else "add",
        pooling_size=1,
        informative_head=head,
    )
    raw = {} if combination else {"combination": "adaptive_combine"}
    save_checkpoint(ViSpeakModel(config), folder, raw)
    if not combination:  # as VITA-1.5: neither the layers nor a word about them
        path = folder / "config.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "combination"}))
    return folder


def made_up(index: int, pad: int, length: int = 40, images: int = 1, seconds: int = 1) -> Sample:
    """A sample of random ids with pictures and sound at its begin."""
    rng = np.random.default_rng(index)
    length += index % 7
    user = rng.integers(0, 100, length)
    user[: images * TOKENS] = IMAGE
    begin = images * TOKENS + 1
    user[begin : begin + seconds * SECOND] = AUDIO if index % 2 else VIDEO_AUDIO
    agent, targets = np.full(length, pad), np.full(length, IGNORE)
    agent[-8:] = targets[-8:] = rng.integers(0, 100, 8)
    informative, events = np.full(length, IGNORE), np.full(length, IGNORE)
    informative[5:20:5] = rng.integers(0, 2, 3)
    events[5:20:5] = informative[5:20:5]
    return Sample(
        user.astype(np.int64),
        agent.astype(np.int64),
        targets.astype(np.int64),
        informative.astype(np.int64),
        events.astype(np.int64),
        rng.integers(0, 256, (images, 56, 56, 3)).astype(np.uint8),
        (rng.normal(0, 0.1, (seconds, 16_000))).astype(np.float32),
        f"made up {index}",
    )


class MadeUp(Dataset):
    """`count` samples; those in `bad` cannot be read."""

    def __init__(self, base: Path, count: int = 16, bad: tuple[int, ...] = ()) -> None:
        self.pad, self.count, self.bad = Vocabulary.from_folder(base).pad, count, bad

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample | None:
        return None if index in self.bad else made_up(index, self.pad, images=min(index % 3, 1), seconds=index % 2)


class KillAt(TrainerCallback):
    """The power goes off after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def settings(base: Path, output: Path, **changes):
    """A small stage 3 with LoRA."""
    return stage_from_dict(
        {
            "name": "small",
            "base": str(base),
            "data": "none.yaml",
            "output": str(output),
            "train": ["mm_projector", "combination", "informative_head"],
            "lora": {"r": 4, "alpha": 8, "dropout": 0.05},
            "pooling_size": 1,
            "event_labels": list(LABELS),
            "learning_rate": 5e-3,
            "projector_learning_rate": 1e-3,
            "batch_size": 2,
            "accumulation": 2,
            "epochs": 2,
            "workers": 0,
            "save_steps": 3,
            **changes,
        }
    )


def log_of(output: Path) -> list[dict]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def losses_of(output: Path) -> dict[int, float]:
    """Loss by step."""
    return {line["step"]: line["loss"] for line in log_of(output)}


def rewrite(path: Path, change) -> None:
    """Changes the tensors of a file."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


if __name__ == "__main__":
    base, output, kill, changes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    torch.set_num_threads(1)
    run_stage(settings(base, output, **changes), MadeUp(base), [KillAt(kill)] if kill else [])
