"""Clips one after the other: a long stream with several events, for a model that shall watch without end.

The picture changes from one room to the next without notice, as when a robot turns around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vispeak_training.theatre.dataset import SampledClip

_COLUMNS = ("frames", "labels", "starts", "times", "keypoints", "fingertips")


def long_stream(clips: Sequence[SampledClip], frames: int, rng: np.random.Generator) -> SampledClip:
    """Random clips, one after the other.

    Args:
        clips: to draw from.
        frames: of the stream; its last clip is cut there.
        rng: everything random is drawn from it.

    Returns:
        One clip with the conversations of all; its note has nothing else.
    """
    parts: list[SampledClip] = []
    turns: list[dict[str, object]] = []
    missing, now = frames, 0.0
    while missing > 0:
        part = _beginning(clips[int(rng.integers(len(clips)))], missing)
        moved = _moved(part, now - float(part.times[0]))
        parts.append(moved)
        turns += moved.note["turns"]
        missing -= len(moved.times)
        now = float(moved.times[-1]) + 1.0
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    return SampledClip(**columns, note={"turns": turns})


def _beginning(clip: SampledClip, frames: int) -> SampledClip:
    """At most so many frames of a clip, and what is said until then."""
    rows, turns = slice(frames), clip.note.get("turns", [])
    last = float(clip.times[rows][-1])
    # a question and its answer stay together
    kept = [turn for pair in zip(turns[::2], turns[1::2], strict=True) if pair[0]["time"] <= last for turn in pair]
    columns = {name: getattr(clip, name)[rows] for name in _COLUMNS}
    return SampledClip(**columns, note={"turns": kept})


def _moved(clip: SampledClip, later: float) -> SampledClip:
    """A clip that begins `later` s later."""
    turns = [turn | {"time": turn["time"] + later} for turn in clip.note["turns"]]
    return replace(clip, starts=clip.starts + later, times=clip.times + later, note={"turns": turns})
