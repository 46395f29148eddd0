"""Long streams out of clips: whatever happens when, and is said when, stays beside its frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vispeak_training.seeing import fold_scale, inherit_tower
from vispeak_training.splicing import long_stream
from vispeak_training.theatre.dataset import SampledClip
from vispeak_training.theatre.scene import FINGERTIPS, KEYPOINTS
from vispeak_training.tiny import build_model
from vispeak_training.tiny_config import TinyConfig

SIDE = 8  # pixels


def clip_of(number, frames, phase):
    """A clip whose every column tells clip and frame; a question is asked 0.1 s before each odd frame."""
    rows = np.arange(frames)
    pictures = np.zeros((frames, SIDE, SIDE, 3), np.uint8)
    pictures[:, 0, 0, 0], pictures[:, 0, 0, 1] = number, rows
    turns = []
    for row in rows[1::2].tolist():
        asked = {"from": "human", "value": f"{number} {row}", "time": row + phase - 0.1}
        turns += [asked, {"from": "gpt", "value": "yes", "time": row + phase - 0.1}]
    return SampledClip(
        pictures,
        number * 100 + rows,
        np.floor(rows / 2) * 2.0,
        rows + phase,
        np.full((frames, len(KEYPOINTS), 2), number, np.float32),
        np.full((frames, len(FINGERTIPS), 2), number, np.float32),
        {"turns": turns, "events": ["something"]},
    )


lengths = st.lists(st.tuples(st.integers(1, 9), st.floats(0, 0.99)), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(lengths, st.integers(1, 30), st.integers(0, 9))
def test_a_long_stream_is_its_clips_one_after_the_other(drawn, frames, seed):
    clips = [clip_of(number, length, phase) for number, (length, phase) in enumerate(drawn)]
    stream = long_stream(clips, frames, np.random.default_rng(seed))
    assert len(stream.times) == frames
    np.testing.assert_allclose(stream.times, np.arange(frames), atol=1e-9)
    number, row = stream.frames[:, 0, 0, 0].astype(int), stream.frames[:, 0, 0, 1].astype(int)
    assert np.array_equal(stream.labels, number * 100 + row)
    assert np.array_equal(stream.keypoints[:, 0, 0], number) and np.array_equal(stream.fingertips[:, 0, 0], number)
    follows = row[1:] == np.where(row[:-1] + 1 < [drawn[n][0] for n in number[:-1]], row[:-1] + 1, 0)
    assert row[0] == 0 and follows.all()
    # an act began as long before its frames as in its clip, and no two clips' acts began at once
    phase = np.array([drawn[n][1] for n in number])
    np.testing.assert_allclose(stream.times - stream.starts, row + phase - np.floor(row / 2) * 2.0, atol=1e-9)
    assert (np.diff(stream.starts) >= -1e-9).all()
    turns = stream.note["turns"]
    asked = {round(turn["time"] + 0.1, 6): turn["value"] for turn in turns if turn["from"] == "human"}
    odd = np.flatnonzero(row % 2)
    assert asked == {round(float(stream.times[k]), 6): f"{number[k]} {row[k]}" for k in odd}
    assert len(turns) == 2 * len(odd)


def test_an_inherited_tower_sees_the_same_at_the_scale_of_a_fresh_one():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3)).astype(np.uint8)
    points = np.zeros((2, len(KEYPOINTS), 2), np.float32)
    rows = np.arange(2)
    clip = SampledClip(pictures, rows, rows.astype(float), rows.astype(float), points)
    learned, fresh = build_model(300, TinyConfig(seed=1)), build_model(300, TinyConfig(seed=0))
    deviation = float(fresh.model.mm_projector[-1].weight.detach().std())
    fold_scale(learned, [clip])
    inherit_tower(fresh, learned)
    pixels = torch.randn(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = fresh.encode_images(pixels), learned.encode_images(pixels)
    torch.testing.assert_close(ours / ours.std(), theirs / theirs.std(), atol=1e-4, rtol=1e-3)
    assert float(fresh.model.mm_projector[-1].weight.detach().std()) == pytest.approx(deviation, rel=1e-5)
