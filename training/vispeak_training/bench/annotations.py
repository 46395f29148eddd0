"""Annotation files of ViSpeak-Bench, read strictly: what is wrong in one is named with its file and item.

A theatre split has the same files. Its items may also carry `replies` (texts that were taught for the event), `words`
(of which a reply of the right kind has at least one), and `distractor: true` with no conversation: nothing happens in
such a clip that calls for words.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vispeak_training.bench.tasks import Task

_MAX_BYTES = 64 * 2**20
_MAX_ITEMS = 100_000
_OPTION = re.compile(r"\b([A-E])[.)]\s+(.*?)\s*(?=\b[A-E][.)]\s|$)", re.DOTALL)


@dataclass(frozen=True)
class Turn:
    """Something said before the event."""

    text: str
    time: float  # s in the file


@dataclass(frozen=True)
class Item:
    """One clip and what is expected there; all times are seconds of the file."""

    task: Task
    video: str  # relative to the data root; unique within a task
    start: float = 0.0  # of the clip
    end: float | None = None  # of the clip; none is the file's end
    length: float | None = None  # of the file, where the annotation tells
    question: Turn | None = None  # what the user typed
    earlier: Turn | None = None  # what the assistant answered before the event
    span: tuple[float, float] | None = None  # when the event can be seen; none for vr and distractors
    reference: str = ""  # a reply that is right
    gesture: str = ""  # its name (gu)
    options: tuple[tuple[str, str], ...] = ()  # letter and text of each (vr)
    answer: str = ""  # the right letter (vr)
    replies: tuple[str, ...] = ()  # texts taught for this event, for the rubric
    words: tuple[str, ...] = ()  # of which a reply of the right kind has one, for the rubric
    distractor: bool = False  # nothing in the clip calls for words


def annotation_file(folder: Path, task: Task) -> Path | None:
    """Where a task's annotations lie in a folder; none if they do not."""
    return next((folder / name for name in task.files if (folder / name).is_file()), None)


def read_annotations(folder: Path, task: Task) -> list[Item]:
    """One task's items.

    Raises:
        ValueError: the file is missing, or something in it is not as published; names file, item and field.
    """
    path = annotation_file(folder, task)
    if path is None:
        raise ValueError(f"{folder}: no {' or '.join(task.files)}")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path}: larger than {_MAX_BYTES} bytes, which no annotation file is")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(raw, list) or not raw or len(raw) > _MAX_ITEMS:
        raise ValueError(f"{path}: must be a list of 1 to {_MAX_ITEMS} items")
    items = [_Reader(path, index, entry, task).item() for index, entry in enumerate(raw)]
    seen: set[str] = set()
    for item in items:
        if item.video in seen:
            raise ValueError(f"{path}: video {item.video!r} occurs twice; results are kept by its name")
        seen.add(item.video)
    return items


class _Reader:
    """One entry of one file."""

    def __init__(self, path: Path, index: int, entry: object, task: Task) -> None:
        self._where = f"{path}, item {index}"
        self._task = task
        if not isinstance(entry, dict):
            raise self._error("must be an object")
        self._entry: dict[str, Any] = entry

    def item(self) -> Item:
        entry = self._entry
        video = self._video()
        start = self._time(entry.get("video_start_time", 0.0), "video_start_time")
        end = self._optional_time("video_end_time")
        if end is not None and end <= start:
            raise self._error(f"video_end_time {end:g} must be after video_start_time {start:g}")
        common: dict[str, Any] = {
            "task": self._task,
            "video": video,
            "start": start,
            "end": end,
            "length": self._optional_time("video_len"),
            "replies": self._texts("replies"),
            "words": self._texts("words"),
        }
        distractor = entry.get("distractor", False)
        if not isinstance(distractor, bool):
            raise self._error("distractor must be true or false")
        if distractor:
            if entry.get("conversations") != [] or not self._task.timed:
                raise self._error("a distractor belongs to a timed task and has an empty list of conversations")
            return Item(**common, distractor=True)
        if entry.get("proactive", self._task.proactive) is not self._task.proactive:
            raise self._error(f"proactive must be {json.dumps(self._task.proactive)} in this task")
        return Item(**common, **(self._conversation() if self._task.timed else self._choice()))

    def _conversation(self) -> dict[str, Any]:
        turns = self._entry.get("conversations")
        roles = ("human", "gpt", "gpt") if self._task.dialogue else ("gpt",)
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise self._error("conversations must be a list of turns")
        if tuple(turn.get("from") for turn in turns) != roles:
            raise self._error(f"conversations must be {', '.join(roles)} in this task")
        said = [Turn(self._text(turn, "value"), self._time(turn.get("time"), "time")) for turn in turns]
        found = {"span": self._span(turns[-1].get("timespan")), "reference": said[-1].text}
        if not self._task.dialogue:
            return found
        return found | {"question": said[0], "earlier": said[1], "gesture": str(self._entry.get("gesture", ""))}

    def _choice(self) -> dict[str, Any]:
        text = self._text(self._entry, "questions")
        options = find_options(text)
        answer = self._text(self._entry, "ans")
        if answer not in [letter for letter, _ in options]:
            raise self._error(f"ans {answer!r} is none of the options in questions")
        reference = self._text(self._entry, "ans_full")
        return {"question": Turn(text, math.inf), "options": options, "answer": answer, "reference": reference}

    def _video(self) -> str:
        video = self._text(self._entry, "video")
        path = PurePosixPath(video)
        if path.is_absolute() or ".." in path.parts or "\0" in video:
            raise self._error(f"video {video!r} must be a path inside the data folder")
        return video

    def _text(self, entry: dict[str, Any], name: str) -> str:
        value = entry.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self._error(f"{name} must be a text")
        return value

    def _texts(self, name: str) -> tuple[str, ...]:
        values = self._entry.get(name, [])
        if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
            raise self._error(f"{name} must be a list of texts")
        return tuple(values)

    def _time(self, value: object, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise self._error(f"{name} must be a number of seconds, not {value!r}")
        return float(value)

    def _optional_time(self, name: str) -> float | None:
        value = self._entry.get(name)
        return None if value is None else self._time(value, name)

    def _span(self, value: object) -> tuple[float, float]:
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
            raise self._error("timespan must be two numbers")
        first, last = self._time(value[0], "timespan"), self._time(value[1], "timespan")
        if first > last:
            raise self._error(f"timespan must not end before it begins: {first:g} to {last:g}")
        return first, last

    def _error(self, text: str) -> ValueError:
        return ValueError(f"{self._where}: {text}")


def find_options(question: str) -> tuple[tuple[str, str], ...]:
    """Letters and texts of `A. Bicycle B. Conical ...`; the lead-in after the empty line is left out."""
    listed, _, _ = question.partition("\n\n")
    return tuple((letter, text) for letter, text in _OPTION.findall(listed))
