"""Which option a reply chooses (Visual Reference): as published, with its quirks, and strictly."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Two commas are missing in the published list, so that four of its lead-ins are never found.
_LEGACY_LEAD_INS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
)
_LEAD_IN = re.compile(r"\b(?:answer|option|choice)\b(?:\s+is)?\s*:?\s*", re.IGNORECASE)
_LETTER = re.compile(r"[\s*(\[\"']*([A-Z])(?:[\s*\"']*(?:[.):,\]]|$)|[\s*\"']*$)")


def legacy_letter(reply: str) -> str:
    """The first capital A to E anywhere in a reply, stock lead-ins taken out; empty if there is none.

    `A person waves.` chooses A, and `Best answer: C` chooses B, as in the published scorer.
    """
    for lead_in in _LEGACY_LEAD_INS:
        reply = reply.replace(lead_in, "")
    found = re.search(r"[A-E]", reply)
    return found[0] if found else ""


def strict_letter(reply: str, options: Sequence[tuple[str, str]]) -> str:
    """The option that a reply chooses without doubt; empty otherwise.

    That is a letter on its own, at the beginning or after words such as `the answer is`, or a letter with its option's
    text, or else the text of exactly one option.

    Args:
        reply: what the model said.
        options: letter and text of each.
    """
    letters = {letter for letter, _ in options}
    text = reply.strip()
    starts = [0, *(match.end() for match in _LEAD_IN.finditer(text))]
    for start in reversed(starts):
        found = _LETTER.match(text, start)
        if found and found[1] in letters:
            return found[1]
        for letter, meaning in options:
            if re.match(rf"{letter}\s+{re.escape(meaning)}\b", text[start:], re.IGNORECASE):
                return letter
    named = [
        (letter, meaning.casefold())
        for letter, meaning in options
        if re.search(rf"(?<!\w){re.escape(meaning)}(?!\w)", text, re.IGNORECASE)
    ]
    # `a cardboard box` names that option, and not another one that is called `box`
    named = [one for one in named if not any(one[1] in other[1] for other in named if other is not one)]
    return named[0][0] if len(named) == 1 else ""
