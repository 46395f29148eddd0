"""What an annotation file says of one sample, checked field by field.

The kind is a field of the registry, never guessed from a path. Fields that are not listed here are ignored: published
files carry many (`video_len`, `fps`, `task_type`, ...).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vispeak_node.model.subtasks import SUBTASKS, split_label
from vispeak_training.data.sample import LABELS, SampleError

OFFLINE, STREAMING, AUDIO_PROACTIVE = "offline", "streaming", "audio_proactive"
RECORD_KINDS = (OFFLINE, STREAMING, AUDIO_PROACTIVE)
HUMAN, GPT = "human", "gpt"
MAX_TURNS, MAX_TEXT, MAX_MEDIA = 1000, 200_000, 1000  # turns, characters of a turn, files of a sample


@dataclass(frozen=True)
class Turn:
    """What one of the two says."""

    speaker: str  # "human" or "gpt"
    text: str
    time: float | None = None  # s in the video's file; none offline
    timespan: tuple[float, float] | None = None  # s, when that what called for these words can be seen
    subtask: str | None = None  # of this reply, where it differs from the record's

    @property
    def when(self) -> float:
        """The time of a turn that must have one."""
        assert self.time is not None
        return self.time


@dataclass(frozen=True)
class Record:
    """One entry of an annotation file."""

    name: str  # file#index
    kind: str  # see RECORD_KINDS
    turns: tuple[Turn, ...]
    images: tuple[Path, ...] = ()
    sounds: tuple[Path, ...] = ()
    video: Path | None = None
    start: float | None = None  # s, from where the video is watched
    end: float | None = None  # s, until where
    proactive: bool = False  # streaming only: the replies are called for by what is seen
    use_audio: bool = False  # audio_proactive only: questions are spoken in the video's sound
    visual_proactive: bool = True  # audio_proactive only: whether frames are labelled for the informative head
    subtask: str | None = None  # what the event head learns here: a subtask, or subtask/label

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that it needs."""
        return (*self.images, *self.sounds, *((self.video,) if self.video else ()))


def parse_record(
    raw: Any,
    name: str,
    kind: str,
    folders: Mapping[str, Path],
    visual_proactive: bool = True,
    subtask: str | None = None,
) -> Record:
    """One entry of an annotation file as a record.

    Args:
        raw: what the JSON holds.
        name: of the sample, for messages.
        kind: see RECORD_KINDS.
        folders: where relative paths of "image", "audio" and "video" begin.
        visual_proactive: whether an audio_proactive sample's frames are labelled.
        subtask: of the source; the entry's own wins.

    Raises:
        SampleError: a field is missing or malformed.
    """
    assert kind in RECORD_KINDS, kind
    if not isinstance(raw, Mapping):
        raise _wrong(f"a sample must be an object, not {type(raw).__name__}")
    record = Record(
        name=name,
        kind=kind,
        turns=_turns(raw.get("conversations"), timed=kind != OFFLINE),
        images=_paths(raw, "image", folders) if kind == OFFLINE else (),
        sounds=_paths(raw, "audio", folders) if kind == OFFLINE else (),
        video=_video(raw, folders),
        start=_seconds(raw, "video_start_time"),
        end=_seconds(raw, "video_end_time"),
        proactive=_flag(raw, "proactive", required=kind == STREAMING),
        use_audio=_flag(raw, "use_audio") if kind == AUDIO_PROACTIVE else False,
        visual_proactive=visual_proactive,
        subtask=check_subtask(raw.get("subtask", subtask), "subtask"),
    )
    _check_whole(record)
    return record


def check_subtask(value: Any, what: str) -> str | None:
    """A subtask or subtask/label, or none.

    Raises:
        SampleError: it is none of the seven.
    """
    if value is None:
        return None
    if not isinstance(value, str) or split_label(value)[0] not in SUBTASKS:
        raise _wrong(f"{what} {value!r} is none of {', '.join(SUBTASKS)}")
    return value


def is_visual(record: Record, index: int) -> bool:
    """Whether turn `index` of a timed record is a reply that nobody asked for."""
    if record.turns[index].speaker != GPT:
        return False
    if record.kind == STREAMING:
        return record.proactive
    return index == 0 or record.turns[index - 1].speaker == GPT


def _check_whole(record: Record) -> None:
    if record.kind != OFFLINE and record.video is None:
        raise _wrong("video is missing")
    if record.start is not None and record.end is not None and record.end < record.start:
        raise _wrong(f"video_end_time {record.end} lies before video_start_time {record.start}")
    if not any(turn.speaker == GPT for turn in record.turns):
        raise _wrong("conversations has no turn of gpt, so there is nothing to learn")
    if record.kind == OFFLINE:
        _check_placeholders(record)
    needs_span = record.kind == STREAMING or (record.kind == AUDIO_PROACTIVE and record.visual_proactive)
    for index, turn in enumerate(record.turns):
        if needs_span and turn.timespan is None and is_visual(record, index):
            raise _wrong(f"conversations[{index}]: a reply to what is seen needs a timespan")


def _check_placeholders(record: Record) -> None:
    text = "".join(turn.text for turn in record.turns if turn.speaker == HUMAN)
    videos = 0 if record.video is None else 1
    for mark, count in (("<image>", len(record.images)), ("<audio>", len(record.sounds)), ("<video>", videos)):
        if text.count(mark) != count:
            raise _wrong(f"{text.count(mark)} {mark} in the text of human turns, but {count} such files")


def _turns(raw: Any, timed: bool) -> tuple[Turn, ...]:
    if not isinstance(raw, list) or not 1 <= len(raw) <= MAX_TURNS:
        raise _wrong(f"conversations must be a list of 1 to {MAX_TURNS} turns")
    return tuple(_turn(entry, f"conversations[{index}]", timed) for index, entry in enumerate(raw))


def _turn(raw: Any, place: str, timed: bool) -> Turn:
    if not isinstance(raw, Mapping):
        raise _wrong(f"{place} must be an object")
    speaker, text = raw.get("from"), raw.get("value")
    if speaker not in (HUMAN, GPT):
        raise _wrong(f"{place}.from is {speaker!r}; it must be human or gpt")
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise _wrong(f"{place}.value must be a text of at most {MAX_TEXT} characters")
    time = _number(raw.get("time"), f"{place}.time") if timed else None
    if timed and time is None:
        raise _wrong(f"{place}.time is missing")
    span = raw.get("timespan") if timed else None
    if span is not None:
        if not isinstance(span, list | tuple) or len(span) != 2:
            raise _wrong(f"{place}.timespan must be two times, not {span!r}")
        first, last = (_number(value, f"{place}.timespan") for value in span)
        if first is None or last is None:
            raise _wrong(f"{place}.timespan must be two times, not {span!r}")
        span = (first, last)
    return Turn(speaker, text, time, span, check_subtask(raw.get("subtask"), f"{place}.subtask"))


def _video(raw: Mapping[str, Any], folders: Mapping[str, Path]) -> Path | None:
    paths = _paths(raw, "video", folders)
    if len(paths) > 1:
        raise _wrong(f"video must be one file, not {len(paths)}")
    return paths[0] if paths else None


def _paths(raw: Mapping[str, Any], key: str, folders: Mapping[str, Path]) -> tuple[Path, ...]:
    value = raw.get(key)
    if value is None:
        return ()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or len(names) > MAX_MEDIA or not all(isinstance(n, str) and n for n in names):
        raise _wrong(f"{key} must be a path or a list of at most {MAX_MEDIA} paths")
    return tuple(folders[key] / name if key in folders else Path(name) for name in names)


def _seconds(raw: Mapping[str, Any], key: str) -> float | None:
    return _number(raw.get(key), key)


def _number(value: Any, what: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(f"{what} must be a number of seconds, not {value!r}")
    return float(value)


def _flag(raw: Mapping[str, Any], key: str, required: bool = False) -> bool:
    value = raw.get(key)
    if value is None and not required:
        return False
    if not isinstance(value, bool):
        raise _wrong(f"{key} must be true or false, not {value!r}")
    return value


def _wrong(reason: str) -> SampleError:
    return SampleError(LABELS, reason)
