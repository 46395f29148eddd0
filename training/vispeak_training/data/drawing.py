"""A sample as a table for the terminal, and as a picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vispeak_node.model.tokens import Vocabulary
from vispeak_training.data.sample import AUDIO, IGNORE, IMAGE, VIDEO_AUDIO, Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEDIA = {IMAGE: "image", AUDIO: "audio", VIDEO_AUDIO: "video_audio"}
TEXT, PAD, SPEECH = "text", "pad", "speech"
_COLOURS = {
    "image": "#8fb8de",
    "audio": "#f2c078",
    "video_audio": "#f2c078",
    TEXT: "#b7d7a8",
    PAD: "#eeeeee",
    SPEECH: "#d98880",
}
_MAX_TEXT = 60  # characters of a cell


@dataclass(frozen=True)
class Run:
    """Neighbouring positions of one segment and one nature; a `>Note` belongs to what it closes."""

    first: int
    last: int  # inclusive
    user: str  # "image", "audio", "video_audio", "text" or "pad"
    agent: str  # "speech" or "pad"
    learnt: bool  # whether the agent's tokens are targets


def runs(sample: Sample, vocabulary: Vocabulary) -> list[Run]:
    """A sample's positions in runs."""
    found: list[Run] = []
    closed = True  # whether the segment before this position has ended
    for position in range(len(sample.user)):
        is_end = bool(sample.user[position] == vocabulary.segment_end)
        kind = found[-1].user if is_end and not closed else _kind(int(sample.user[position]), vocabulary)
        speech = SPEECH if sample.agent[position] != vocabulary.pad else PAD
        run = Run(position, position, kind, speech, bool(sample.targets[position] != IGNORE))
        if found and not closed and (found[-1].user, found[-1].agent, found[-1].learnt) == (kind, speech, run.learnt):
            run = replace(run, first=found.pop().first)
        found.append(run)
        closed = is_end
    return found


def table(sample: Sample, vocabulary: Vocabulary, event_labels: tuple[str, ...] = ()) -> list[str]:
    """The two streams, targets and head labels, a line for every run of positions."""
    heading = ("positions", "user", "agent", "target", "head", "event")
    rows = [heading, *(_row(sample, run, vocabulary, event_labels) for run in runs(sample, vocabulary))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heading))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    summary = (
        f"{sample.name}: {len(sample.user)} positions, {len(sample.images)} pictures, {len(sample.sounds)} s of sound"
    )
    return [summary, lines[0], "-" * len(lines[0]), *lines[1:]]


def plot(sample: Sample, vocabulary: Vocabulary, path: Path, event_labels: tuple[str, ...] = ()) -> None:
    """The same as a picture: lanes of the user, the agent, the targets, and the labels as dots.

    Raises:
        ValueError: matplotlib is not installed.
    """
    figure = new_figure(12, 3.2)
    axes = figure.add_subplot()
    for run in runs(sample, vocabulary):
        span = (run.first - 0.5, run.last - run.first + 1)
        for lane, kind in ((3, run.user), (2, run.agent), (1, SPEECH if run.learnt else PAD)):
            axes.broken_barh([span], (lane - 0.4, 0.8), color=_COLOURS[kind], edgecolor="white", linewidth=0.3)
    for label, colour in ((0, "#888888"), (1, "#c0392b")):
        places = np.flatnonzero(sample.informative == label)
        axes.plot(places, np.zeros(len(places)), "o", color=colour, markersize=4, label=f"head {label}")
    previous = 0
    for place in np.flatnonzero(sample.events != IGNORE):
        event = int(sample.events[place])
        if event > 0 and event != previous:  # the first frame of an event bears its name
            name = _event(event, event_labels)
            axes.annotate(name, (place, -0.25), fontsize=7, ha="center", va="top")
        previous = event
    axes.set(
        yticks=[3, 2, 1, 0], yticklabels=["user", "agent", "targets", "heads"], ylim=(-0.8, 3.6), xlabel="position"
    )
    axes.set_title(sample.name, fontsize=9)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7, handles=_legend(axes))
    figure.tight_layout()
    figure.savefig(path, dpi=140)


def _legend(axes: Axes) -> list[Any]:
    """What the colours and dots mean."""
    from matplotlib.patches import Patch  # noqa: PLC0415 - optional

    kinds = {"image": "image", "sound": "audio", "text": TEXT, "said or learnt": SPEECH, "pad": PAD}
    return [*(Patch(color=_COLOURS[kind], label=name) for name, kind in kinds.items()), *axes.get_lines()]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that needs no display.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ValueError("pictures need matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height))


def _kind(token: int, vocabulary: Vocabulary) -> str:
    return MEDIA.get(token, PAD if token == vocabulary.pad else TEXT)


def _row(sample: Sample, run: Run, vocabulary: Vocabulary, event_labels: tuple[str, ...]) -> tuple[str, ...]:
    part = slice(run.first, run.last + 1)
    user = sample.user[part].tolist()
    ended = " >Note" if user[-1] == vocabulary.segment_end else ""
    count = len(user) - bool(ended)
    words = _spell(user, vocabulary) if run.user == TEXT else (f"{run.user} x{count}" if count else run.user) + ended
    said = _spell(sample.agent[part].tolist(), vocabulary) if run.agent == SPEECH else ""
    target = ("same" if run.agent == SPEECH else "pad") if run.learnt else ""
    heads = [str(label) for label in sample.informative[part] if label != IGNORE]
    events = [_event(int(label), event_labels) for label in sample.events[part] if label != IGNORE]
    place = f"{run.first}" if run.first == run.last else f"{run.first}-{run.last}"
    return place, words, said, target, " ".join(heads), " ".join(events)


def _event(index: int, event_labels: tuple[str, ...]) -> str:
    return event_labels[index] if index < len(event_labels) else str(index)


def _spell(ids: list[int], vocabulary: Vocabulary) -> str:
    """Tokens as text with visible markers, in one line and cut in the middle."""
    marks = {
        vocabulary.segment_end: ">Note",
        vocabulary.pad: "·",
        vocabulary.reply_end: "<end>",
        vocabulary.answer_text: "☜",
        vocabulary.answer_voice: "☞",
        vocabulary.answer_visual: "☟",
    }
    text, plain = "", []
    for token in [*ids, vocabulary.pad]:
        if token not in marks:
            plain.append(token)
            continue
        text += vocabulary.decode(plain) + marks[token]
        plain = []
    text = " ".join(text.removesuffix("·").split())
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT // 2]} ... {text[-_MAX_TEXT // 3 :]}"
