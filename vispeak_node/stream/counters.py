"""What a stream let through and what it did not, by reason."""

from __future__ import annotations

import logging
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass
class StreamCounters:
    """Counts since the start; nothing is dropped that is not counted here."""

    frames_in: int = 0
    frames_used: int = 0  # became an image event
    frames_late: int = 0  # older than a frame that came before, or than a tick that is over
    frames_refused: int = 0  # malformed, or a stamp out of the question
    ticks_missing: int = 0  # seconds (or half seconds) without a picture
    sound_in: int = 0  # chunks
    sound_seconds: int = 0  # became a sound event
    sound_late: int = 0  # chunks that held nothing new, or only what lies before the first frame
    sound_refused: int = 0
    sound_gaps: int = 0  # holes that were filled with silence or cost a second
    sound_missing: int = 0  # seconds that were given up or fell into a hole
    texts: int = 0
    texts_late: int = 0  # older than what came out already, so taken as said then
    texts_refused: int = 0
    resets: int = 0  # a source's clock began anew, or somebody asked for it

    def __post_init__(self) -> None:
        self._told: set[str] = set()

    def lose(self, kind: str, why: str, number: int = 1) -> None:
        """Counts something that is not as it should be, and says so the first time.

        Args:
            kind: the field to count in.
            why: one line for the log; a robot that runs for a day would otherwise write it every second.
            number: how many are lost; nothing happens if there are none.
        """
        if number <= 0:
            return
        setattr(self, kind, getattr(self, kind) + number)
        if kind not in self._told:
            self._told.add(kind)
            logger.warning("%s (said once; counted as %s)", why, kind)
