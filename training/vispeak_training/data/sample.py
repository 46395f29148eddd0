"""One training sample, and the error of one that cannot be built."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vispeak_node.model import tokens

IMAGE, AUDIO, VIDEO_AUDIO = tokens.IMAGE_ID, tokens.AUDIO_ID, tokens.VIDEO_AUDIO_ID  # where an embedding goes
IGNORE = -100  # no label

MISSING, MEDIA, OVERLONG, LABELS = "missing file", "undecodable media", "overlong", "labels"
KINDS_OF_ERROR = (MISSING, MEDIA, OVERLONG, LABELS)


@dataclass(frozen=True)
class Sample:
    """One training sample; L positions, N pictures of side S, M seconds of sound."""

    user: NDArray[np.int64]  # [L] ids; negative placeholders where an embedding goes
    agent: NDArray[np.int64]  # [L] ids; pad is silence
    targets: NDArray[np.int64]  # [L] the agent's token of the same position, or IGNORE; the loss shifts
    informative: NDArray[np.int64]  # [L] 1, 0 or IGNORE; unshifted
    events: NDArray[np.int64]  # [L] index into the config's event labels, or IGNORE; unshifted
    images: NDArray[np.uint8]  # [N, S, S, 3] RGB, resized, in the order of the IMAGE runs
    sounds: NDArray[np.float32]  # [M, 16000] mono at 16 kHz, in the order of the AUDIO and VIDEO_AUDIO runs
    name: str  # file and index, for logs
    # [N] how often the side of each picture's square of tokens is halved, as remembered frames are; None is never
    levels: NDArray[np.int64] | None = None


class SampleError(ValueError):
    """A sample that cannot be built; `kind` is one of KINDS_OF_ERROR.

    Args:
        kind: what sort of fault it is.
        reason: one line.
        length: positions, where it is known that they are too many.
    """

    def __init__(self, kind: str, reason: str, length: int = 0) -> None:
        assert kind in KINDS_OF_ERROR, kind
        super().__init__(kind, reason, length)  # all of them, so that it crosses to another process whole
        self.kind, self.reason, self.length = kind, reason, length

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"
