"""When an anomaly begins, when it is over, and which gesture an event is."""

from __future__ import annotations

from dataclasses import dataclass

from vispeak_node.ros.messages import Gesture, Response
from vispeak_node.runtime.outputs import split_label
from vispeak_node.stream.events import nanoseconds

ANOMALY = "anomaly_warning"
_TRIGGERS = {
    "visual_wake_up": "TRIGGER_WAKE",
    ANOMALY: "TRIGGER_ANOMALY",
    "gesture_understanding": "TRIGGER_GESTURE",
    "visual_reference": "TRIGGER_REFERENCE",
    "visual_interruption": "TRIGGER_INTERRUPT",
    "humor_reaction": "TRIGGER_HUMOR",
    "visual_termination": "TRIGGER_TERMINATION",
}
_GESTURES = {  # by subtask; a label says more
    "visual_wake_up": "WAVING",
    "gesture_understanding": "OTHER",
    "visual_reference": "POINTING",
    "visual_interruption": "STOP",
    "visual_termination": "GOODBYE",
}


def trigger_of(event: str) -> int:
    """Number of `Response.trigger` for an event's label; PROACTIVE if it is unknown."""
    return Response.CONSTANTS[_TRIGGERS.get(split_label(event)[0], "TRIGGER_PROACTIVE")][1]


def gesture_of(event: str) -> int | None:
    """Number of `Gesture.gesture` for an event's label, or None if it is no gesture."""
    name = _GESTURES.get(split_label(event)[0])
    return None if name is None else Gesture.CONSTANTS[name][1]


@dataclass
class Raised:
    """An anomaly that is not over yet."""

    id: str
    category: str
    score: float
    start: int  # ns, the moment that raised it
    seen: int  # ns, the newest moment that showed it


class AnomalyWatch:
    """At most one anomaly at a time.

    It is over when the event head has not seen it for `clear` seconds; without such a head, when nobody mentioned one
    for `hold` seconds.
    """

    def __init__(self, clear: float, hold: float) -> None:
        self._clear, self._hold = nanoseconds(clear), nanoseconds(hold)
        self.raised: Raised | None = None

    def trigger(self, reply_id: str, event: str, score: float, stamp: int) -> bool:
        """A reply began; whether that raises an anomaly (one that is raised already is only kept alive)."""
        subtask, label = split_label(event)
        if subtask != ANOMALY:
            return False
        if self.raised is not None:
            self.raised.seen = stamp
            return False
        self.raised = Raised(reply_id, label, score, stamp, stamp)
        return True

    def look(self, events: tuple[tuple[str, float], ...], stamp: int) -> Raised | None:
        """A moment was scored; the anomaly that is over by it."""
        if self.raised is None:
            return None
        if sum(share for label, share in events if split_label(label)[0] == ANOMALY) >= 0.5:
            self.raised.seen = stamp
        patience = self._clear if events else self._hold
        return self.end() if stamp - self.raised.seen >= patience else None

    def end(self) -> Raised | None:
        """Takes the anomaly away, as when the node forgets everything."""
        over, self.raised = self.raised, None
        return over
