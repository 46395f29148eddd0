"""Clips one after the other: a long stream with several events, for a model that shall watch without end.

The picture changes from one room to the next without notice, as when a robot turns around.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vispeak_training.theatre.dataset import SampledClip


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
    columns = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("frames", "labels", "starts", "times", "keypoints", "fingertips")
    )
    return SampledClip(*columns, {"turns": turns})


def _beginning(clip: SampledClip, frames: int) -> SampledClip:
    """At most so many frames of a clip, and what is said until then."""
    rows, turns = slice(frames), clip.note.get("turns", [])
    last = float(clip.times[rows][-1])
    # a question and its answer stay together
    kept = [turn for pair in zip(turns[::2], turns[1::2], strict=True) if pair[0]["time"] <= last for turn in pair]
    columns = clip.frames, clip.labels, clip.starts, clip.times, clip.keypoints, clip.fingertips
    return SampledClip(*(column[rows] for column in columns), {"turns": kept})


def _moved(clip: SampledClip, later: float) -> SampledClip:
    """A clip that begins `later` s later."""
    turns = [turn | {"time": turn["time"] + later} for turn in clip.note["turns"]]
    return SampledClip(
        clip.frames,
        clip.labels,
        clip.starts + later,
        clip.times + later,
        clip.keypoints,
        clip.fingertips,
        {"turns": turns},
    )
