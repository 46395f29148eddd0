"""Running a stage: logs, going on after a kill, clear stops, several processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("peft")
pytest.importorskip("accelerate")

from tests.training.stage_worker import MadeUp, log_of, losses_of, settings
from vispeak_training.stages import artefact
from vispeak_training.stages.config import TrainingStoppedError
from vispeak_training.stages.learner import Learner
from vispeak_training.stages.run import run_stage
from vispeak_training.stages.trainer import checkpoints, last_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "training/configs"
PAD = 151643


def test_a_run_learns_and_tells_its_losses_apart(finished):
    lines = log_of(finished)
    assert [line["step"] for line in lines] == [*range(1, 9)]
    for line in lines:
        assert line["loss"] == pytest.approx(line["text"] + line["focal"] + 0.5 * line["events"], abs=1e-4)
        assert line["tokens_per_second"] > 0 and "mfu" not in line
    assert [path.name for path in checkpoints(finished)] == ["checkpoint-3", "checkpoint-6", "checkpoint-8"]
    assert not (finished / "partial").exists() and list((finished / "tensorboard").iterdir())
    assert not list(finished.rglob("training_args.bin"))


def test_overfitting_a_few_samples_brings_every_term_down(base, tmp_path):
    parts = ["language_model", "mm_projector", "combination", "informative_head"]
    changes = {"max_steps": 40, "learning_rate": 1e-2, "accumulation": 1, "save_steps": 100, "train": parts}
    run_stage(settings(base, tmp_path, lora=None, **changes), MadeUp(base, 2))
    first, last = log_of(tmp_path)[0], log_of(tmp_path)[-1]
    assert last["text"] < first["text"] / 2 and last["focal"] < first["focal"] and last["events"] < first["events"]


def test_a_finished_run_is_left_alone_and_a_continued_one_keeps_its_settings(base, finished, tmp_path):
    before = (finished / "log.jsonl").read_text()
    run_stage(settings(base, finished), MadeUp(base))
    assert (finished / "log.jsonl").read_text() == before
    shutil.copytree(finished, tmp_path / "other")
    shutil.rmtree(tmp_path / "other/final")
    with pytest.raises(ValueError, match="holds a run with learning_rate"):
        run_stage(settings(base, tmp_path / "other", learning_rate=1e-3), MadeUp(base))


@pytest.mark.parametrize("step", [3, 6])
def test_going_on_from_a_checkpoint_gives_the_same_losses(base, finished, tmp_path, step):
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/final")
    for later in checkpoints(tmp_path / "run"):
        if int(later.name.partition("-")[2]) > step:
            shutil.rmtree(later)
    (tmp_path / "run/partial/checkpoint-7").mkdir(parents=True)  # what a kill while saving leaves
    (tmp_path / "run/checkpoint-7").mkdir()
    assert last_checkpoint(tmp_path / "run").name == f"checkpoint-{step}"
    torch.manual_seed(99)
    run_stage(settings(base, tmp_path / "run"), MadeUp(base))
    assert [line["step"] for line in log_of(tmp_path / "run")] == [*range(1, 9)]
    assert losses_of(tmp_path / "run") == pytest.approx(losses_of(finished), abs=1e-6)


def test_too_many_bad_samples_stop_the_run(base, tmp_path):
    with pytest.raises(TrainingStoppedError, match=r"2 of \d+ samples cannot be used.*max_bad_share 0.01"):
        run_stage(settings(base, tmp_path / "a"), MadeUp(base, bad=(3, 5)))
    run_stage(settings(base, tmp_path / "b", max_bad_share=0.5), MadeUp(base, bad=(3, 5)))


def test_a_loss_that_is_not_finite_stops_with_the_checkpoint_kept(base, tmp_path, monkeypatch):
    real = Learner.forward
    calls = []

    def breaking(self, batch):
        calls.append(1)
        terms = real(self, batch)
        return terms if len(calls) < 11 else {**terms, "loss": terms["loss"] * torch.nan}

    monkeypatch.setattr(Learner, "forward", breaking)
    with pytest.raises(TrainingStoppedError, match=r"not finite after step 5.*last good checkpoint is .*checkpoint-3"):
        run_stage(settings(base, tmp_path), MadeUp(base))
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-3"]


def test_weights_that_are_not_finite_are_never_saved(base, tmp_path, monkeypatch):
    from vispeak_training.stages.trainer import StageTrainer

    def poison(self, model):
        next(p for p in model.parameters() if p.requires_grad).grad.fill_(torch.nan)
        return torch.tensor(0.0)

    monkeypatch.setattr(StageTrainer, "_clip_grad_norm", poison)
    with pytest.raises(TrainingStoppedError, match="not finite"):
        run_stage(settings(base, tmp_path, save_steps=1), MadeUp(base))
    assert not checkpoints(tmp_path)


@pytest.mark.parametrize("where", ["weights", "optimizer"])
def test_a_full_disk_stops_with_the_checkpoint_kept(base, tmp_path, monkeypatch, where):
    real = {"weights": artefact.save_file, "optimizer": torch.save}[where]
    calls = []

    def full(*arguments, **options):
        calls.append(1)
        if len(calls) > 4:  # two files of weights each time, or optimizer, scheduler and random state
            if where == "optimizer":
                raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    place = (artefact, "save_file") if where == "weights" else (torch, "save")
    monkeypatch.setattr(*place, full)
    with pytest.raises(TrainingStoppedError, match=r"cannot be written.*last good checkpoint is .*checkpoint-\d"):
        run_stage(settings(base, tmp_path, save_steps=2), MadeUp(base))
    left = checkpoints(tmp_path)
    assert left and not (tmp_path / "partial").exists()
    monkeypatch.undo()
    run_stage(settings(base, tmp_path, save_steps=2), MadeUp(base))  # room was made: it goes on


def worker(base, output, kill=0, processes=1, **changes):
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = [*start, "tests.training.stage_worker", str(base), str(output), str(kill), json.dumps(changes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'training'}"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_killed_and_started_again_ends_in_the_same_loss(base, finished, tmp_path):
    assert worker(base, tmp_path, kill=5).returncode == -9
    assert last_checkpoint(tmp_path).name == "checkpoint-3" and max(losses_of(tmp_path)) == 4
    again = worker(base, tmp_path, kill=7)
    assert again.returncode == -9, again.stderr
    done = worker(base, tmp_path)
    assert done.returncode == 0, done.stderr
    assert losses_of(tmp_path) == pytest.approx(losses_of(finished), abs=1e-5)


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(base, tmp_path):
    lora = {"r": 4, "alpha": 8, "dropout": 0.0}
    one = worker(base, tmp_path / "one", lora=lora, accumulation=2)
    two = worker(base, tmp_path / "two", processes=2, lora=lora, accumulation=1)
    assert one.returncode == 0 and two.returncode == 0, one.stderr + two.stderr
    assert len(losses_of(tmp_path / "one")) == 8
    assert losses_of(tmp_path / "two") == pytest.approx(losses_of(tmp_path / "one"), abs=1e-4)
