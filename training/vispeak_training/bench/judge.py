"""Who says how good a reply is: the interface, the rubric for clips whose right replies are known, and nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from vispeak_training.bench.annotations import Item
from vispeak_training.bench.tasks import Task

_PART = 0.4  # of the marks for a reply of the right kind in words that were not taught


@dataclass(frozen=True)
class Verdict:
    """Marks for one reply."""

    parts: Mapping[str, float]  # marks of each of the task's scales
    reason: str = ""

    @property
    def total(self) -> float:
        """0 to 5."""
        return float(sum(self.parts.values()))


class Judge(Protocol):
    """Gives marks to replies that came in time."""

    name: str

    def score(self, item: Item, reply: str) -> Verdict | None:
        """Marks for a reply, which may be empty; none if there is no verdict.

        Raises:
            ValueError: the judge cannot work at all, such as for want of a key.
        """


class NoJudge:
    """Times only."""

    name = "none"

    def score(self, item: Item, reply: str) -> Verdict | None:
        """No verdict."""
        return None


class RubricJudge:
    """Exact and offline: full marks for a text that was taught for the event, part for one of its words.

    Where an annotation has no `replies`, its reference is the only right text; where it has no `words`, nothing gets
    part of the marks. It suits a theatre split; on free language it finds almost everything wrong.
    """

    name = "rubric"

    def score(self, item: Item, reply: str) -> Verdict | None:
        """See `Judge.score`."""
        said = _plain(reply)
        if said and said in {_plain(text) for text in item.replies or (item.reference,)}:
            return Verdict(full_marks(item.task), "one of the texts taught for this event")
        padded = f" {said} "
        found = next((word for word in item.words if f" {_plain(word)} " in padded), None)
        if found is not None:
            marks = {key: float(round(most * _PART)) for key, most in item.task.scales}
            return Verdict(marks, f"of the right kind: {found!r}")
        return Verdict(dict.fromkeys(full_marks(item.task), 0.0), "neither a taught text nor a word of this event")


def full_marks(task: Task) -> dict[str, float]:
    """The most marks of each scale."""
    return {key: float(most) for key, most in task.scales}


def check_marks(task: Task, raw: object) -> dict[str, float]:
    """The marks in a judge's answer.

    Raises:
        ValueError: one is missing, or lies outside its scale.
    """
    if not isinstance(raw, Mapping):
        raise ValueError("not an object")
    marks = {}
    for key, most in task.scales:
        value = raw.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ValueError(f"{key} must be a number from 0 to {most}, not {value!r}")
        marks[key] = float(value)
    return marks


def _plain(text: str) -> str:
    """Words only: case, punctuation and spacing do not count."""
    return " ".join("".join(sign if sign.isalnum() else " " for sign in text.casefold()).split())
