"""The seven tasks of ViSpeak-Bench as data: files, inference set-up and scales.

Source: ViSpeak_bench.py of the ViSpeak repository and the paper, arXiv 2503.12769.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

FULL_MARKS = 5  # of every text score


class Start(str, Enum):
    """The event at whose end the model may speak for the first time; all before it is read in one pass."""

    FIRST = "first"  # the first event
    AFTER_QUESTION = "after_question"  # the event right after the user's text
    AFTER_REPLY = "after_reply"  # the first event that ends after the assistant's earlier reply
    LAST = "last"  # the last event, which is the question


@dataclass(frozen=True)
class Task:
    """One task.

    `scales` are the parts of the text score with the most marks of each, which add up to FULL_MARKS.
    """

    code: str  # aw, vi, ...
    name: str  # as published; result files are called `{name}_output.json`
    files: tuple[str, ...]  # names that its annotations go by, the usual one first
    subtask: str  # what a checkpoint's event head calls it
    start: Start
    scales: tuple[tuple[str, int], ...] = (("score", FULL_MARKS),)
    system_prompt: str = "vispeak"
    proactive: bool = True  # whether the model decides by itself when to speak
    dialogue: bool = False  # whether a question and an earlier reply come before the event

    @property
    def timed(self) -> bool:
        """Whether the moment of the reply counts."""
        return self.proactive


# in the order of the published table's columns
TASKS = (
    Task(
        "aw",
        "Anomaly_Warning",
        ("Anomaly_Warning.json",),
        "anomaly_warning",
        Start.FIRST,
        scales=(("description", 3), ("advice", 2)),
    ),
    Task(
        "vi",
        "Visual_Interruption",
        ("Visual_Interruption.json",),
        "visual_interruption",
        Start.AFTER_QUESTION,
        dialogue=True,
    ),
    Task("hr", "Humor_Reaction", ("Humor_Reaction.json",), "humor_reaction", Start.FIRST),
    Task("vw", "Visual_Wake-Up", ("Visual_Wake-Up.json",), "visual_wake_up", Start.FIRST),
    Task(
        "vt",
        "Visual_Termination",
        ("Visual_Termination.json",),
        "visual_termination",
        Start.AFTER_REPLY,
        dialogue=True,
    ),
    Task(
        "gu",
        "Gesture_Understanding",
        # the published script asks for _v3, the published data set has the other
        ("Gesture_Understanding.json", "Gesture_Understanding_v3.json"),
        "gesture_understanding",
        Start.AFTER_REPLY,
        scales=(("gesture", 3), ("context", 2)),
        dialogue=True,
    ),
    Task(
        "vr",
        "Visual_Reference",
        ("Visual_Reference.json",),
        "visual_reference",
        Start.LAST,
        system_prompt="video",
        proactive=False,
    ),
)
TIMED = tuple(task for task in TASKS if task.timed)
_BY_CODE = {task.code: task for task in TASKS}


def find_tasks(codes: Iterable[str]) -> list[Task]:
    """Tasks by their codes, in the table's order and each once.

    Raises:
        ValueError: there is no such task.
    """
    wanted = set(codes)
    unknown = sorted(wanted - _BY_CODE.keys())
    if unknown:
        raise ValueError(f"task {unknown[0]!r} is unknown; use {', '.join(_BY_CODE)}")
    return [task for task in TASKS if task.code in wanted]
