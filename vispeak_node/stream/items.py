"""What sources deliver: frames, sound and text with stamps, before any of it is put in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# RGB uint8 [height, width, 3], or a function that makes one: most frames are never looked at, so most are never
# decoded. The function raises ValueError where the data turn out to be no picture.
Picture: TypeAlias = NDArray[np.uint8] | Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class FrameItem:
    """One camera frame."""

    stamp: int  # ns
    image: Picture


@dataclass(frozen=True, slots=True, eq=False)
class SoundItem:
    """A run of samples."""

    stamp: int  # ns, of the first sample
    samples: NDArray[np.float32] | NDArray[np.int16]  # [n] or [n, channels]
    sample_rate: int  # Hz


@dataclass(frozen=True, slots=True)
class TextItem:
    """Something a user typed."""

    stamp: int  # ns
    text: str


Item: TypeAlias = FrameItem | SoundItem | TextItem
