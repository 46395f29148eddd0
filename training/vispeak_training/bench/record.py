"""What a model said to one item, and how the records of a run are kept so that no finished item is lost."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from vispeak_training.bench.annotations import Item
from vispeak_training.bench.tasks import Task

_MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Record:
    """One item's outcome; times are seconds of the file."""

    video: str
    text: str = ""  # the reply; empty if the model kept silent
    time: float | None = None  # of the event that triggered the reply
    silent_time: float | None = None  # what the published harness gives as the time of a silent item
    event: str = ""  # what the event head took it for, `subtask` or `subtask/label`
    seconds: float | None = None  # watched
    triggers: tuple[tuple[float, str], ...] = ()  # of a distractor: when it spoke, and what

    @property
    def silent(self) -> bool:
        """Whether nothing was said."""
        return not self.text.strip()

    @property
    def published_time(self) -> float | None:
        """The time as the published harness writes it, silent or not."""
        return self.silent_time if self.time is None else self.time


def published_file(folder: Path, task: Task) -> Path:
    """A task's results in the published shape."""
    return folder / f"{task.name}_output.json"


def items_file(folder: Path, task: Task) -> Path:
    """A task's results as they come in, one JSON object a line."""
    return folder / f"{task.name}_items.jsonl"


class RecordLog:
    """An append-only file of records. A line that was cut by a kill is taken off when the file is opened again.

    Use as a context manager; only one process may have it open.

    Raises:
        ValueError: it is damaged, or another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.records: dict[str, Record] = {}
        self._file: BinaryIO | None = None

    def __enter__(self) -> RecordLog:
        self._file = file = self._path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise ValueError(f"{self._path}: another process writes it") from error
        records, whole = _read_lines(self._path)
        file.truncate(whole)
        self.records = records
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()

    def append(self, record: Record) -> None:
        """Adds one record; when this returns it survives a kill.

        Raises:
            ValueError: the disk is full or fails; what was there before is kept.
        """
        assert self._file is not None, "the log is not open"
        line = json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ValueError(f"{self._path}: cannot be written ({error.strerror})") from error
        self.records[record.video] = record


def _read_lines(path: Path) -> tuple[dict[str, Record], int]:
    """Records by video, and how many bytes of the file are whole lines."""
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path}: larger than {_MAX_BYTES} bytes, which no result file is")
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    records: dict[str, Record] = {}
    for number, line in enumerate(data[:whole].splitlines(), 1):
        try:
            record = _record_of(json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: damaged; remove the line or the file") from error
        records[record.video] = record
    return records, whole


def _record_of(raw: dict[str, Any]) -> Record:
    record = Record(**(raw | {"triggers": tuple((float(time), str(text)) for time, text in raw.get("triggers", ()))}))
    if not isinstance(record.video, str) or not isinstance(record.text, str):
        raise ValueError("not a record")
    return record


def write_published(path: Path, items: list[Item], records: dict[str, Record]) -> None:
    """The list of `{video: [text, time]}` in annotation order, at once or not at all."""
    rows = [
        {item.video: [records[item.video].text, records[item.video].published_time]}
        for item in items
        if item.video in records
    ]
    write_text(path, json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces a file at once: a reader sees the old one or the new one.

    Raises:
        ValueError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from error


def read_records(folder: Path, task: Task) -> dict[str, Record] | None:
    """A task's results by video: of our own run, else of any harness that writes the published shape; none if neither.

    Raises:
        ValueError: a file is damaged.
    """
    path = items_file(folder, task)
    if path.is_file():
        return _read_lines(path)[0]
    path = published_file(folder, task)
    if not path.is_file():
        return None
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path}: larger than {_MAX_BYTES} bytes, which no result file is")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found = [_of_published(video, entry) for row in rows for video, entry in row.items()]
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"{path}: must be a list of {{video: [text, time]}}") from error
    return {record.video: record for record in found}


def _of_published(video: str, entry: list[Any]) -> Record:
    text, time = entry[0] or "", entry[1]
    if not isinstance(text, str) or (
        time is not None and (not isinstance(time, int | float) or not math.isfinite(time))
    ):
        raise ValueError(video)
    silent = not text.strip()
    return Record(video, text, None if silent else time, time if silent else None)
