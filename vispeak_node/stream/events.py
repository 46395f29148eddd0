"""What a session reads: one event per image, second of sound, or text, in stream order.

All stamps are integer nanoseconds on the source's clock (a camera header, a file's own time base), because the
tick rule "newest frame at or before the tick" must give the same answer for a file at 0 s and for a robot at 1.8e9 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

NANOSECONDS = 1_000_000_000
SAMPLE_RATE = 16_000  # Hz, of every SoundEvent


@dataclass(frozen=True, slots=True, eq=False)
class ImageEvent:
    """The frame that stands for the tick at `stamp`."""

    stamp: int  # ns, the tick that this frame stands for
    image: NDArray[np.uint8]  # [height, width, 3] RGB
    frame_stamp: int  # ns, the frame's own stamp, at or before `stamp`


@dataclass(frozen=True, slots=True, eq=False)
class SoundEvent:
    """One second of sound, starting at `stamp`."""

    stamp: int  # ns, first sample
    samples: NDArray[np.float32]  # [16000] mono in [-1, 1]


@dataclass(frozen=True, slots=True)
class TextEvent:
    """Something a user typed."""

    stamp: int  # ns
    text: str


@dataclass(frozen=True, slots=True)
class ResetEvent:
    """Forget everything but the system prompt."""

    stamp: int  # ns


Event: TypeAlias = ImageEvent | SoundEvent | TextEvent | ResetEvent


def seconds(stamp: int) -> float:
    """A stamp or a duration in nanoseconds as float seconds."""
    return stamp / NANOSECONDS


def nanoseconds(value: float) -> int:
    """Float seconds as integer nanoseconds, rounded to nearest."""
    return round(value * NANOSECONDS)
