"""`vispeak-train tiny`, the whole way, as small as it gets."""

from __future__ import annotations

import json

import pytest

from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.tokens import Vocabulary
from vispeak_training.calibrate import GRID
from vispeak_training.cli import main
from vispeak_training.streams import LABELS
from vispeak_training.theatre.scene import render_backend_error

COUNTS = {
    "clips": 6, "rooms": 3, "quiet-clips": 2, "validation": 2, "quiet-validation": 1, "held-out": 2, "quiet": 1,
    "vision-epochs": 1, "vision-batch": 8, "batch": 2, "align-steps": 1, "template-steps": 1, "streaming-steps": 1,
    "instruct-steps": 1, "lockstep-steps": 1, "past-steps": 1,
}  # fmt: skip


@pytest.mark.slow
def test_one_command_renders_trains_calibrates_and_measures(tmp_path, capsys):
    pytest.importorskip("accelerate")
    if error := render_backend_error():
        pytest.skip(error)
    flags = [word for name, count in COUNTS.items() for word in (f"--{name}", str(count))]
    folders = ["--out", str(tmp_path / "model"), "--data", str(tmp_path / "data"), "--work", str(tmp_path / "work")]
    assert main(["tiny", *folders, *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["clips"] == 3 and 0 <= result["time_accuracy"] <= 1
    model = load_model(tmp_path / "model")
    assert model.config.threshold in GRID and model.config.event_labels == LABELS
    assert len(Vocabulary.from_folder(tmp_path / "model")) == model.config.language.vocab_size
    # what was rendered and trained is kept: the same again takes no process but this one
    stages = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("after-*")}
    assert len(stages) == 6
    assert main(["tiny", *folders, *flags]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("after-*")} == stages
    assert main(["tiny", *folders, *flags, "--clips", "7"]) == 2
    assert "6 clips, 7 are asked for" in capsys.readouterr().err
