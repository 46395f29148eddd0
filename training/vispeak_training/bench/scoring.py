"""From records to the published numbers: time accuracy, text score, and the overall score, strict and legacy.

Overall is the mean over the tasks of time accuracy x text score, with a time accuracy of 1 for Visual Reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from vispeak_node.model.subtasks import split_label
from vispeak_training.bench.annotations import Item
from vispeak_training.bench.judge import Judge, Verdict
from vispeak_training.bench.letters import legacy_letter, strict_letter
from vispeak_training.bench.record import Record
from vispeak_training.bench.tasks import FULL_MARKS, TIMED, Task
from vispeak_training.bench.timing import Baselines, baselines, legacy_correct, strict_correct


@dataclass(frozen=True)
class TaskScore:
    """One task by one rule."""

    time: float | None  # share in time; none for Visual Reference
    text: float | None  # mean marks of what came in time (answer_average_score_time_correct); none without a judge
    text_overall: float | None  # the same sum over all items (answer_average_score_overall)


@dataclass(frozen=True)
class TaskResult:
    """One task."""

    task: Task
    items: int  # annotated, distractors not counted
    run: int  # of them with a record; the scores are over these
    silent: int
    unjudged: int  # in time, but without a verdict though a judge was asked
    strict: TaskScore
    legacy: TaskScore
    baselines: Baselines | None  # none for Visual Reference
    named: float | None  # of replies in time, the share that the event head took for this task; none without a head
    false_triggers: int  # in distractors
    distractor_seconds: float
    details: tuple[dict[str, Any], ...] = ()  # one object an item

    @property
    def false_per_minute(self) -> float | None:
        """Replies a minute of clips in which nothing calls for words; none without such clips."""
        return 60 * self.false_triggers / self.distractor_seconds if self.distractor_seconds else None


def overall(time: Mapping[str, float], text: Mapping[str, float]) -> float:
    """Mean over the tasks of time accuracy (0 to 1) x text score (0 to 5), by codes; a task without a time counts as 1.

    Raises:
        ValueError: there is no task.
    """
    if not text:
        raise ValueError("no task has a text score")
    return sum(time.get(code, 1.0) * marks for code, marks in text.items()) / len(text)


def mean(values: Iterable[float | None]) -> float | None:
    """Their mean; none of nothing, or if one of them is none."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def score_task(items: list[Item], records: Mapping[str, Record], judge: Judge) -> TaskResult:
    """Scores one task.

    Args:
        items: all of the task.
        records: by video; items without one are left out and counted.
        judge: asked about what came in time by the legacy rule, silent items included.

    Raises:
        ValueError: no item has a record, or the judge cannot work.
    """
    task = items[0].task
    events = [item for item in items if not item.distractor]
    done = [(item, records[item.video]) for item in events if item.video in records]
    if not done:
        raise ValueError(f"{task.name}: no result belongs to any of the {len(events)} annotated items")
    details = _judge_all(done, judge) if task.timed else [_choose(item, record) for item, record in done]
    watched = [(item, records[item.video]) for item in items if item.distractor and item.video in records]
    labels = [
        split_label(record.event)[0] == task.subtask
        for item, record in done
        if record.event and item.span is not None and strict_correct(item, record)
    ]
    run = [item for item, _ in done]
    judged = not task.timed or judge.name != "none"
    return TaskResult(
        task=task,
        items=len(events),
        run=len(done),
        silent=sum(record.silent for _, record in done),
        unjudged=sum(detail["unjudged"] for detail in details),
        strict=_summary(task, details, "strict", judged),
        legacy=_summary(task, details, "legacy", judged),
        baselines=baselines(run, dict(records)) if task.timed else None,
        named=mean(float(label) for label in labels),
        false_triggers=sum(_triggers(record) for _, record in watched),
        distractor_seconds=sum(_seconds(item, record) for item, record in watched),
        details=tuple(details),
    )


def overall_of(results: Iterable[TaskResult], rule: str) -> float | None:
    """The overall score of the tasks that were run; none unless all of them have a text score."""
    scores = {result.task.code: getattr(result, rule) for result in results}
    if any(score.text is None for score in scores.values()):
        return None
    time = {code: score.time for code, score in scores.items() if score.time is not None}
    return overall(time, {code: score.text for code, score in scores.items()})


def _judge_all(done: list[tuple[Item, Record]], judge: Judge) -> list[dict[str, Any]]:
    details = []
    for item, record in tqdm(done, desc=f"judging {done[0][0].task.code}", unit="reply", disable=None):
        strict, legacy = strict_correct(item, record), legacy_correct(item, record)
        verdict = judge.score(item, record.text) if legacy else None
        details.append(_detail(item, record, strict, legacy) | _marks(verdict, legacy and judge.name != "none"))
    return details


def _choose(item: Item, record: Record) -> dict[str, Any]:
    """Visual Reference: full marks for the right letter, nothing else counts."""
    strict = strict_letter(record.text, item.options)
    legacy = legacy_letter(record.text)
    marks = {"strict_marks": FULL_MARKS * (strict == item.answer), "legacy_marks": FULL_MARKS * (legacy == item.answer)}
    found = {"strict_letter": strict, "legacy_letter": legacy, "unjudged": False}
    return _detail(item, record, strict=True, legacy=True) | marks | found


def _detail(item: Item, record: Record, strict: bool, legacy: bool) -> dict[str, Any]:
    return {
        "task": item.task.code,
        "video": item.video,
        "text": record.text,
        "time": record.published_time,
        "silent": record.silent,
        "in_time_strict": strict,
        "in_time_legacy": legacy,
        "event": record.event,
    }


def _marks(verdict: Verdict | None, asked: bool) -> dict[str, Any]:
    total = None if verdict is None else verdict.total
    found: dict[str, Any] = {"strict_marks": total, "legacy_marks": total, "unjudged": asked and verdict is None}
    return found | ({} if verdict is None else {"parts": dict(verdict.parts), "reason": verdict.reason})


def _summary(task: Task, details: list[dict[str, Any]], rule: str, judged: bool) -> TaskScore:
    """One rule's numbers.

    An item for which the judge found no verdict gets no marks if legacy, as published, and does not count if strict.
    """
    timely = [detail for detail in details if detail[f"in_time_{rule}"]]
    time = len(timely) / len(details) if task in TIMED else None
    marks = [detail[f"{rule}_marks"] for detail in timely]
    given = [mark for mark in marks if mark is not None]
    if not judged or (timely and not given):
        return TaskScore(time, None, None)
    lost = len(marks) - len(given) if rule == "strict" else 0
    total = float(sum(given))
    return TaskScore(time, total / max(1, len(marks) - lost), total / max(1, len(details) - lost))


def _triggers(record: Record) -> int:
    return len(record.triggers) or int(not record.silent)


def _seconds(item: Item, record: Record) -> float:
    """Watched length of a distractor, of the record or else of the annotation."""
    if record.seconds is not None:
        return record.seconds
    end = item.length if item.end is None else item.end
    return 0.0 if end is None else end - item.start
