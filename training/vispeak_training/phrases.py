"""What the small assistant says and is asked; held-out phrasings are for questions only."""

from __future__ import annotations

from vispeak_training.theatre.acts import SENTENCES

REPLIES = {
    "wave": (
        "Hello! How can I help you?",
        "Hi there! What can I do for you?",
        "Hello! Nice to see you. How can I help?",
    ),
    "fall": (
        "Careful! A person has fallen down. Please check on them.",
        "Warning: someone has fallen. They may need help.",
        "Someone fell down! Are you all right?",
    ),
}
QUESTIONS = ("What do you see?", "What is the person doing?", "What is happening?", "Can you tell me what you see now?")
HELD_OUT_QUESTIONS = ("What can you see?", "What happens here?")


def corpus() -> list[str]:
    """Everything that the small tokenizer should know well."""
    replies = [reply for kind in REPLIES.values() for reply in kind]
    return [*replies, *SENTENCES.values(), *QUESTIONS, *HELD_OUT_QUESTIONS]
