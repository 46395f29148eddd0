"""Whether the model begins an answer at a segment's end marker."""

from __future__ import annotations

from torch import Tensor

from vispeak_node.model.tokens import Vocabulary


def first_word(logits_V: Tensor, vocabulary: Vocabulary, asked: bool, speaking: bool) -> tuple[int | None, float]:
    """The start of an answer, if there is one.

    Args:
        logits_V: of the token after an end marker.
        vocabulary: the checkpoint's tokenizer.
        asked: whether any word would be an answer; else only the marker of a spoken question's answer is.
        speaking: whether a reply is under way.

    Returns:
        The answer's first token or none, and its probability.
    """
    token = int(logits_V.argmax())
    if asked:
        # while it speaks, the next word of the reply is predicted here too; only a start marker is a new answer
        begins = token in vocabulary.starts if speaking else token not in vocabulary.silences
    else:
        begins = token == vocabulary.answer_voice
    return (token, float(logits_V.float().softmax(-1)[token])) if begins else (None, 0.0)
