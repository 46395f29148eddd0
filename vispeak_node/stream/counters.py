"""What a stream let through and what it did not, by reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class StreamCounters:
    """Counts since the start; nothing is dropped that is not counted here."""

    frames_in: int = 0
    frames_used: int = 0  # became an image event
    frames_late: int = 0  # older than a frame that came before
    frames_refused: int = 0  # malformed, or a stamp out of the question
    ticks_missing: int = 0  # seconds (or half seconds) without a picture
    sound_in: int = 0  # chunks
    sound_seconds: int = 0  # became a sound event
    sound_late: int = 0
    sound_refused: int = 0
    sound_gaps: int = 0  # holes that were filled with silence or cost a second
    sound_missing: int = 0  # seconds that were given up because sound lagged too far behind the picture
    texts: int = 0
    texts_refused: int = 0
    resets: int = 0  # a source's clock began anew
