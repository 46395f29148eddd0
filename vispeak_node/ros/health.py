"""Tells how the node is doing, in a thread of its own: the model's thread is the one that may hang."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from vispeak_node.ros.report import Report

logger = logging.getLogger(__name__)

_LOOK = 0.1  # s between looks
_PULSE = 1.0  # s between diagnoses
_QUIET = 3.0  # s without an event after which the node is idle
_ERROR_SHOWN = 1.0  # s for which an error that is over is still the node's state


@dataclass
class Vitals:
    """What the node's threads note for the one that watches; all moments are monotonic s."""

    enabled: bool = True
    speaking: bool = False  # whether a reply is under way
    last_event: float = float("-inf")  # when the model was last given something
    busy_since: float | None = None  # since when the model is at work on one event
    failed: float = float("-inf")  # when the model last failed

    def state(self, overloaded: bool, patience: float, now: float) -> str:
        """A name of State's constants, in small letters."""
        if self.hangs(patience, now) or now - self.failed < _ERROR_SHOWN:
            return "error"
        if not self.enabled or now - self.last_event > _QUIET:
            return "idle"
        if self.speaking:
            return "speaking"
        return "overloaded" if overloaded else "listening"

    def hangs(self, patience: float, now: float) -> bool:
        """Whether the model does not come back."""
        busy = self.busy_since
        return busy is not None and now - busy > patience


class Health:
    """Watches the model's thread, and publishes the state when it changes and a diagnosis every second.

    Args:
        vitals: what the node's threads note.
        report: counts hangs here.
        patience: s that the model may take for one event.
        show: publishes a state.
        diagnose: publishes a diagnosis.
    """

    def __init__(
        self,
        vitals: Vitals,
        report: Report,
        patience: float,
        show: Callable[[str], None],
        diagnose: Callable[[], None],
    ) -> None:
        self.state = ""
        self._vitals, self._report, self._patience = vitals, report, patience
        self._show, self._diagnose = show, diagnose
        self._next_pulse = 0.0
        self._hung: float | None = None  # since when the model hangs
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to watch."""
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def look(self, now: float) -> None:
        """One look at the node."""
        self._note_hang(now)
        state = self._vitals.state(self._report.overloaded(now), self._patience, now)
        if state != self.state:
            self.state = state
            self._show(state)
        if now >= self._next_pulse:
            self._next_pulse = now + _PULSE
            self._report.sample(now)
            self._diagnose()

    def _note_hang(self, now: float) -> None:
        busy = self._vitals.busy_since
        if busy is not None and self._vitals.hangs(self._patience, now):
            self._report.last_error = f"the model has been at one event for {now - busy:.0f} s"
            if self._hung != busy:
                self._hung = busy
                self._report.hangs += 1
                logger.error("%s", self._report.last_error)

    def _run(self) -> None:
        while not self._stop.wait(_LOOK):
            try:
                self.look(time.monotonic())
            except Exception:  # whatever a transport does, the watch goes on
                logger.exception("the node's health cannot be published")
