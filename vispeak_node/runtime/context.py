"""What the model has read, and the passes that read more: user rows beside agent tokens, through the bounded cache.

Shape legend: T positions, D hidden.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.encoders import Segment
from vispeak_node.runtime.graphs import static_passes
from vispeak_node.runtime.requests import PassRequest, Steps
from vispeak_node.runtime.ring import Budget, Part, RingCache, Unit
from vispeak_node.runtime.runner import drive
from vispeak_node.runtime.transfer import send

logger = logging.getLogger(__name__)

_MOST_REPLY_POSITIONS = 512  # as StreamingVLM keeps text (arXiv 2510.09608)


class Context:
    """One stream's context. What reads into it is given as steps that ask for passes; `read` does them at once.

    Args:
        model: from `load_model`.
        vocabulary: the checkpoint's tokenizer.
        config: of the session.
        budget: from `build_budget`, with room for the longest `fork` and `read_temporary` together.
    """

    def __init__(self, model: ViSpeakModel, vocabulary: Vocabulary, config: SessionConfig, budget: Budget) -> None:
        self._model = model
        self._reference_order = config.prefill_order == "reference"
        self._pad_1D = model.embed(torch.tensor([vocabulary.pad], device=model.device)).detach()
        self.cache = RingCache(model.config.language, budget, model.dtype, model.device)
        self._static = static_passes(model, self.cache, config.graphs, config.kernels)
        self.clear()

    def clear(self) -> None:
        """Forgets everything and keeps the buffers."""
        self.cache.clear()
        self.owed: list[int] = []  # agent tokens chosen but not yet read by the model
        self.owed_pads = 0  # user positions that belong to owed tokens
        self._segment: Unit | None = None
        self._unread: tuple[Unit, Tensor] | None = None  # a segment that waits for the next pass, and its rows
        self._reply = Unit(Part.REPLY)
        self._question: Unit | None = None
        self._temporary: Unit | None = None

    def __len__(self) -> int:
        """Positions kept."""
        return len(self.cache)

    def admitting(self, segment: Segment) -> Steps[None]:
        """Refuses a segment that is too long, before anything is changed; reads what waits if both have no room.

        Raises:
            ValueError: says how long it is and what is possible.
        """
        count, most = segment.user_TD.shape[0], self.cache.budget.window
        if count > most:
            raise ValueError(
                f"the {segment.kind.value} has {count} positions, more than the window of {most}: raise "
                "window_positions or max_positions"
            )
        if count + self._num_unread > most:
            yield from self.catching_up()

    def begin_segment(self, segment: Segment) -> None:
        """The rows read from now on are this segment's; makes room for all of them."""
        self.cache.reserve(segment.user_TD.shape[0] + self._num_unread)
        self._segment = Unit(Part.WINDOW, segment.stamp)

    def leave_unread(self, user_TD: Tensor) -> None:
        """The segment that was begun waits for the next pass, since nobody asks what the heads say at its end."""
        assert self._segment is not None and self._unread is None, "one may wait"
        self._unread = self._segment, user_TD

    def catching_up(self) -> Steps[None]:
        """Reads the segment that waits, if one does."""
        if self._unread is not None:
            yield from self.reading(self._unread[1][:0])

    @property
    def has_unread(self) -> bool:
        """Whether a segment waits for the next pass."""
        return self._unread is not None

    @property
    def _num_unread(self) -> int:
        return 0 if self._unread is None else self._unread[1].shape[0]

    def begin_reply(self, stamp: int) -> None:
        """Agent tokens read from now on are a new reply's."""
        self._reply = Unit(Part.REPLY, stamp)

    def hold_question(self) -> None:
        """The present segment is a standing question: it stays until `drop_question`."""
        assert self._segment is not None
        self._question, self._segment.held = self._segment, True

    def drop_question(self) -> None:
        """No question stands any more; what was read for it only is forgotten too."""
        if self._question is not None:
            self.cache.unhold(self._question)
            self._question = None
        if self._temporary is not None:
            self.cache.discard(self._temporary)
            self._temporary = None

    def reading(
        self,
        user_TD: Tensor,
        wanted: int = 1,
        prefill: bool = False,
        plan: Sequence[tuple[Unit, int]] | None = None,
        evict: bool = True,
    ) -> Steps[Tensor]:
        """Reads user positions with the owed agent tokens beside the first of them and silence beside the rest.

        A segment that waits is read before them, in the same pass.

        Args:
            user_TD: rows of the user stream.
            wanted: so many of the last hidden states are needed.
            prefill: whether this is a past read in one pass.
            plan: units of the positions, while no segment waits; without, spoken ones are the reply's and the others
                the segment's.
            evict: whether older units may leave for it.

        Returns:
            Final hidden states of the last positions, [wanted, D].
        """
        assert plan is None or self._unread is None, "what waits was not read before"
        own, extra, spoken = user_TD.shape[0], self.owed_pads, len(self.owed)
        before = ([self._pad_1D.expand(extra, -1)] if extra else []) + ([self._unread[1]] if self._unread else [])
        user_TD = torch.cat([*before, user_TD]) if before else user_TD
        count = user_TD.shape[0]
        agent_TD = self._pad_1D.expand(count, -1)
        if spoken:
            ids = send(torch.tensor(self.owed, dtype=torch.long), self._model.device)
            agent_TD = torch.cat([self._model.embed(ids), agent_TD[spoken:]])
        start = self.cache.place(self._plan(count, own, max(spoken, extra)) if plan is None else plan, evict)
        self.owed, self.owed_pads, self._unread = [], 0, None
        if prefill and self._reference_order:
            agent_TD, user_TD = user_TD, agent_TD
        embeds_TD = self._model.combine(agent_TD, user_TD)
        hidden_TD: Tensor = yield PassRequest(embeds_TD, start, self.cache, wanted, self._static)
        return hidden_TD

    def read(self, user_TD: Tensor, plan: Sequence[tuple[Unit, int]] | None = None) -> None:
        """Reads user positions at once, without batching; see `reading`."""
        drive(self._model, self.reading(user_TD, plan=plan))

    def prefilling(self, segments: Sequence[Segment], wanted: int) -> Steps[Tensor]:
        """Reads a prompt and a past in one pass; as `reading`.

        Raises:
            ValueError: the past is too long for one pass.
        """
        budget = self.cache.budget
        count = sum(segment.user_TD.shape[0] for segment in segments)
        most = budget.pinned + budget.window + budget.replies
        if count > most:
            raise ValueError(f"the past has {count} positions, more than the {most} of the context: push it instead")
        units = [Unit(Part.WINDOW if index else Part.PINNED, segment.stamp) for index, segment in enumerate(segments)]
        plan = [(unit, segment.user_TD.shape[0]) for unit, segment in zip(units, segments, strict=True)]
        self._segment = units[-1] if len(units) > 1 else None
        rows_TD = torch.cat([segment.user_TD for segment in segments])
        return (yield from self.reading(rows_TD, wanted, prefill=True, plan=plan))

    def prefill(self, segments: Sequence[Segment]) -> None:
        """Reads a prompt and a past at once; see `prefilling`."""
        drive(self._model, self.prefilling(segments, wanted=1))

    def read_temporary(self, segments: Sequence[Segment]) -> None:
        """Reads segments that stay until `drop_question`, while the agent says nothing."""
        assert self._temporary is None
        drive(self._model, self.catching_up())
        owed, self.owed, owed_pads, self.owed_pads = self.owed, [], self.owed_pads, 0
        rows_TD = torch.cat([segment.user_TD for segment in segments])
        self._temporary = Unit(Part.TEMPORARY, segments[0].stamp)
        self.read(rows_TD, plan=[(self._temporary, rows_TD.shape[0])])
        self.owed, self.owed_pads = owed, owed_pads

    def read_reply(self, token_ids: Sequence[int], stamp: int) -> None:
        """Reads a reply of the past, over pad positions; what is longer than the budget loses its beginning."""
        self.owed = list(token_ids)[-self.cache.budget.replies :]
        if self.owed:
            self.begin_reply(stamp)
            self.read(self._pad_1D.expand(len(self.owed), -1))

    def fork(self, steps: Sequence[tuple[Tensor, int | None]]) -> Steps[Tensor]:
        """Reads on and forgets it: the context is as it was before.

        Args:
            steps: rows of the user stream, and an agent token beside the first of them or none.

        Returns:
            The last hidden state, [1, D].
        """
        position, owed, owed_pads = self.cache.next_position, self.owed, self.owed_pads
        fork = Unit(Part.TEMPORARY)
        hidden_TD = torch.empty(0)
        for rows_TD, token in steps:
            self.owed = self.owed if token is None else [token]
            plan = [(fork, rows_TD.shape[0] + self.owed_pads)]
            hidden_TD = yield from self.reading(rows_TD, plan=plan, evict=False)
        self.cache.discard(fork)
        self.cache.rewind(position)
        self.owed, self.owed_pads = owed, owed_pads
        return hidden_TD[-1:]

    def _plan(self, count: int, own: int, spoken: int) -> list[tuple[Unit, int]]:
        """Units of a pass's rows: spoken ones first, then what waited, then the present segment's own."""
        spoken = min(spoken, count)
        own = min(own, count - spoken)
        plan = [(self._reply, spoken)]
        if self._unread is not None:
            plan.append((self._unread[0], count - spoken - own))
        if own:
            assert self._segment is not None, "rows belong to a segment"
            plan.append((self._segment, own))
        return plan


def build_budget(model: ViSpeakModel, vocabulary: Vocabulary, config: SessionConfig) -> Budget:
    """How the trained length is shared out: prompt, then replies, and the rest for the window.

    Raises:
        ValueError: something gets nothing, or less than one frame.
    """
    trained = model.config.language.max_positions
    span = config.max_positions or trained
    if span > trained:
        logger.warning("max_positions %d is more than the model was trained on (%d)", span, trained)
    pinned = max(len(vocabulary.encode(text)) for text in SYSTEM_PROMPTS.values()) + 1  # the prompt may be changed
    replies = config.reply_positions or max(1, min(_MOST_REPLY_POSITIONS, span // 8))
    window = config.window_positions or span - pinned - replies
    least = max(model.config.tokens_per_image, model.config.tokens_per_second) + 1
    if window < least:
        raise ValueError(
            f"the window has {max(window, 0)} positions and one segment needs {least}: raise max_positions ({span})"
            + (" or window_positions" if config.window_positions else "")
        )
    return Budget(pinned, window, replies, 0, span)
