"""Clips of the theatre to training samples, position by position as the runtime will live them.

The user stream is the system prompt, then each second's image and the questions as they are typed, each closed by
`>Note`. The agent stream is pad but for replies. A reply starts at the position after the triggering segment: its first
token is predicted at that segment's `>Note`. The published format lays it over the segments that follow; the runtime,
unless told otherwise, speaks most of it at once over pad positions put in right there. Both occur in training.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.subtasks import NONE
from vispeak_node.model.tokens import Vocabulary
from vispeak_training.data.sample import IGNORE, IMAGE, Sample
from vispeak_training.phrases import LONG_TALK, QUESTIONS, REPLIES
from vispeak_training.theatre.acts import ACTS, EVENT_LABELS, SENTENCES
from vispeak_training.theatre.dataset import UNSETTLED, SampledClip

LABELS = (NONE, *EVENT_LABELS.values())  # of the event head
_ASKED_AMONG = 12  # frames
_ASKED_BEFORE = 8.0  # s before an event, at most: about as long as a long answer takes beside frames
SPEAK_AHEAD = 64  # tokens, the runtime's default
_CLASSES = {act: LABELS.index(label) for act, label in EVENT_LABELS.items()}


@dataclass(frozen=True)
class TellingConfig:
    """How a clip is told; what is not said to be something else is a share, 0 to 1."""

    proactive: float = 1.0  # of samples in which what is seen may call for words
    events: bool = True  # whether the kinds of events are labelled
    question: float = 0.3  # of samples with a typed question about what is seen
    conversation: float = 1.0  # of samples in which the clip's own conversation takes place
    late: tuple[float, ...] = (0.45, 0.35, 0.2)  # of replies that begin at an event's first, second, third frame
    lockstep: float = 0.4  # of samples whose replies run beside the segments that follow, as published
    interrupted: float = 0.3  # of these: somebody has asked for a long answer, and an event begins while it is given
    silence: bool = False  # whether pad is to be predicted after frames where nothing may call for words; no share
    at_marker: bool = False  # whether the heads' labels stand at a segment's end marker: an ablation, not a share


@dataclass
class _Tracks:
    """A sample under construction; all lists have one entry a position."""

    pad: int
    ahead: int  # reply tokens that are spoken over pads after every event
    labelled: int = -2  # where in a segment its labels stand: at the last position before the end marker, as published
    user: list[int] = field(default_factory=list)
    agent: list[int] = field(default_factory=list)
    informative: list[int] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)  # reply tokens that wait for a position
    ends: list[int] = field(default_factory=list)  # places behind frames at which silence is to be predicted

    def read(self, segment: list[int], called: int = IGNORE, kind: int = IGNORE) -> None:
        """Appends a segment with the reply under way beside it, and its labels."""
        self._append(segment)
        self.informative[self.labelled], self.events[self.labelled] = called, kind

    def speak(self) -> None:
        """Goes on with the reply over pads."""
        self._append([self.pad] * min(self.ahead, len(self.pending)))

    def _append(self, user: list[int]) -> None:
        spoken, self.pending = self.pending[: len(user)], self.pending[len(user) :]
        self.user += user
        self.agent += spoken + [self.pad] * (len(user) - len(spoken))
        self.informative += [IGNORE] * len(user)
        self.events += [IGNORE] * len(user)


class StreamBuilder:
    """Draws samples from clips.

    Args:
        vocabulary: of the model.
        tokens_per_image: rows that the model makes of a frame.
        telling: how clips are told.
    """

    def __init__(self, vocabulary: Vocabulary, tokens_per_image: int, telling: TellingConfig | None = None) -> None:
        self._vocabulary, self._telling = vocabulary, telling or TellingConfig()
        self._image = [IMAGE] * tokens_per_image + [vocabulary.segment_end]

    def build(self, clip: SampledClip, rng: np.random.Generator, name: str = "") -> Sample:
        """One random telling of a clip."""
        telling, vocabulary = self._telling, self._vocabulary
        proactive = rng.random() < telling.proactive
        ahead = 0 if rng.random() < telling.lockstep else SPEAK_AHEAD
        tracks = _Tracks(vocabulary.pad, ahead, -1 if telling.at_marker else -2)
        tracks.read(self._segment(SYSTEM_PROMPTS["vispeak" if proactive else "online"]))
        acts = [ACTS[label] if label != UNSETTLED else None for label in clip.labels]
        turns = self._interrupted(clip, rng) if proactive and ahead == 0 else []
        turns = turns or self._turns(clip, rng)
        patience = {start: int(rng.choice(len(telling.late), p=telling.late)) for start in clip.starts}
        answered: set[float] = set()  # events that have had their reply, by their start
        for time, start, act in zip(clip.times, clip.starts, acts, strict=True):
            self._converse(tracks, turns, before=time)
            called = act in REPLIES and start not in answered
            label = int(called) if proactive and act is not None else IGNORE
            kind = _CLASSES.get(act or "", 0) if telling.events and act is not None else IGNORE
            tracks.read(self._image, label, kind)
            if called and proactive:
                patience[start] -= 1
                if patience[start] < 0:
                    answered.add(start)
                    tracks.pending = self._reply(vocabulary.answer_visual, str(rng.choice(REPLIES[str(act)])))
            if telling.silence and not proactive and act is not None:
                tracks.ends.append(len(tracks.agent))
            tracks.speak()
        self._converse(tracks, turns, before=float("inf"))
        while tracks.pending:
            tracks.ahead = len(tracks.pending)
            tracks.speak()
        return self._sample(tracks, clip.frames, name)

    def _turns(self, clip: SampledClip, rng: np.random.Generator) -> list[tuple[float, str, str]]:
        """Questions and their answers by time: the clip's own, and maybe one about a frame of every dozen."""
        found: list[tuple[float, str, str]] = []
        own = clip.note.get("turns", []) if rng.random() < self._telling.conversation else []
        for question, answer in zip(own[::2], own[1::2], strict=True):
            found.append((question["time"], question["value"], answer["value"]))
        settled = [index for index, label in enumerate(clip.labels) if label != UNSETTLED]
        for _ in range(max(1, round(len(clip.labels) / _ASKED_AMONG))):
            if not settled or rng.random() >= self._telling.question:
                continue
            index = int(rng.choice(settled))
            asked = float(clip.times[index]) + 1e-6  # right after the frame
            found.append((asked, str(rng.choice(QUESTIONS)), SENTENCES[ACTS[clip.labels[index]]]))
        return sorted(found)

    def _interrupted(self, clip: SampledClip, rng: np.random.Generator) -> list[tuple[float, str, str]]:
        """A question with a long answer some seconds before an event; nothing in clips without one.

        Some answers end by themselves while the event is seen: it is no less one then.
        """
        seen = zip(clip.starts, clip.labels, strict=True)
        begins = sorted({float(start) for start, label in seen if label != UNSETTLED and ACTS[label] in REPLIES})
        if not begins or rng.random() >= self._telling.interrupted:
            return []
        question, answer = LONG_TALK[int(rng.integers(len(LONG_TALK)))]
        asked = begins[int(rng.integers(len(begins)))] - float(rng.uniform(0.0, _ASKED_BEFORE))
        return [(max(asked, 0.0), question, answer)]

    def _converse(self, tracks: _Tracks, turns: list[tuple[float, str, str]], before: float) -> None:
        """Reads the questions that were asked before a time; nobody asks while the agent speaks."""
        while turns and turns[0][0] < before:
            _, question, answer = turns.pop(0)
            if not tracks.pending:
                tracks.read([*self._vocabulary.encode_user_text(question), self._vocabulary.segment_end])
                tracks.pending = self._reply(self._vocabulary.answer_text, answer)
                tracks.speak()

    def _segment(self, text: str) -> list[int]:
        return [*self._vocabulary.encode(text), self._vocabulary.segment_end]

    def _reply(self, start: int, text: str) -> list[int]:
        return [start, *self._vocabulary.encode(text), self._vocabulary.reply_end]

    def _sample(self, tracks: _Tracks, frames: NDArray[np.uint8], name: str) -> Sample:
        user, agent, informative, events = (
            np.array(values, np.int64) for values in (tracks.user, tracks.agent, tracks.informative, tracks.events)
        )
        targets = np.where(agent == self._vocabulary.pad, IGNORE, agent)
        ends = np.array([end for end in tracks.ends if end < len(agent)], np.int64)
        targets[ends] = agent[ends]
        return Sample(user, agent, targets, informative, events, frames, np.zeros((0, 16_000), np.float32), name)
