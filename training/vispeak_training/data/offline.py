"""The offline builder: everything is read first, then answered; the two streams take turns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vispeak_node.model.tokens import ANSWER_TEXT, ANSWER_VOICE
from vispeak_training.data.layout import Layout, Streams
from vispeak_training.data.record import HUMAN, OFFLINE, Record
from vispeak_training.data.sample import AUDIO, IGNORE, LABELS, SampleError

_MARKS = re.compile("(<image>|<video>|<audio>)")
_FINAL_MARKS = re.compile("(?:<image>|<video>)+$")


@dataclass(frozen=True)
class MediaCounts:
    """How long a sample's media are."""

    tiles: Sequence[int] = ()  # of every still picture
    seconds: Sequence[int] = ()  # of every sound file
    frame_sounds: Sequence[int] = ()  # seconds of sound that each frame of the video brings


def build_offline(record: Record, counts: MediaCounts, layout: Layout) -> Streams:
    """Human turns with pictures, sounds or a video, each answered behind it.

    Args:
        record: of kind offline.
        counts: of its media.
        layout: of the model.

    Raises:
        SampleError: the text has more placeholders than there are media, or fewer.
    """
    assert record.kind == OFFLINE
    reader = _Reader(counts, layout)
    user: list[int] = []
    agent: list[int] = []
    targets: list[int] = []
    silence = layout.vocabulary.pad
    spoken = False  # whether the last question holds sound

    def hear(ids: list[int]) -> None:
        user.extend(ids)
        agent.extend([silence] * len(ids))
        targets.extend([IGNORE] * len(ids))

    hear(layout.prompt(prompt_of(record)))
    for turn in record.turns:
        text = turn.text.replace("\n\n", "\n")
        if turn.speaker == HUMAN:
            hear(reader.read(text))
            spoken = "<audio>" in text
            continue
        ids = layout.reply(ANSWER_VOICE if spoken and not layout.quirks.typed_start else ANSWER_TEXT, text)
        user.extend([silence] * len(ids))
        agent.extend(ids)
        targets.extend(ids)
    reader.check_all_read()
    no_labels = np.full(len(user), IGNORE, np.int64)
    return Streams(
        np.array(user, np.int64),
        np.array(agent, np.int64),
        np.array(targets, np.int64),
        no_labels,
        no_labels.copy(),
        tuple(reader.order),
    )


def prompt_of(record: Record) -> str:
    """Name of the system prompt, by what the turns hold."""
    name = "text"
    for turn in record.turns:
        if "<image>" in turn.text:
            name = "image"
        if "<video>" in turn.text:
            name = "video"
        if "<audio>" in turn.text and name == "text":
            name = "audio"
    return name


def tidy(text: str) -> str:
    """A human turn without line ends beside placeholders, and with final pictures moved to its front."""
    text = re.sub(r"\n?(<image>|<video>|<audio>)\n?", r"\1", text)
    final = _FINAL_MARKS.search(text)
    return final.group() + text[: final.start()] if final else text


@dataclass
class _Reader:
    """Reads human turns and counts which media have been read."""

    counts: MediaCounts
    layout: Layout
    order: list[tuple[str, int]] = field(default_factory=list)
    _next: dict[str, int] = field(default_factory=lambda: {"image": 0, "audio": 0, "video": 0})
    _turns: dict[str, int] = field(default_factory=lambda: {"image": 0, "audio": 0})  # that held such media

    def read(self, text: str) -> list[int]:
        """Ids of a human turn."""
        ids: list[int] = []
        for piece in _MARKS.split(tidy(text)):
            if _MARKS.fullmatch(piece):
                ids += self._medium(piece[1:-1])
            elif piece.strip():
                ids += self.layout.text(piece)
        for kind in self._turns:
            self._turns[kind] += f"<{kind}>" in text
        return ids

    def check_all_read(self) -> None:
        """Refuses media that no placeholder stands for.

        Raises:
            SampleError: names them.
        """
        lengths = {"image": len(self.counts.tiles), "audio": len(self.counts.seconds)}
        lengths["video"] = int(bool(self.counts.frame_sounds))
        for kind, count in lengths.items():
            if self._next[kind] != count:
                raise SampleError(LABELS, f"{self._next[kind]} <{kind}> in the text, but {count} such files")

    def _medium(self, kind: str) -> list[int]:
        index = self._next[kind]
        self._next[kind] += 1
        self.order.append((kind, index))
        if kind == "video":
            frames = self.counts.frame_sounds if index == 0 else ()
            return [token for count in frames for token in (*self.layout.image(), *self.layout.sound() * count)]
        lengths = self.counts.tiles if kind == "image" else self.counts.seconds
        if index >= len(lengths):
            return []  # counted, and refused at the end
        length = lengths[index]
        if self.layout.quirks.counts_per_turn and length != lengths[min(self._turns[kind], len(lengths) - 1)]:
            raise SampleError(LABELS, f"<{kind}> number {index + 1} is not as long as the first of its turn")
        return self.layout.image(length) if kind == "image" else self.layout.sound(AUDIO) * length
