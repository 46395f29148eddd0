"""Was it said in time? The published window, and what two answers without any sight would reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vispeak_training.bench.annotations import Item
from vispeak_training.bench.record import Record

TOLERANCE = 2.0  # s after a span in which a reply still counts, in all six timed tasks


def on_time(span: tuple[float, float], time: float | None) -> bool:
    """Whether a time lies in the window [max(0, begin), end + 2 s]."""
    return time is not None and max(0.0, span[0]) <= time <= span[1] + TOLERANCE


def legacy_correct(item: Item, record: Record) -> bool:
    """As published: a silent item is judged by the time that the harness returned for it."""
    return item.span is None or on_time(item.span, record.published_time)


def strict_correct(item: Item, record: Record) -> bool:
    """Silence is wrong, whatever its time."""
    return not record.silent and (item.span is None or on_time(item.span, record.time))


def silent_time(item: Item, record: Record | None = None) -> float | None:
    """The time that the published harness gives a model that never speaks; none where it cannot be known.

    It is the last frame's time, or where there is a question the one of the event before the model may first speak,
    which depends on the model's tokens and is therefore taken from a record. Without one, frames are taken to lie at
    whole seconds.
    """
    if record is not None and record.silent_time is not None:
        return record.silent_time
    if item.question is not None:
        # after an interruption's question comes the first event to speak at; other tasks need the model's tokens
        return item.question.time if item.task.code == "vi" else None
    end = item.length if item.end is None else item.end
    return None if end is None else float(math.floor(end))


@dataclass(frozen=True)
class Baselines:
    """Shares of a task's items that answers without sight would get right in time."""

    start_plus_1: float  # always speaks one second after the clip's start
    never_strict: float  # never speaks: nothing is right
    never_legacy: float | None  # never speaks, by the published rule; none where the silent time is not known


def baselines(items: Sequence[Item], records: dict[str, Record] | None = None) -> Baselines:
    """The two baselines on the given items of one timed task.

    Args:
        items: not empty, distractors are not counted.
        records: of a run, for the times that the published harness gives to silence.
    """
    known = records or {}
    spans = [(item, item.span) for item in items if item.span is not None]
    assert spans, "a timed task has spans"
    early = sum(on_time(span, item.start + 1.0) for item, span in spans)
    silent = [(span, silent_time(item, known.get(item.video))) for item, span in spans]
    legacy = None
    if all(time is not None for _, time in silent):
        legacy = sum(on_time(span, time) for span, time in silent) / len(spans)
    return Baselines(early / len(spans), 0.0, legacy)
