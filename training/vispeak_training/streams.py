"""Clips to training streams, position by position as the runtime will live them.

The user stream is the system prompt, then each second's image, its sound and any typed question, each closed by
`>Note`. The agent stream is pad but for replies. A reply starts at the position after the triggering segment: its
first token is predicted at that segment's `>Note`. The runtime speaks it over pad positions put in right there; the
published format lays it over the segments that follow. Both occur in training.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.tokens import Vocabulary
from vispeak_training.phrases import QUESTIONS, REPLIES
from vispeak_training.theatre.acts import ACTS, EVENT_LABELS, EVENTS, SENTENCES
from vispeak_training.theatre.dataset import UNSETTLED, SampledClip

IGNORE = -100
LABELS = ("none", *EVENT_LABELS.values())  # of the event head
_EVENT_CLASSES = {act: LABELS.index(label) for act, label in EVENT_LABELS.items()}


@dataclass(frozen=True)
class TellingConfig:
    """How a clip is told; every field is a share, 0 to 1."""

    question: float = 0.5  # of samples with a typed question
    late: float = 0.25  # of replies that begin at the second frame of their event, as when the first was missed
    sound: float = 0.4  # of samples with sound
    overlap: float = 0.25  # of samples in which replies run beside the following segments


@dataclass
class Stream:
    """One sample; all lists have one entry a position, but for `images` and `sounds`."""

    user: list[int] = field(default_factory=list)  # token ids; pad where an embedding goes
    agent: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)  # agent token of the same position, or IGNORE
    informative: list[int] = field(default_factory=list)  # 1, 0 or IGNORE
    events: list[int] = field(default_factory=list)  # index into the event head's labels, or IGNORE
    images: list[tuple[int, int]] = field(default_factory=list)  # first position, index of the frame in the clip
    sounds: list[int] = field(default_factory=list)  # first positions


class StreamBuilder:
    """Draws streams from clips."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        tokens_per_image: int,
        tokens_per_second: int,
        telling: TellingConfig | None = None,
    ) -> None:
        self._vocabulary, self._telling = vocabulary, telling or TellingConfig()
        self._image, self._sound = tokens_per_image, tokens_per_second
        self._prompt = vocabulary.encode(SYSTEM_PROMPTS["vispeak"])

    def build(self, clip: SampledClip, rng: np.random.Generator) -> Stream:
        """One random telling of a clip: with or without sound and questions, replies apart or overlapped."""
        stream = Stream()
        self._segment(stream, self._prompt)
        telling = self._telling
        overlap, sound = rng.random() < telling.overlap, rng.random() < telling.sound
        question_at = int(rng.integers(len(clip.labels))) if rng.random() < telling.question else -1
        answered: set[float] = set()  # events that have had their reply, by their start
        waiting = 0  # frames of the present event that passed without a reply
        pending: list[int] = []  # reply tokens that still wait for a position
        for index, label in enumerate(clip.labels):
            pending = self._image_segment(stream, index, pending)
            act = ACTS[label] if label != UNSETTLED else None
            called = act in EVENTS and clip.starts[index] not in answered
            # while a change is under way nobody can say whether words are due
            stream.informative[-2] = IGNORE if act is None else int(called)
            stream.events[-2] = IGNORE if act is None else _EVENT_CLASSES.get(act, 0)
            if act in EVENTS and called:
                late = waiting == 0 and rng.random() < telling.late
                waiting += 1
                if not late:
                    answered.add(clip.starts[index])
                    waiting = 0
                    reply = [self._vocabulary.answer_visual, *self._words(str(rng.choice(REPLIES[str(act)])))]
                    pending = reply if overlap else self._speak(stream, reply)
            if sound:
                stream.sounds.append(len(stream.user))
                pending = self._segment(stream, [self._vocabulary.pad] * self._sound, pending)
            if index == question_at and act is not None and not pending:
                self._segment(stream, self._vocabulary.encode_user_text(str(rng.choice(QUESTIONS))))
                answer = [self._vocabulary.answer_text, *self._words(SENTENCES[act])]
                pending = answer if overlap else self._speak(stream, answer)
        self._speak(stream, pending)
        return stream

    def _words(self, text: str) -> list[int]:
        return [*self._vocabulary.encode(text), self._vocabulary.reply_end]

    def _image_segment(self, stream: Stream, index: int, pending: list[int]) -> list[int]:
        stream.images.append((len(stream.user), index))
        return self._segment(stream, [self._vocabulary.pad] * self._image, pending)

    def _segment(self, stream: Stream, content: list[int], pending: list[int] | None = None) -> list[int]:
        """Appends a segment with a reply beside it; returns what of the reply is left."""
        user = [*content, self._vocabulary.segment_end]
        spoken = (pending or [])[: len(user)]
        self._append(stream, user, spoken)
        return (pending or [])[len(spoken) :]

    def _speak(self, stream: Stream, reply: list[int]) -> list[int]:
        """Appends a reply over pad positions; nothing of it is left."""
        self._append(stream, [self._vocabulary.pad] * len(reply), reply)
        return []

    def _append(self, stream: Stream, user: list[int], spoken: list[int]) -> None:
        silence = len(user) - len(spoken)
        stream.user += user
        stream.agent += spoken + [self._vocabulary.pad] * silence
        stream.targets += spoken + [IGNORE] * silence
        stream.informative += [IGNORE] * len(user)
        stream.events += [IGNORE] * len(user)
