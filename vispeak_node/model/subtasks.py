"""The kinds of event that call for words: the seven subtasks of ViSpeak-Instruct (arXiv 2503.12769, section 3).

A checkpoint's event head names its classes `subtask` or `subtask/label`, for example `visual_wake_up/wave`; the class
for moments that call for nothing is `none` and comes first.
"""

from __future__ import annotations

NONE = "none"
SUBTASKS = (
    "visual_wake_up",
    "anomaly_warning",
    "gesture_understanding",
    "visual_reference",
    "visual_interruption",
    "humor_reaction",
    "visual_termination",
)


def split_label(label: str) -> tuple[str, str]:
    """`visual_wake_up/wave` as subtask and label; the label of a bare subtask is the subtask itself."""
    subtask, _, name = label.partition("/")
    return subtask, name or subtask


def check_labels(labels: tuple[str, ...]) -> None:
    """Refuses labels that no event head can have.

    Raises:
        ValueError: names what is wrong with them.
    """
    if not labels:
        return
    if labels[0] != NONE or len(labels) < 2 or len(set(labels)) != len(labels):
        raise ValueError(f"config.json: event_labels must be different names, the first of them {NONE!r}")
    for label in labels[1:]:
        if split_label(label)[0] not in SUBTASKS:
            raise ValueError(f"config.json: event_labels: {label!r} belongs to none of {', '.join(SUBTASKS)}")
