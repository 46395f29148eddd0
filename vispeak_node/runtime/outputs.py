"""What a session says: scores for every image, and replies as they start, grow and finish.

All stamps are integer nanoseconds on the source's clock, as in `stream.events`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from vispeak_node.model.subtasks import split_label


class Trigger(str, Enum):
    """Why a reply began."""

    VISUAL = "visual"  # the informative head: the scene itself called for words
    TEXT = "text"  # a typed question
    VOICE = "voice"  # a spoken question


@dataclass(frozen=True, slots=True)
class Score:
    """How much one moment called for words."""

    stamp: int  # ns, the event that was scored
    score: float  # 0..1, sigmoid of the informative head
    total: float  # sum over the trigger's window, compared with the threshold
    threshold: float
    speaking: bool  # whether a reply was under way when this was scored
    fired: bool  # whether this score started a reply
    events: tuple[tuple[str, float], ...] = ()  # probability of each class of the event head, where there is one


@dataclass(frozen=True, slots=True)
class ReplyStarted:
    reply_id: int  # counts from 1 within a session
    stamp: int  # ns, the event that triggered it
    trigger: Trigger
    score: float  # the trigger's total for VISUAL, the start token's probability for TEXT and VOICE
    event_label: str = ""  # what kind of event called for it: `subtask` or `subtask/label`; empty if unknown
    event_score: float = 0.0  # its probability among the kinds


@dataclass(frozen=True, slots=True)
class TextDelta:
    reply_id: int
    stamp: int  # ns, the newest event read when these words were spoken
    text: str  # whole characters only; the deltas of a reply concatenate to its text


@dataclass(frozen=True, slots=True)
class ReplyFinished:
    reply_id: int
    start: int  # ns, the event that triggered it
    end: int  # ns, the newest event read when it ended
    text: str
    trigger: Trigger
    score: float
    interrupted: bool  # cut by a new trigger, a reset, or the length limit
    token_ids: tuple[int, ...]  # as the model spoke them, start and end markers included
    duplicate: bool = False  # same words as a reply within the duplicate window: not worth publishing
    event_label: str = ""  # as in ReplyStarted
    event_score: float = 0.0


__all__ = [  # split_label too: what labels mean, for those who read them
    "Output",
    "ReplyFinished",
    "ReplyStarted",
    "Score",
    "TextDelta",
    "Trigger",
    "split_label",
]

Output: TypeAlias = Score | ReplyStarted | TextDelta | ReplyFinished
