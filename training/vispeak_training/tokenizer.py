"""A small byte-level BPE tokenizer with the markers of the two-stream format as single tokens."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.tokens import ANSWER_TEXT, ANSWER_VISUAL, ANSWER_VOICE, PAD, REPLY_END, SEGMENT_END
from vispeak_training.phrases import corpus


def train_tokenizer(vocab_size: int = 1024) -> Tokenizer:
    """A tokenizer that can spell any text and knows the theatre's sentences and the system prompts by the word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, REPLY_END, SEGMENT_END, ANSWER_TEXT, ANSWER_VOICE, ANSWER_VISUAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*corpus(), *SYSTEM_PROMPTS.values()] * 4, trainer)
    return tokenizer
