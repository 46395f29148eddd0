"""Labels that can be read but can hardly be meant."""

from __future__ import annotations

from collections.abc import Iterator

from vispeak_node.model.tokens import neutralise
from vispeak_training.data.record import GPT, HUMAN, OFFLINE, Record, Turn, is_visual

_MEDIA_MARKS = ("<image>", "<video>", "<audio>")
_SLACK = 1.0  # s by which a time may lie behind the video's end: annotators round


def label_anomalies(record: Record, duration: float = 0.0) -> list[str]:
    """What is odd in a record, one line each.

    Args:
        record: any.
        duration: of its video, s; 0 if it is not known.
    """
    found = []
    for index, turn in enumerate(record.turns):
        place = f"conversations[{index}]"
        found += [f"{place}: {text}" for text in _of_text(record, turn)]
        if record.kind != OFFLINE:
            found += [f"{place}: {text}" for text in _of_time(record, turn, is_visual(record, index), duration)]
    if record.kind != OFFLINE:
        found += _of_order(record)
    return found


def _of_text(record: Record, turn: Turn) -> Iterator[str]:
    if not turn.text.strip():
        yield "an empty reply" if turn.speaker == GPT else "an empty question"
    plain = turn.text
    if record.kind == OFFLINE and turn.speaker == HUMAN:
        for mark in _MEDIA_MARKS:
            plain = plain.replace(mark, "")
    stands_for_speech = record.use_audio and turn.speaker == HUMAN
    if not stands_for_speech and (neutralise(plain) != plain or "<video>" in plain):
        yield "a marker inside the text"


def _of_time(record: Record, turn: Turn, visual: bool, duration: float) -> Iterator[str]:
    begin = record.start or 0.0
    end = duration if record.end is None else min(record.end, duration or record.end)
    if turn.when < 0 or turn.when < begin - _SLACK:
        yield f"time {turn.when:g} lies before the video, which begins at {begin:g} s"
    if end and turn.when > end + _SLACK:
        yield f"time {turn.when:g} lies beyond the video, which ends at {end:.1f} s"
    if turn.timespan is None:
        return
    first, last = turn.timespan
    if first < 0 or last < first or (visual and last == first):  # what is typed takes no time
        yield f"timespan [{first:g}, {last:g}] is no span of time"
        return
    if end and first > end + _SLACK:
        yield f"timespan [{first:g}, {last:g}] lies beyond the video, which ends at {end:.1f} s"
    if not visual:
        return
    if not first <= turn.when <= last:
        yield f"time {turn.when:g} lies outside timespan [{first:g}, {last:g}]"
    elif turn.when < (first + last) / 2:
        yield f"time {turn.when:g} does not lie in the second half of timespan [{first:g}, {last:g}]"


def _of_order(record: Record) -> Iterator[str]:
    latest = float("-inf")
    for index, turn in enumerate(record.turns):
        if turn.when < latest:
            yield f"conversations[{index}]: time {turn.when:g} lies before the turn above it"
        latest = max(latest, turn.when)
