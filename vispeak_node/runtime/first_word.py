"""Whether the model begins an answer at a segment's end marker."""

from __future__ import annotations

from vispeak_node.model.tokens import Vocabulary


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
