"""Events that wait for the model: bounded, and when it is too slow the newest data win."""

from __future__ import annotations

import threading
import time
from collections import deque

from vispeak_node.ros.report import Report
from vispeak_node.stream.events import Event, ImageEvent, ResetEvent, SoundEvent, TextEvent

POLICIES = ("catch_up", "skip_to_latest")
MOST_TEXTS = 16  # questions that may wait
_NAMES = {ImageEvent: "frames", SoundEvent: "seconds of sound"}


class Backlog:
    """A queue between the threads that receive and the one that thinks.

    Frames and sound give way, questions and resets never do: frames come again, a question does not.

    Args:
        most: frames and seconds of sound that may wait.
        policy: `catch_up` lets them wait, and drops the oldest when there are too many; `skip_to_latest` drops what
            waits as soon as a newer frame comes.
        report: counts what is dropped, by reason.

    Raises:
        ValueError: no such policy.
    """

    def __init__(self, most: int, policy: str, report: Report) -> None:
        if policy not in POLICIES:
            raise ValueError(f"overload {policy!r} is unknown; use one of {', '.join(POLICIES)}")
        self._most, self._policy, self._report = most, policy, report
        self._waiting: deque[tuple[Event, float]] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    def check_text(self) -> None:
        """Refuses a question while too many wait.

        Raises:
            ValueError: they do.
        """
        with self._changed:
            texts = sum(isinstance(event, TextEvent) for event, _ in self._waiting)
        if texts >= MOST_TEXTS:
            raise ValueError(f"{texts} questions wait already")

    def put(self, event: Event) -> None:
        """Adds an event; never waits."""
        with self._changed:
            if self._policy == "skip_to_latest" and isinstance(event, ImageEvent):
                self._drop(len(self._waiting), "skipped")
            self._waiting.append((event, time.monotonic()))
            data = sum(isinstance(waiting, ImageEvent | SoundEvent) for waiting, _ in self._waiting)
            self._drop(data - self._most, "dropped")
            self._report.deepest = max(self._report.deepest, len(self._waiting))
            self._changed.notify()

    def get(self, timeout: float) -> tuple[Event, float] | None:
        """The oldest event and when it came, monotonic s; None if there is none within `timeout` s."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, timeout):
                return None
            return self._waiting.popleft()

    def peek(self) -> Event | None:
        """The event that is most likely next."""
        with self._changed:
            return self._waiting[0][0] if self._waiting else None

    def _drop(self, number: int, why: str) -> None:
        """Takes out the `number` oldest frames and seconds of sound."""
        kept: deque[tuple[Event, float]] = deque()
        while number > 0 and self._waiting:
            event, arrived = self._waiting.popleft()
            if isinstance(event, TextEvent | ResetEvent):
                kept.append((event, arrived))
                continue
            self._report.drop(f"{_NAMES[type(event)]} {why}")
            number -= 1
        self._waiting.extendleft(reversed(kept))
