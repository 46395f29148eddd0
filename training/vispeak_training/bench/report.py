"""Scores as a Markdown table and as JSON, with the trivial baselines beside the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vispeak_training.bench.scoring import TaskResult, TaskScore, mean, overall, overall_of
from vispeak_training.bench.tasks import TASKS, TIMED
from vispeak_training.bench.timing import Baselines

RULES = ("strict", "legacy")
NEVER, EARLY = "never speaks", "always at start + 1 s"
_NONE = "–"
_TEXT_TASKS = (TASKS[-1], *TIMED)  # in the published order: Visual Reference first
_EXPLANATIONS = {
    "strict": "Strict: silence is wrong.",
    "legacy": "Legacy: as published, a silent item is judged by the time that the harness returns for it.",
}


@dataclass(frozen=True)
class Row:
    """One line of the table; shares and marks by task code, none where there is no number."""

    name: str
    time: dict[str, float | None]  # 0 to 1
    text: dict[str, float | None]  # 0 to 5
    overall: float | None


@dataclass(frozen=True)
class Report:
    """One model on one set of annotations."""

    model: str  # name of the checkpoint
    judge: str
    results: Sequence[TaskResult]

    def rows(self, rule: str) -> list[Row]:
        """The model, then the two baselines."""
        scores: dict[str, TaskScore] = {result.task.code: getattr(result, rule) for result in self.results}
        text = {code: score.text for code, score in scores.items()}
        model = Row(
            self.model, {code: score.time for code, score in scores.items()}, text, overall_of(self.results, rule)
        )
        never = {
            result.task.code: result.baselines.never_strict if rule == "strict" else result.baselines.never_legacy
            for result in self.results
            if result.baselines
        }
        early = {result.task.code: result.baselines.start_plus_1 for result in self.results if result.baselines}
        given = {code: marks for code, marks in text.items() if marks is not None}
        if len(given) < len(text):
            return [model, Row(NEVER, {**never}, {}, None), Row(EARLY, {**early}, {}, None)]
        return [model, Row(NEVER, {**never}, {}, 0.0), Row(EARLY, {**early}, {}, overall(early, given))]

    def markdown(self) -> str:
        """Both tables, then what else was counted."""
        parts = [f"# ViSpeak-Bench: {self.model}", f"Judge: {self.judge}. {self._coverage()}"]
        for rule in RULES:
            parts += [_EXPLANATIONS[rule], self._table(rule)]
        parts.append(
            "Time: per cent of items in time, within 2 s after the event. Text: mean marks, 0 to 5, of what came in "
            "time. O: mean over the tasks of time x text. O of the baseline that always speaks is what the model's own "
            "marks would give at that time."
        )
        return "\n\n".join([*parts, *self._notes()]) + "\n"

    def json(self) -> str:
        """Every number, unrounded."""
        return json.dumps(self._dict(), indent=1, ensure_ascii=False) + "\n"

    def _table(self, rule: str) -> str:
        head = ["", *(task.code.upper() for task in TIMED), "All"]
        head += [*(task.code.upper() for task in _TEXT_TASKS), "All", "O"]
        lines = [
            "| | " + " | ".join(["Time", *[""] * len(TIMED), "Text", *[""] * (len(_TEXT_TASKS) + 1)]) + " |",
            "|---" * len(head) + "|",
            "| " + " | ".join(head) + " |",
        ]
        run = [result.task for result in self.results]
        for row in self.rows(rule):
            times = [row.time.get(task.code) for task in TIMED]
            texts = [row.text.get(task.code) for task in _TEXT_TASKS]
            cells = [_percent(value) for value in [*times, mean(row.time.get(task.code) for task in run if task.timed)]]
            cells += [_marks(value) for value in [*texts, mean(row.text.get(task.code) for task in run), row.overall]]
            lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def _coverage(self) -> str:
        texts = []
        for result in self.results:
            part = f"{result.task.code} {result.run}" + (f" of {result.items}" if result.run < result.items else "")
            texts.append(part + (f", {result.silent} silent" if result.silent else ""))
        missing = [task.code for task in TASKS if task.code not in {result.task.code for result in self.results}]
        tail = f" Not run: {', '.join(missing)}; means and O are over the others." if missing else ""
        return f"Items: {'; '.join(texts)}.{tail}"

    def _notes(self) -> list[str]:
        notes = []
        named = {r.task.code: r.named for r in self.results if r.named is not None}
        if named:
            shares = ", ".join(f"{code} {_percent(share)}" for code, share in named.items())
            notes.append(f"Subtask named right by the event head, per cent of replies in time: {shares}.")
        seconds = sum(result.distractor_seconds for result in self.results)
        if seconds:
            false = sum(result.false_triggers for result in self.results)
            notes.append(
                f"Distractors: {false} false triggers in {seconds / 60:.1f} min, {60 * false / seconds:.2f} a minute."
            )
        unjudged = sum(result.unjudged for result in self.results)
        if unjudged:
            notes.append(f"{unjudged} replies got no verdict: score again to ask for them again.")
        return notes

    def _dict(self) -> dict[str, Any]:
        tasks = {}
        for result in self.results:
            tasks[result.task.code] = {
                "items": result.items,
                "run": result.run,
                "silent": result.silent,
                "unjudged": result.unjudged,
                "subtask_named": result.named,
                "false_triggers": result.false_triggers,
                "false_triggers_per_minute": result.false_per_minute,
                "baselines": _baselines(result.baselines),
                **{rule: _score(getattr(result, rule)) for rule in RULES},
            }
        totals = {f"overall_{rule}": overall_of(self.results, rule) for rule in RULES}
        return {"model": self.model, "judge": self.judge, **totals, "tasks": tasks}


def _score(score: TaskScore) -> dict[str, float | None]:
    return {
        "time_accuracy": score.time,
        "answer_average_score_time_correct": score.text,
        "answer_average_score_overall": score.text_overall,
    }


def _baselines(found: Baselines | None) -> dict[str, float | None] | None:
    if found is None:
        return None
    return {
        "always_start_plus_1": found.start_plus_1,
        "never_strict": found.never_strict,
        "never_legacy": found.never_legacy,
    }


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.1f}"


def _marks(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"
