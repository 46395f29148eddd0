"""Which stamps of a source are believed.

A single stamp that is far off is refused. Stamps that are far off but agree with each other are a clock that began
anew (a bag that loops, a driver that restarts). Where there are a camera and a microphone, the camera leads: sound
that keeps another clock than a camera that is alive is refused for as long as it does, or the two would take turns in
resetting the stream.
"""

from __future__ import annotations

from enum import Enum

from vispeak_node.stream.events import NANOSECONDS

MAX_BACK = NANOSECONDS  # a stamp this much before the last one is not merely late
MAX_AHEAD = 60 * NANOSECONDS
PERSISTENT = 5  # so many stamps in a row that agree with each other are a clock that began anew
MIN_SPAN = 3 * NANOSECONDS  # and where another source leads they span so much, that it could have shown that it lives
_LIMIT = 2**62  # ns, 146 years: sums and differences of such stamps still fit into 64 bits


class Verdict(Enum):
    """What to do with a stamped item."""

    GOOD = "good"
    LATE = "late"  # slightly before the last one
    WRONG = "wrong"  # far off
    NEW_CLOCK = "new clock"  # far off, as were the ones before it


class StampCheck:
    """Judges the stamps of one source, one after the other.

    Args:
        leader: the source whose clock counts if the two differ; none if this one leads.
    """

    def __init__(self, leader: StampCheck | None = None) -> None:
        self._leader = leader
        self.last: int | None = None  # ns, newest stamp that was believed
        self.num_good = 0
        self._odd: int | None = None
        self._num_odd = 0
        self._odd_since = (0, 0)  # stamp, and what the leader had believed by then

    def judge(self, stamp: int, other: int | None = None, passed: int = 0) -> Verdict:
        """What the next stamp is worth.

        Args:
            stamp: ns.
            other: ns, newest stamp of another source, which may have gone on while this one was away.
            passed: ns that have passed since the last stamp by the receiver's own clock, if it has one.
        """
        if self._fits(stamp, other, passed):
            self._num_odd = 0
            if self.last is not None and stamp < self.last:
                return Verdict.LATE
            self._believe(stamp)
            return Verdict.GOOD
        if not self._persists(stamp):
            return Verdict.WRONG
        self.forget()
        self._believe(stamp)
        return Verdict.NEW_CLOCK

    def forget(self) -> None:
        """Believes whatever comes next, if it fits the other source."""
        self.last = self._odd = None
        self._num_odd = 0

    def _believe(self, stamp: int) -> None:
        self.last = stamp
        self.num_good += 1

    def _fits(self, stamp: int, other: int | None, passed: int) -> bool:
        near_other = other is not None and abs(stamp - other) <= MAX_AHEAD
        if self.last is None:
            return other is None or near_other
        if stamp < self.last:
            return self.last - stamp <= MAX_BACK
        return stamp - self.last <= MAX_AHEAD + passed or near_other

    def _persists(self, stamp: int) -> bool:
        """Whether the stamps that are far off agree with each other for long enough."""
        alive = self._leader.num_good if self._leader is not None else 0
        agrees = self._num_odd > 0 and self._odd is not None and 0 <= stamp - self._odd <= MAX_AHEAD
        if not agrees or alive != self._odd_since[1]:
            self._num_odd, self._odd_since = 0, (stamp, alive)
        self._num_odd += 1
        self._odd = stamp
        long_enough = self._leader is None or stamp - self._odd_since[0] >= MIN_SPAN
        return self._num_odd >= PERSISTENT and long_enough


def check_stamp(stamp: object) -> int:
    """A stamp as Python's integer: numpy's would overflow silently.

    Raises:
        ValueError: it is no integer, or beyond all reason.
    """
    try:
        value = stamp.__index__()  # type: ignore[attr-defined]
    except AttributeError:
        raise ValueError(f"a stamp must be whole nanoseconds, not {type(stamp).__name__}") from None
    if not -_LIMIT < value < _LIMIT:
        raise ValueError(f"a stamp of {value} ns is beyond all reason")
    return int(value)
