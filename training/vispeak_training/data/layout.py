"""Pieces of the two streams: segments of the user's, replies of the agent's, and the arrays that they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.subtasks import split_label
from vispeak_node.model.tokens import ANSWER_TEXT, ANSWER_VISUAL, ANSWER_VOICE, REPLY_END, SEGMENT_END, Vocabulary
from vispeak_training.data.options import Quirks
from vispeak_training.data.sample import AUDIO, IGNORE, IMAGE, OVERLONG, VIDEO_AUDIO, SampleError

STARTS = (ANSWER_TEXT, ANSWER_VOICE, ANSWER_VISUAL)
_ROOM = 512  # positions behind the user stream that published replies may take


@dataclass(frozen=True)
class Streams:
    """A sample without its media; int64 arrays of one length, as in Sample."""

    user: NDArray[np.int64]
    agent: NDArray[np.int64]
    targets: NDArray[np.int64]
    informative: NDArray[np.int64]
    events: NDArray[np.int64]
    order: tuple[tuple[str, int], ...] = ()  # offline: "image", "audio" or "video" and which, as they are read


@dataclass(frozen=True)
class Layout:
    """How text and media become positions for one model."""

    vocabulary: Vocabulary
    tokens_per_image: int  # positions of a frame or tile, without `>Note`
    tokens_per_second: int = 12  # positions of a second of sound, without `>Note`
    event_labels: tuple[str, ...] = ()  # of the event head; empty without one
    quirks: Quirks = field(default_factory=Quirks)

    def prompt(self, name: str) -> list[int]:
        """The first segment of the user stream."""
        return [*self.vocabulary.encode(SYSTEM_PROMPTS[name]), self.vocabulary.segment_end]

    def text(self, text: str) -> list[int]:
        """A segment of what a human typed."""
        if self.quirks.markers_in_text:
            return self._marked(text + SEGMENT_END)
        return [*self.vocabulary.encode_user_text(text), self.vocabulary.segment_end]

    def image(self, tiles: int = 1) -> list[int]:
        """A segment of a frame, or of all tiles of a still picture."""
        return [*[IMAGE] * (tiles * self.tokens_per_image), self.vocabulary.segment_end]

    def sound(self, placeholder: int = VIDEO_AUDIO) -> list[int]:
        """A segment of one second: VIDEO_AUDIO or AUDIO."""
        assert placeholder in (VIDEO_AUDIO, AUDIO), placeholder
        return [*[placeholder] * self.tokens_per_second, self.vocabulary.segment_end]

    def reply(self, start: str, text: str) -> list[int]:
        """What the agent says, with its start and end."""
        assert start in STARTS, start
        if self.quirks.markers_in_text:
            return self._marked(start + text + REPLY_END)
        begin = {
            ANSWER_TEXT: self.vocabulary.answer_text,
            ANSWER_VOICE: self.vocabulary.answer_voice,
            ANSWER_VISUAL: self.vocabulary.answer_visual,
        }[start]
        return [begin, *self.vocabulary.encode_user_text(text), self.vocabulary.reply_end]

    def event_class(self, subtask: str | None) -> int:
        """Index into the event labels: the label itself, else the only one of its subtask; else IGNORE."""
        if subtask is None:
            return IGNORE
        if subtask in self.event_labels:
            return self.event_labels.index(subtask)
        wanted = split_label(subtask)
        if "/" in subtask:
            return IGNORE
        fitting = [i for i, label in enumerate(self.event_labels) if i and split_label(label)[0] == wanted[0]]
        return fitting[0] if len(fitting) == 1 else IGNORE

    def _marked(self, text: str) -> list[int]:
        return self.vocabulary.encode_stream(text, self.tokens_per_image, self.tokens_per_second)


class AgentTrack:
    """The agent's side of a timed sample while it is written.

    Args:
        user: ids of the user stream.
        room: positions that replies may need behind it.
        layout: pad, and how much room is given.
    """

    def __init__(self, user: Sequence[int], room: int, layout: Layout) -> None:
        self._layout, self._user = layout, user
        length = len(user) + room
        self._agent = np.full(length, layout.vocabulary.pad, np.int64)
        self.targets = np.full(length, IGNORE, np.int64)
        self._end = 0  # of the last reply

    @property
    def length(self) -> int:
        """Positions that the sample will have."""
        return max(len(self._user), self._end)

    def say(self, begin: int, reply: Sequence[int]) -> None:
        """Writes a reply from position `begin` on; what was being said there stops.

        Raises:
            SampleError: with the published room, where it does not fit.
        """
        end = begin + len(reply)
        quirks = self._layout.quirks
        if quirks.limited_room and end > len(self._user) + _ROOM:
            raise SampleError(OVERLONG, f"a reply ends {end - len(self._user)} positions behind the user stream", end)
        if not quirks.residual_tail:
            self._agent[begin:] = self._layout.vocabulary.pad
            self.targets[begin:] = IGNORE
        self._agent[begin:end] = reply
        self.targets[begin:end] = reply
        self._end = end

    def finish(self, informative: dict[int, int], events: dict[int, int]) -> Streams:
        """The streams, with head labels by position."""
        length = self.length
        user = np.full(length, self._layout.vocabulary.pad, np.int64)
        user[: len(self._user)] = self._user
        heads = []
        for labels in (informative, events):
            row = np.full(length, IGNORE, np.int64)
            for position, label in labels.items():
                row[position] = label
            heads.append(row)
        return Streams(user, self._agent[:length].copy(), self.targets[:length].copy(), heads[0], heads[1])
