"""The two timed builders: streaming, and audio-proactive (gesture, interruption, reference, wake-up, termination).

Frames, seconds of sound and typed questions lie in the user stream by their times, each closed by `>Note`. A reply
begins right behind the `>Note` of its anchor, the last fitting event at or before its time, and runs beside whatever
the user stream carries on with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vispeak_node.model.tokens import ANSWER_TEXT, ANSWER_VISUAL, ANSWER_VOICE
from vispeak_training.data.layout import AgentTrack, Layout, Streams
from vispeak_training.data.record import AUDIO_PROACTIVE, GPT, HUMAN, STREAMING, Record, Turn, is_visual
from vispeak_training.data.sample import IGNORE, LABELS, SampleError

FRAME, SOUND, TEXT = "frame", "sound", "text"
SOUND_DELAY = 0.1  # s; the i-th second after a frame is sorted i times this later


@dataclass(frozen=True)
class Event:
    """One segment of a timed user stream."""

    time: float  # s
    kind: str  # FRAME, SOUND or TEXT
    ids: tuple[int, ...]  # with the `>Note`
    end: int = 0  # position behind the `>Note`


@dataclass(frozen=True)
class Timeline:
    """A timed user stream."""

    user: tuple[int, ...]  # ids
    prompt_end: int  # position behind the system prompt's `>Note`
    events: tuple[Event, ...]

    def of(self, kind: str, after: float = float("-inf")) -> list[Event]:
        """Events of a kind that lie behind a time."""
        return [event for event in self.events if event.kind == kind and event.time > after]


def build_streaming(record: Record, times: Sequence[float], sounds: Sequence[int], layout: Layout) -> Streams:
    """Questions typed at a time, or replies to what is seen.

    Args:
        record: of kind streaming.
        times: of the frames, s.
        sounds: seconds of sound that each frame brings.
        layout: of the model.

    Raises:
        SampleError: published room for replies is asked for and too small.
    """
    assert record.kind == STREAMING
    asked = next((turn.when for turn in record.turns if turn.speaker == HUMAN), None)
    prompt = "vispeak" if asked is None else "online"
    line = lay_out(record, times, sounds, layout, prompt, texts=True, voices=True)
    after = -1.0 if asked is None else asked
    anchors = line.of(FRAME, after) if record.proactive else line.of(TEXT)
    replies = [turn for turn in record.turns if turn.speaker == GPT]
    start = ANSWER_VISUAL if record.proactive else ANSWER_TEXT
    spoken = [layout.reply(start, turn.text) for turn in replies]
    track = AgentTrack(line.user, sum(map(len, spoken)), layout)
    place = -1
    for turn, reply in zip(replies, spoken, strict=True):
        place = max(place, _last_before(anchors, turn.when))
        track.say(anchors[place].end if place >= 0 else line.prompt_end, reply)
    if not record.proactive:
        return track.finish({}, {})
    return track.finish(*_head_labels(record, line, replies, after, layout))


def build_audio_proactive(record: Record, times: Sequence[float], sounds: Sequence[int], layout: Layout) -> Streams:
    """Questions typed or spoken, replies to them, and replies to what is seen; arguments as `build_streaming`.

    Raises:
        SampleError: a published fault is asked for and hits this sample.
    """
    assert record.kind == AUDIO_PROACTIVE
    line = lay_out(record, times, sounds, layout, "vispeak", texts=not record.use_audio, voices=record.use_audio)
    frames, asked = line.of(FRAME), line.of(SOUND if record.use_audio else TEXT)
    answer = ANSWER_VOICE if record.use_audio else ANSWER_TEXT
    plan: list[tuple[Turn, list[Event], list[int]]] = []
    for index, turn in enumerate(record.turns):
        if turn.speaker == GPT:
            visual = is_visual(record, index)
            start = ANSWER_VISUAL if visual else answer
            plan.append((turn, frames if visual else asked, layout.reply(start, turn.text)))
    track = AgentTrack(line.user, sum(len(reply) for *_, reply in plan), layout)
    for turn, anchors, reply in plan:
        place = _last_before(anchors, turn.when)
        track.say(anchors[place].end if place >= 0 else line.prompt_end, reply)
    if record.use_audio:
        _ask_for_silence(line, track, layout)
    if not record.visual_proactive:
        return track.finish({}, {})
    visual_turns = [turn for index, turn in enumerate(record.turns) if is_visual(record, index)]
    return track.finish(*_head_labels(record, line, visual_turns, float("-inf"), layout))


def lay_out(
    record: Record,
    times: Sequence[float],
    sounds: Sequence[int],
    layout: Layout,
    prompt: str,
    texts: bool,
    voices: bool,
) -> Timeline:
    """The user stream of a timed sample.

    Args:
        record: gives the typed questions.
        times: of the frames, s.
        sounds: seconds of sound that each frame brings.
        layout: of the model.
        prompt: name of the system prompt.
        texts: whether typed questions are read.
        voices: whether sound is heard.
    """
    events = []
    for time, count in zip(times, sounds, strict=True):
        events.append(Event(time, FRAME, tuple(layout.image())))
        for second in range(count if voices else 0):
            events.append(Event(time + SOUND_DELAY * (second + 1), SOUND, tuple(layout.sound())))
    if texts:
        asked = (turn for turn in record.turns if turn.speaker == HUMAN)
        events += [Event(turn.when, TEXT, tuple(layout.text(turn.text))) for turn in asked]
    user, placed = layout.prompt(prompt), []
    prompt_end = len(user)
    for event in sorted(events, key=lambda event: event.time):
        user += event.ids
        placed.append(Event(event.time, event.kind, event.ids, len(user)))
    return Timeline(tuple(user), prompt_end, tuple(placed))


def is_due(turn: Turn, time: float) -> bool:
    """Whether a frame at this time calls for the reply: in the second half of its timespan."""
    assert turn.timespan is not None
    first, last = turn.timespan
    return (first + last) / 2 <= time <= last


def _last_before(anchors: Sequence[Event], time: float) -> int:
    """Index of the last anchor at or before a time; -1 if there is none."""
    return max((index for index, event in enumerate(anchors) if event.time <= time), default=-1)


def _head_labels(
    record: Record, line: Timeline, turns: Sequence[Turn], after: float, layout: Layout
) -> tuple[dict[int, int], dict[int, int]]:
    """Labels of both heads by position: at every frame's last visual token."""
    informative, events = {}, {}
    named = layout.event_labels and (record.subtask or any(turn.subtask for turn in turns))
    for event in line.of(FRAME):
        due = next((turn for turn in turns if event.time > after and is_due(turn, event.time)), None)
        position = event.end - 2
        informative[position] = int(due is not None)
        if named:
            events[position] = 0 if due is None else layout.event_class(due.subtask or record.subtask)
    return informative, events


def _ask_for_silence(line: Timeline, track: AgentTrack, layout: Layout) -> None:
    """Behind every second of sound where nothing is said, pad becomes a target."""
    for event in line.of(SOUND):
        if event.end >= track.length:
            if layout.quirks.refuse_final_sound:
                raise SampleError(LABELS, "the sample ends in sound")
        elif track.targets[event.end] == IGNORE:
            track.targets[event.end] = layout.vocabulary.pad
