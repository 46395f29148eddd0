"""The typed question that waits for its answer, and whether the model begins to answer."""

from __future__ import annotations

import logging

from vispeak_node.model.tokens import Vocabulary
from vispeak_node.runtime.context import Context
from vispeak_node.runtime.encoders import Kind, Segment
from vispeak_node.stream.events import nanoseconds

logger = logging.getLogger(__name__)


class Question:
    """The question that waits, if there is one; the context keeps it until what was said to it has ended.

    Args:
        context: that read it.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._asked: int | None = None  # ns

    @property
    def waits(self) -> bool:
        """Whether there is one."""
        return self._asked is not None

    def note(self, segment: Segment, timeout: float) -> None:
        """The segment being read may be a question; nothing is left of one that got no answer in `timeout` s."""
        if segment.kind is Kind.TEXT:
            self._asked = segment.stamp
            self._context.hold_question()
        elif self._asked is not None and segment.stamp - self._asked > nanoseconds(timeout):
            logger.info("a question got no answer within %s s", timeout)
            self.clear()
            self._context.drop_question()

    def clear(self) -> None:
        """It waits no longer: its answer begins."""
        self._asked = None

    def reply_ended(self) -> None:
        """After a reply: what was kept for its question is let go."""
        if not self.waits:
            self._context.drop_question()


def begins_answer(token: int, vocabulary: Vocabulary, asked: bool, speaking: bool) -> bool:
    """Whether the likeliest token after an end marker is the start of an answer.

    Args:
        token: that token.
        vocabulary: the checkpoint's tokenizer.
        asked: whether any word would be an answer; else only the marker of a spoken question's answer is.
        speaking: whether a reply is under way.
    """
    if not asked:
        return token == vocabulary.answer_voice
    # while it speaks, the next word of the reply is predicted here too; only a start marker is a new answer
    return token in vocabulary.starts if speaking else token not in vocabulary.silences
