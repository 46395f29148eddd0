"""What happened in the node so far, and how it is doing: for diagnostics, tests and the last line of the log."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass, field

from vispeak_node.ros.standard import DiagnosticStatus, KeyValue
from vispeak_node.stream.counters import StreamCounters

RATE_WINDOW = 10.0  # s over which rates are counted
RECENT = 5.0  # s in which a drop still counts as trouble


@dataclass
class Report:
    """Counts since the start, and rates of late; written by the node, read by anybody."""

    received: Counter[str] = field(default_factory=Counter)  # messages by topic
    refused: Counter[str] = field(default_factory=Counter)  # messages by topic and reason
    ignored: int = 0  # messages that came while the node was switched off
    dropped_events: int = 0  # the model was too slow
    duplicates: int = 0  # replies not published because the same words were just said
    replies: int = 0
    errors: int = 0  # exceptions inside the model
    deepest: int = 0  # most events that ever waited at once
    lag: float = 0.0  # s that the newest event waited and took
    last_error: str = ""
    last_drop: float = float("-inf")  # monotonic s
    _read: deque[float] = field(default_factory=lambda: deque(maxlen=4096))  # monotonic s of events read

    def event_read(self, now: float, lag: float) -> None:
        """The model is through with an event."""
        self._read.append(now)
        self.lag = lag

    def rate(self, now: float) -> float:
        """Events read per second of late."""
        return sum(now - moment <= RATE_WINDOW for moment in self._read) / RATE_WINDOW

    def overloaded(self, now: float) -> bool:
        """Whether events were dropped of late."""
        return now - self.last_drop <= RECENT


def diagnosis(report: Report, counters: StreamCounters, facts: dict[str, str], now: float) -> DiagnosticStatus:
    """The node's health as one status.

    Args:
        report: of the assistant.
        counters: of its segmenter.
        facts: what else should be seen, such as the device and the state.
        now: monotonic s.
    """
    level, message = "OK", "watching"
    if report.overloaded(now):
        level, message = "WARN", "the model is slower than the input: events are dropped"
    if facts.get("state") == "error":
        level, message = "ERROR", report.last_error
    values = dict(facts) | {
        "segments per s": f"{report.rate(now):.2f}",
        "lag s": f"{report.lag:.3f}",
        "replies": str(report.replies),
        "dropped events": str(report.dropped_events),
        "deepest queue": str(report.deepest),
        "duplicates": str(report.duplicates),
        "ignored while off": str(report.ignored),
        "model errors": str(report.errors),
        "last error": report.last_error,
    }
    values |= {f"received {topic}": str(count) for topic, count in sorted(report.received.items())}
    values |= {f"refused {reason}": str(count) for reason, count in sorted(report.refused.items())[:20]}
    values |= {name.replace("_", " "): str(count) for name, count in asdict(counters).items()}
    pairs = tuple(KeyValue(key, value) for key, value in values.items())
    name = f"vispeak: assistant {facts.get('camera', '')}".rstrip()
    return DiagnosticStatus(DiagnosticStatus.CONSTANTS[level][1], name, message, "", pairs)
