"""The recipe without one of its parts, and the picture of a run's losses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.test_learning import TINY, filmed, made_up_clip
from vispeak_node.model.checkpoint import load_model, save_checkpoint
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import Score
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import ImageEvent
from vispeak_training.ablation import COLUMNS, VARIANTS, MarkerSession, Splits, Variant, ablate, stages_of, table
from vispeak_training.cli import main
from vispeak_training.curves import VISION_LOG, draw_curves, smoothed
from vispeak_training.data.sample import IGNORE
from vispeak_training.streams import StreamBuilder, TellingConfig
from vispeak_training.tiny import build_model
from vispeak_training.tiny_config import TinyConfig

STEPS = TinyConfig(
    align_steps=1, template_steps=1, streaming_steps=1, instruct_steps=1, lockstep_steps=1, past_steps=1, batch=2
)


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.from_folder(TINY)


def test_labels_at_the_marker_stand_one_position_later(vocabulary):
    telling = TellingConfig(question=0.5)
    for seed in range(6):
        clip = made_up_clip(seed)
        usual, later = (
            StreamBuilder(vocabulary, 16, replace(telling, at_marker=at)).build(clip, np.random.default_rng(seed))
            for at in (False, True)
        )
        assert np.array_equal(usual.user, later.user) and np.array_equal(usual.targets, later.targets)
        assert (usual.informative != IGNORE).any()
        assert np.array_equal(usual.informative[:-1], later.informative[1:])
        assert np.array_equal(usual.events[:-1], later.events[1:])
        assert set(later.user[later.informative != IGNORE].tolist()) == {vocabulary.segment_end}


def test_variants_name_stages_and_only_one_moves_labels():
    for variant in VARIANTS:
        stages = stages_of(variant, STEPS)
        assert tuple(stage.name for stage in stages) == variant.stages
        moved = [stage.mix.telling.at_marker and stage.mix.picture_telling.at_marker for stage in stages]
        assert moved == [stage.name.endswith("-marker") for stage in stages]
        assert variant.session is (MarkerSession if any(moved) else Session)


def test_the_marker_session_reads_the_marker(vocabulary):
    model = load_model(TINY)
    size = model.config.vision.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    session = MarkerSession(model, vocabulary, SessionConfig(threshold=1e9))
    hidden = []
    model.model.norm.register_forward_hook(lambda module, given, made: hidden.append(made[0]))
    scores = [output for output in session.push(ImageEvent(0, pixels, 0)) if isinstance(output, Score)]
    with torch.inference_mode():
        wanted = float(model.informative(hidden[-1][-1:]).float().sigmoid())
        usual = float(model.informative(hidden[-1][-2:-1]).float().sigmoid())
    assert scores[0].score == pytest.approx(wanted, abs=1e-6) and abs(wanted - usual) > 1e-6


def test_stages_that_variants_share_are_run_once(vocabulary, tmp_path):
    pytest.importorskip("accelerate")
    clips = [made_up_clip(seed) for seed in range(4)]
    for clip in clips:
        clip.note.setdefault("events", [])
    save_checkpoint(build_model(len(vocabulary), STEPS), tmp_path / "sees")
    shutil.copy(TINY / "tokenizer.json", tmp_path / "sees")
    splits = Splits(filmed(tmp_path, clips), clips[:1], clips[:1])
    variants = (
        Variant("whole", ("1a", "1b", "2", "3")),
        Variant("no 2", ("1a", "1b", "3")),
        Variant("no 1", ("2", "3")),
        Variant("one", ("1a", "1b", "2", "3"), window=1),
    )
    results = ablate(tmp_path / "sees", tmp_path, splits, STEPS, variants, apart=False)
    assert sorted(path.name for path in tmp_path.glob("after-*")) == [
        "after-1a", "after-1a-1b", "after-1a-1b-2", "after-1a-1b-2-3", "after-1a-1b-3", "after-2", "after-2-3",
    ]  # fmt: skip
    assert list(results) == [variant.name for variant in variants]
    assert results["one"]["threshold"] < 1 and len(table(results).splitlines()) == 2 + len(variants)
    assert all(name in table(results).splitlines()[0] for name in COLUMNS)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=80), st.integers(1, 30))
def test_smoothed_is_the_mean_of_the_last_ones(values, width):
    wanted = [np.mean(values[max(0, end - width) : end]) for end in range(1, len(values) + 1)]
    np.testing.assert_allclose(smoothed(values, width), wanted, atol=1e-6)


def test_curves_are_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(["curves", str(tmp_path), "--out", str(tmp_path / "none.png")]) == 2
    assert "no log.jsonl" in capsys.readouterr().err
    (tmp_path / VISION_LOG).write_text(json.dumps({"pass": 0, "acts": 2.0, "places": 0.1}) + "\n")
    for stage, terms in (("1a", {"text": 3.0, "focal": 0.0}), ("2", {"text": 1.0, "focal": 0.1})):
        folder = tmp_path / f"stage-{stage}"
        folder.mkdir()
        lines = [json.dumps({"step": step, **{k: v / step for k, v in terms.items()}}) for step in range(1, 40)]
        (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    draw_curves(tmp_path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
