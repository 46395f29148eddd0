"""A session that takes the benchmark: one item's clip, its question and its past in, what it said and when out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import Output, ReplyFinished, ReplyStarted
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import Event, ImageEvent, TextEvent, nanoseconds, seconds
from vispeak_training.bench.annotations import Item
from vispeak_training.bench.frames import Clip, open_clip, read_frames
from vispeak_training.bench.history import image_rows, prefill_with_reply, prompt_rows, reply_ids, text_rows
from vispeak_training.bench.record import Record
from vispeak_training.bench.tasks import Start, Task

_MAX_DISTRACTOR_FRAMES = 3600  # an hour at one a second


class Answerer(Protocol):
    """Whatever can take the benchmark."""

    def __call__(self, item: Item, video: Path) -> Record:
        """Watches one clip.

        Raises:
            ValueError: the video cannot be read.
        """


@dataclass(frozen=True)
class AnswerConfig:
    """How a session takes the benchmark."""

    threshold: float = 0.0  # sum of scores at which a reply starts; 0 is the checkpoint's own (published: 0.35)
    speak_ahead: int = 0  # reply tokens spoken without waiting for the user stream; 0 is the published lockstep
    padding: int = 128  # positions added for a reply that is under way when the clip ends
    max_reply_tokens: int = 2048  # a longer reply is cut
    prefill_order: str = "trained"  # reference: the published prefill, whose gate sees the streams swapped


@dataclass(frozen=True)
class Slot:
    """One event of a clip before its picture is read."""

    time: float  # s
    text: str | None  # none is a frame
    rows: int  # positions of the user stream, end marker included


class SessionAnswerer:
    """The published set-up (`tasks.TASKS`): no sound, lockstep, one reply a clip.

    A distractor is watched live instead, as a robot would: every reply in it is counted.

    Args:
        model: with an informative head, unless only questions are asked.
        vocabulary: the checkpoint's.
        config: see `AnswerConfig`.
    """

    def __init__(self, model: ViSpeakModel, vocabulary: Vocabulary, config: AnswerConfig | None = None) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.config = config or AnswerConfig()
        self._live = SessionConfig(
            threshold=self.config.threshold,
            prefill_order=self.config.prefill_order,
            # asking the model for each reply would cost more than the reply; a head costs nothing
            recognition="never" if model.event_head is None else "auto",
            graphs="never",  # a session for every clip: captures would cost more than they save
        )

    def __call__(self, item: Item, video: Path) -> Record:
        """See `Answerer`."""
        return self._watch(item, video) if item.distractor else self._answer(item, video)

    def session(self, task: Task) -> Session:
        """A fresh session with the task's set-up."""
        lockstep = dataclasses.replace(
            self._live,
            system_prompt=task.system_prompt,
            proactive=task.proactive,
            score_events="all",
            refractory=0.0,
            visual_interruption=False,
            speak_ahead=self.config.speak_ahead,
            finish_padding=self.config.padding,
            max_reply_tokens=self.config.max_reply_tokens,
        )
        return Session(self.model, self.vocabulary, lockstep)

    def slots(self, item: Item, clip: Clip) -> list[Slot]:
        """A clip's events in order; the question of a choice comes last."""
        frames = [Slot(time, None, image_rows(self.model.config)) for time in clip.times]
        if item.question is None:
            return frames
        text = item.question.text
        time = min(item.question.time, frames[-1].time) if not item.task.timed else item.question.time
        question = Slot(time, text, text_rows(self.vocabulary, text))
        return sorted([*frames, question], key=lambda slot: slot.time)

    def start(self, item: Item, slots: list[Slot]) -> tuple[int, int]:
        """The event at which the model may first speak, and the position where its earlier reply began, or 0."""
        rows = prompt_rows(self.vocabulary, item.task.system_prompt)
        ends = list(itertools.accumulate((slot.rows for slot in slots), initial=rows))[1:]
        last = len(slots) - 1
        if item.task.start is Start.FIRST:
            return 0, 0
        asked = next(index for index, slot in enumerate(slots) if slot.text is not None)
        if item.task.start is Start.LAST:
            return last, 0
        if item.task.start is Start.AFTER_QUESTION:
            return min(asked + 1, last), ends[asked]
        assert item.earlier is not None, "the reader checks it"
        said = ends[asked] + len(reply_ids(self.vocabulary, item.earlier.text))
        return next((index for index, end in enumerate(ends) if end > said), last), ends[asked]

    def _answer(self, item: Item, video: Path) -> Record:
        clip = open_clip(video, item.start, item.end)
        slots = self.slots(item, clip)
        first, position = self.start(item, slots)
        ids = reply_ids(self.vocabulary, item.earlier.text) if item.earlier else []
        events = _events(slots, clip)
        session = self.session(item.task)
        outputs = prefill_with_reply(session, list(itertools.islice(events, first + 1)), position, ids)
        for event in events:
            if _finished(outputs):
                break
            outputs += session.push(event)
        outputs += session.finish()
        reply = next(iter(_finished(outputs)), None)
        silent_time = slots[first - 1].time  # of the event before the first; of the last event for the first one
        watched = slots[-1].time - item.start
        if reply is None:
            return Record(item.video, silent_time=silent_time, seconds=watched)
        return Record(item.video, reply.text, seconds(reply.start), silent_time, reply.event_label, watched)

    def _watch(self, item: Item, video: Path) -> Record:
        clip = open_clip(video, item.start, item.end, most=_MAX_DISTRACTOR_FRAMES)
        session = Session(self.model, self.vocabulary, self._live)
        outputs: list[Output] = []
        last = clip.times[-1]
        for event in _events([Slot(time, None, 0) for time in clip.times], clip):
            outputs += session.push(event)
        outputs += session.finish()
        replies = {output.reply_id: output.text for output in _finished(outputs)}
        triggers = tuple(
            (seconds(output.stamp), replies.get(output.reply_id, ""))
            for output in outputs
            if isinstance(output, ReplyStarted)
        )
        time, text = triggers[0] if triggers else (None, "")
        return Record(item.video, text, time, last, seconds=last - item.start, triggers=triggers)


def _events(slots: list[Slot], clip: Clip) -> Iterator[Event]:
    """A clip's events, each picture read when its turn comes."""
    frames = read_frames(clip)
    for slot in slots:
        stamp = nanoseconds(slot.time)
        yield ImageEvent(stamp, next(frames), stamp) if slot.text is None else TextEvent(stamp, slot.text)


def _finished(outputs: Iterable[Output]) -> list[ReplyFinished]:
    return [output for output in outputs if isinstance(output, ReplyFinished)]
