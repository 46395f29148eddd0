"""A past that the assistant has spoken in: its earlier reply written beside the user's stream, as published.

The published harness lays an earlier reply into the agent stream from the end of the user's question on, next to the
frames that came meanwhile, and cuts it where the model begins to decide.
"""

from __future__ import annotations

from collections.abc import Sequence

from vispeak_node.model.config import ModelConfig
from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.runtime.outputs import Output
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import Event


def reply_ids(vocabulary: Vocabulary, text: str) -> list[int]:
    """Agent tokens of a reply to a typed question, markers included."""
    return [vocabulary.answer_text, *vocabulary.encode_user_text(text), vocabulary.reply_end]


def prompt_rows(vocabulary: Vocabulary, name: str) -> int:
    """Positions of a system prompt with its end marker."""
    return len(vocabulary.encode(SYSTEM_PROMPTS[name])) + 1


def text_rows(vocabulary: Vocabulary, text: str) -> int:
    """Positions of a typed text with its end marker."""
    return len(vocabulary.encode_user_text(text)) + 1


def image_rows(config: ModelConfig) -> int:
    """Positions of a frame with its end marker."""
    return config.tokens_per_image + 1


def prefill_with_reply(session: Session, events: Sequence[Event], position: int, ids: Sequence[int]) -> list[Output]:
    """Reads a past in one pass with a reply in the agent stream, and decides at its end.

    Args:
        session: a fresh one.
        events: the past.
        position: of the user stream beside which the reply's first token stands.
        ids: the reply's tokens; what lies beyond the past is cut.

    Raises:
        ValueError: an event is malformed, or the session has begun already.
    """
    return session.prefill(events, [session.vocabulary.pad] * position + list(ids))
