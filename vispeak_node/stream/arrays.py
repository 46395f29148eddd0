"""Numpy arrays as items, for programs and tests that have a clip in memory."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vispeak_node.stream.events import NANOSECONDS
from vispeak_node.stream.items import FrameItem, Item, SoundItem

CHUNK = 1600  # samples


def read_arrays(
    video: NDArray[np.uint8] | None = None,
    frames_per_second: float = 25.0,
    sound: NDArray[np.float32] | NDArray[np.int16] | None = None,
    sample_rate: int = 16_000,
    start: int = 0,
) -> Iterator[Item]:
    """Items in the order of their stamps.

    Args:
        video: uint8 [frames, height, width, 3].
        frames_per_second: of the video.
        sound: float32 in [-1, 1] or int16, [n] or [n, channels].
        sample_rate: Hz, of the sound.
        start: ns, stamp of the first frame and sample.

    Raises:
        ValueError: a rate is not above zero. The arrays themselves are judged by whoever reads the items.
    """
    if not (0 < frames_per_second < float("inf") and sample_rate > 0):
        raise ValueError(f"{frames_per_second} frames per second, sound at {sample_rate} Hz: rates must be above zero")
    step = NANOSECONDS / Fraction(frames_per_second)
    items: list[Item] = []
    if video is not None:
        items += [FrameItem(start + round(index * step), frame) for index, frame in enumerate(video)]
    if sound is not None:
        for first in range(0, len(sound), CHUNK):
            stamp = start + first * NANOSECONDS // sample_rate
            items.append(SoundItem(stamp, sound[first : first + CHUNK], sample_rate))
    yield from sorted(items, key=lambda item: item.stamp)
