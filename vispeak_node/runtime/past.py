"""What a session remembers beyond its context: frames and dialogue, and how they are read again.

docs/memory.md says why it is done this way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.context import Context
from vispeak_node.runtime.dialogue import Dialogue, Turn
from vispeak_node.runtime.encoders import Segment, SegmentEncoder
from vispeak_node.runtime.memory.frame import Frame
from vispeak_node.runtime.memory.policies import FeatureMemory, Sizes, build_memory
from vispeak_node.runtime.ring import Budget
from vispeak_node.stream.events import NANOSECONDS, Event, TextEvent

_LONGEST_AGE = 999_999  # s, eleven days; what is older is said to be that old


class Past:
    """Frames and dialogue of one stream.

    Args:
        model: from `load_model`.
        vocabulary: the checkpoint's tokenizer.
        encoder: makes rows of remembered frames.
        config: of the session.
        budget: of its context.

    Raises:
        ValueError: the memory's budget is too small for its policy.
    """

    def __init__(
        self,
        model: ViSpeakModel,
        vocabulary: Vocabulary,
        encoder: SegmentEncoder,
        config: SessionConfig,
        budget: Budget,
    ) -> None:
        self._encoder = encoder
        tokens = model.config.tokens_per_image
        sizes = Sizes(
            side=round(tokens**0.5),
            width=model.config.vision.feature_size,
            dtype=model.dtype,
            window_frames=budget.window // (tokens + 1),
            recall_positions=budget.span // 3,
            frame_overhead=len(vocabulary.encode(_words(_LONGEST_AGE * NANOSECONDS))) + 1,
            budget=config.memory_bytes,
        )
        self.memory: FeatureMemory = build_memory(config.memory, sizes)
        self.dialogue = Dialogue()
        self._clock_unknown = False  # whether stamps from before a restart may be another clock's

    def add(self, event: Event, segment: Segment) -> None:
        """An event was read: a frame's features are remembered, and a question."""
        if isinstance(event, TextEvent):
            self.dialogue.ask(event.stamp, event.text)
        if segment.features_NF is not None:
            # a copy: an encoder may use its output buffer again
            self.memory.add(segment.stamp, segment.features_NF.clone())

    def recall(self, before: int | None, now: int) -> list[Segment]:
        """Remembered frames from before a stamp, as segments that say how long ago they were."""
        if before is None:
            return []
        return [
            self._encoder.remembered(frame.stamp, frame.features_NF, _words(now - frame.stamp))
            for frame in self.memory.past(before)
        ]

    def replay(self, context: Context, prompt: Segment) -> None:
        """Reads prompt, dialogue and the window's frames into an empty context, in order of time."""
        context.prefill([prompt])
        entries: list[tuple[int, int, Frame | Turn]] = [(frame.stamp, 0, frame) for frame in self.memory.recent()]
        entries += [(turn.stamp, 2 if turn.is_reply else 1, turn) for turn in self.dialogue]
        for stamp, _, entry in sorted(entries, key=lambda entry: entry[:2]):
            if isinstance(entry, Turn) and entry.is_reply:
                context.read_reply(entry.token_ids, stamp)
                continue
            if isinstance(entry, Turn):
                segment = self._encoder.segment(TextEvent(stamp, entry.text))
            else:
                segment = self._encoder.remembered(stamp, entry.features_NF)
            context.begin_segment(segment)
            context.read(segment.user_TD)

    @property
    def newest(self) -> int | None:
        """ns, of the newest thing that is remembered."""
        stamps = [frame.stamp for frames in self.memory.groups().values() for frame in frames]
        return max([*stamps, *(turn.stamp for turn in self.dialogue)], default=None)

    def restore(
        self, groups: Mapping[str, Sequence[Frame]], origin: int, num_offered: int, turns: Iterable[Turn]
    ) -> None:
        """Takes over what was remembered before a restart.

        Raises:
            ValueError: the frames do not fit the memory.
        """
        self.memory.restore(groups, origin, num_offered)
        self.dialogue.restore(turns)
        self._clock_unknown = True

    def meet_clock(self, stamp: int) -> None:
        """The first event after a restart: if its clock started anew, what is remembered moves to before it."""
        newest = self.newest if self._clock_unknown else None
        self._clock_unknown = False
        if newest is not None and newest >= stamp:
            self.shift(stamp - NANOSECONDS - newest)

    def shift(self, by: int) -> None:
        """Moves all stamps by so many ns, for a clock that started anew."""
        groups = {
            name: [Frame(frame.stamp + by, frame.index, frame.features_NF) for frame in frames]
            for name, frames in self.memory.groups().items()
        }
        self.memory.restore(groups, self.memory.origin + by, self.memory.num_offered)
        self.dialogue.shift(by)

    def clear(self) -> None:
        """Forgets everything."""
        self.memory.clear()
        self.dialogue.clear()
        self._clock_unknown = False


def _words(age: int) -> str:
    """How long ago something was, in whole seconds of `age` ns."""
    return f"{min(max(age // NANOSECONDS, 0), _LONGEST_AGE)}s ago:"
