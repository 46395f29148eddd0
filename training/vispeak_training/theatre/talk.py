"""What is said in a clip beside the replies to events: questions by voice or by text, and their answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vispeak_training import phrases

WORDS_A_SECOND = 2.6  # how long a spoken sentence takes
# s before an event when somebody asks for the answer that it cuts: an assistant that writes much faster than people
# speak must still be at it, or there is nothing to interrupt
_CUT_FROM, _CUT_TO = 2.5, 0.6


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation."""

    role: str  # "human" or "gpt"
    text: str
    time: float  # s: when a question has been asked, when an answer begins
    timespan: tuple[float, float]  # s: while it is said
    spoken: bool = False  # a question that can be heard; else it is typed
    options: tuple[str, ...] = ()  # lettered answers to choose from
    answer: str = ""  # the letter of the right one


def converse(rng: np.random.Generator, kind: str, until: float, held_out: bool) -> tuple[Turn, ...]:
    """A question and its answer.

    Args:
        rng: draws which.
        kind: "short", "long", "cut" (a long answer that has just begun when the event begins) or "none".
        until: s, when the next event begins.
        held_out: phrasings of questions that no training clip has.
    """
    if kind == "none" or until < 1.5:
        return ()
    if kind in ("long", "cut"):
        pairs: tuple[tuple[str, str], ...] = phrases.HELD_OUT_LONG_TALK if held_out else phrases.LONG_TALK
    else:
        pairs = phrases.HELD_OUT_SMALL_TALK if held_out else phrases.SMALL_TALK
    question, answer = pairs[int(rng.integers(len(pairs)))]
    first, last = (until - _CUT_FROM, until - _CUT_TO) if kind == "cut" else (0.6, min(3.2, until - 1.0))
    asked = round(float(rng.uniform(max(0.6, first), max(0.7, last))), 2)
    answered, spoken = round(asked + 0.1, 2), bool(rng.random() < 0.6 and asked > _length(question))
    begun = asked - _length(question) if spoken else asked
    return (
        Turn("human", question, asked, (round(begun, 2), asked), spoken),
        Turn("gpt", answer, answered, (answered, round(answered + _length(answer), 2))),
    )


def refer(
    rng: np.random.Generator, thing: str, shown: list[str], begin: float, end: float, held_out: bool
) -> tuple[Turn, ...]:
    """A question with lettered options about the thing that somebody points at between `begin` and `end`."""
    questions = phrases.HELD_OUT_REFERENCE_QUESTIONS if held_out else phrases.REFERENCE_QUESTIONS
    options = list(dict.fromkeys([*shown, *(str(name) for name in rng.permutation(phrases.OBJECTS))]))[:4]
    options = [options[index] for index in rng.permutation(4)]
    letter = "ABCD"[options.index(thing)]
    asked = round(float(rng.uniform(0.45, 0.8)) * (end - begin) + begin, 2)
    text = str(rng.choice(questions))
    listed = " ".join(f"{name}. {option.capitalize()}" for name, option in zip("ABCD", options, strict=True))
    question = f"{text} {listed}\n\nThe best option is:"
    reply = phrases.reference_answer(letter, thing)
    answered = round(asked + 0.1, 2)
    return (
        Turn("human", question, asked, (asked, asked), options=tuple(options), answer=letter),
        Turn("gpt", reply, answered, (answered, round(answered + _length(reply), 2))),
    )


def _length(text: str) -> float:
    return len(text.split()) / WORDS_A_SECOND
