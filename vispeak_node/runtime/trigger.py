"""When scores add up to a reason to speak: the sum of the last three lies above a threshold (published: 0.35)."""

from __future__ import annotations

from collections import deque

from vispeak_node.runtime.config import SessionConfig
from vispeak_node.stream.events import nanoseconds


class TriggerWindow:
    """The window of the last scores and the pause after a reply began."""

    def __init__(self, config: SessionConfig) -> None:
        self._config = config
        self._scores: deque[float] = deque(maxlen=config.window)
        self._first = True
        self._last_fire: int | None = None

    def configure(self, config: SessionConfig) -> None:
        """Other thresholds and times from now on; the window's length stays."""
        self._config = config

    def rearm(self) -> None:
        """Starts a new window: a reply began."""
        self._scores.clear()
        self._first = True

    def reset(self) -> None:
        """Forgets everything, the refractory time too."""
        self.rearm()
        self._last_fire = None

    def add(self, stamp: int, score: float) -> tuple[float, bool]:
        """Takes one score.

        Returns:
            The window's sum, and whether it calls for a reply now.
        """
        self._scores.append(0.0 if self._first and self._config.first_score_is_zero else score)
        self._first = False
        total = sum(self._scores)
        return total, total > self._config.threshold and not self.resting(stamp)

    def fired(self, stamp: int) -> None:
        """A proactive reply begins at this stamp."""
        self._last_fire = stamp
        self.rearm()

    def resting(self, stamp: int) -> bool:
        """Whether a proactive reply began a moment ago, so that no other may."""
        if self._last_fire is None:
            return False
        return 0 <= stamp - self._last_fire < nanoseconds(self._config.refractory)
