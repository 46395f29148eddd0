"""Which frames of a video are looked at, and which seconds of its sound go with them. Times are seconds of the file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vispeak_node.model.fbank import SAMPLE_RATE
from vispeak_training.data.options import BuildOptions
from vispeak_training.data.sample import MEDIA, SampleError

_ROUNDING = 1e-3  # s by which stamps in a file may be off
_MAX_SPAN = 86_400  # s; a video whose stamps span more than a day is damaged


def clip_range(start: float | None, end: float | None, whole_seconds: bool) -> tuple[float, float]:
    """From when to when a video is watched; without an end, infinity."""
    if whole_seconds:
        return float(max(round(start or 0), 0)), math.inf if end is None else float(int(end) + 1)
    return max(start or 0.0, 0.0), math.inf if end is None else end


def frame_numbers(
    times: NDArray[np.float64], rate: float, start: float, end: float, options: BuildOptions
) -> NDArray[np.int64]:
    """Numbers of the frames that are looked at, in order; a short clip's frames may repeat.

    Args:
        times: [n] of every frame, ascending.
        rate: frames per second on average.
        start: first time that counts.
        end: last one; infinity is the file's end.
        options: rate of looking, and the least and the most frames.

    Raises:
        SampleError: there is no frame between start and end.
    """
    if not len(times):
        raise SampleError(MEDIA, "the video has no frames")
    if options.quirks.constant_rate:
        candidates, first, last = _by_number(len(times), rate, start, end, options)
    else:
        candidates, first, last = _by_time(times, start, end, options)
    if len(candidates) > options.max_frames:
        return candidates[_spread(0, len(candidates) - 1, options.max_frames)]
    if len(candidates) < options.min_frames:
        return _spread(first, last, options.min_frames)
    return candidates


def frame_times(times: NDArray[np.float64], rate: float, numbers: NDArray[np.int64], quirk: bool) -> list[float]:
    """When the chosen frames are shown; with the quirk as if every frame took equally long."""
    return [float(number / rate) if quirk else float(times[number]) for number in numbers]


def sounds_per_frame(times: Sequence[float], samples: int, options: BuildOptions) -> list[int]:
    """How many seconds of sound each frame brings.

    Args:
        times: of the frames that are looked at.
        samples: length of the sound track at 16 kHz; 0 without one.
        options: the most seconds a frame.

    Returns:
        For every frame how many whole seconds from its time on are there, at most as many as the gap to the next
        frame is long.
    """
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)] or [1.0]
    wanted = [gaps[0]] * len(times) if options.quirks.first_gap else [*gaps, gaps[-1]][: len(times)]
    counts = []
    for time, gap in zip(times, wanted, strict=True):
        room = (samples - sample_at(time)) // SAMPLE_RATE
        counts.append(max(0, min(max(round(gap), 1), options.max_sounds, room)))
    return counts


def sample_at(time: float) -> int:
    """The sound track's sample at a time."""
    return int(time * SAMPLE_RATE)


def _by_number(
    count: int, rate: float, start: float, end: float, options: BuildOptions
) -> tuple[NDArray[np.int64], int, int]:
    """Every n-th frame, as published."""
    first, last = int(start * rate), int(min(end * rate, count - 1))
    stride = round(rate / options.frames_per_second)
    if last < first or stride < 1:
        raise SampleError(MEDIA, f"no frame between {start:g} and {end:g} s can be taken at {rate:g} frames/s")
    return np.arange(first, last + 1, stride, dtype=np.int64), first, last


def _by_time(
    times: NDArray[np.float64], start: float, end: float, options: BuildOptions
) -> tuple[NDArray[np.int64], int, int]:
    """At every tick the newest frame at or before it, as the live stream takes them."""
    inside = np.flatnonzero((times >= start - _ROUNDING) & (times <= end + _ROUNDING))
    if not len(inside):
        raise SampleError(MEDIA, f"no frame between {start:g} and {end:g} s; the video ends at {times[-1]:.2f} s")
    first, last = int(inside[0]), int(inside[-1])
    span = times[last] - times[first]
    if span > _MAX_SPAN:
        raise SampleError(MEDIA, f"the video's stamps span {span:g} s")
    ticks = times[first] + np.arange(int((span + _ROUNDING) * options.frames_per_second) + 1) / (
        options.frames_per_second
    )
    return np.searchsorted(times, ticks + _ROUNDING, side="right").astype(np.int64) - 1, first, last


def _spread(first: int, last: int, count: int) -> NDArray[np.int64]:
    return np.linspace(first, last, count).astype(np.int64)
