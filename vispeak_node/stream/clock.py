"""Which stamps of a source are believed."""

from __future__ import annotations

from enum import Enum

from vispeak_node.stream.events import NANOSECONDS

MAX_BACK = NANOSECONDS  # a stamp this much before the last one is not merely late
MAX_AHEAD = 60 * NANOSECONDS
PERSISTENT = 5  # so many stamps in a row that agree with each other are a clock that began anew


class Verdict(Enum):
    """What to do with a stamped item."""

    GOOD = "good"
    LATE = "late"  # slightly before the last one
    WRONG = "wrong"  # far off
    NEW_CLOCK = "new clock"  # far off, as were the ones before it


class StampCheck:
    """Judges the stamps of one source, one after the other."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._odd: int | None = None
        self._num_odd = 0

    def judge(self, stamp: int) -> Verdict:
        """What the next stamp is worth; ns."""
        if self._last is None or -MAX_BACK <= stamp - self._last <= MAX_AHEAD:
            late = self._last is not None and stamp < self._last
            self._num_odd = 0
            if not late:
                self._last = stamp
            return Verdict.LATE if late else Verdict.GOOD
        agrees = self._odd is not None and 0 <= stamp - self._odd <= MAX_AHEAD
        self._num_odd = self._num_odd + 1 if agrees else 1
        self._odd = stamp
        if self._num_odd < PERSISTENT:
            return Verdict.WRONG
        self.forget()
        self._last = stamp
        return Verdict.NEW_CLOCK

    def forget(self) -> None:
        """Believes whatever comes next."""
        self._last = self._odd = None
        self._num_odd = 0
