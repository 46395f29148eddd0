"""What happened in the node so far, and how it is doing: for diagnostics, tests and the last line of the log."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field

from vispeak_node.ros.standard import DiagnosticStatus, KeyValue
from vispeak_node.stream.counters import StreamCounters

RATE_WINDOW = 10.0  # s over which rates are counted
RECENT = 5.0  # s in which a drop still counts as trouble
_MOST_REASONS = 256  # different reasons for refusals that are told apart
_OTHER = "other reasons"


@dataclass
class Report:
    """Counts since the start, and rates of late; written by the node, read by anybody."""

    received: Counter[str] = field(default_factory=Counter)  # messages by topic
    refused: Counter[str] = field(default_factory=Counter)  # messages by topic and reason
    dropped: Counter[str] = field(default_factory=Counter)  # events by reason: the model was too slow
    ignored: int = 0  # messages that came while the node was switched off
    duplicates: int = 0  # replies not published because the same words were just said
    replies: int = 0
    read: int = 0  # events that the model is through with
    errors: int = 0  # exceptions inside the model
    hangs: int = 0  # how often the model did not come back in time
    deepest: int = 0  # most events that ever waited at once
    lag: float = 0.0  # s that the newest event waited and took
    last_error: str = ""
    last_drop: float = float("-inf")  # monotonic s
    _samples: deque[tuple[float, Counter[str]]] = field(default_factory=deque)  # monotonic s, counts then

    @property
    def dropped_events(self) -> int:
        """Events that the model never saw."""
        return sum(self.dropped.values())

    def drop(self, why: str) -> None:
        """An event is dropped because the model is too slow."""
        self.dropped[why] += 1
        self.last_drop = time.monotonic()

    def refuse(self, reason: str) -> bool:
        """Counts a refusal; whether it is the first one for its reason.

        Numbers differ from message to message and the reason is the same, so they do not tell reasons apart. There are
        no more than so many reasons: what is refused may contain anything.
        """
        key = "".join("#" if character.isdigit() else character for character in reason)[:200]
        if key not in self.refused and len(self.refused) >= _MOST_REASONS:
            key = _OTHER
        self.refused[key] += 1
        return self.refused[key] == 1

    def event_read(self, lag: float) -> None:
        """The model is through with an event."""
        self.read += 1
        self.lag = lag

    def sample(self, now: float) -> None:
        """Notes the counts, about once a second, for the rates."""
        counts = Counter({f"in {topic}": count for topic, count in self.received.items()})
        counts |= {"events read": self.read, "replies": self.replies}
        self._samples.append((now, counts))
        while len(self._samples) > 2 and now - self._samples[1][0] >= RATE_WINDOW:
            self._samples.popleft()

    def rates(self) -> dict[str, float]:
        """Messages in by topic, events read and replies, each per second of late."""
        if len(self._samples) < 2:
            return {}
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        return {name: (after[name] - before[name]) / max(1e-3, last - first) for name in after}

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
    values = dict(facts) | {f"rate {name} per s": f"{rate:.2f}" for name, rate in sorted(report.rates().items())}
    values |= {
        "lag s": f"{report.lag:.3f}",
        "replies": str(report.replies),
        "deepest queue": str(report.deepest),
        "duplicates": str(report.duplicates),
        "ignored while off": str(report.ignored),
        "model errors": str(report.errors),
        "model hangs": str(report.hangs),
        "last error": report.last_error,
        "dropped events": str(report.dropped_events),
    }
    values |= {f"dropped: {reason}": str(count) for reason, count in sorted(report.dropped.items())}
    values |= {f"received {topic}": str(count) for topic, count in sorted(report.received.items())}
    values |= {f"refused {reason}": str(count) for reason, count in report.refused.most_common(20)}
    values |= {name.replace("_", " "): str(count) for name, count in asdict(counters).items()}
    pairs = tuple(KeyValue(key, value) for key, value in values.items())
    name = f"vispeak: assistant {facts.get('camera', '')}".rstrip()
    return DiagnosticStatus(DiagnosticStatus.CONSTANTS[level][1], name, message, "", pairs)
