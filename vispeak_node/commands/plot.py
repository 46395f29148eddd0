"""A stream's timeline as a picture: what was seen, how much each moment called for words, and what was said.

Three bands over one time axis: frames, replies as labelled spans, the trigger's sum against its threshold.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_INK = "#22303c"
_SCORE = "#2a78b8"
_THRESHOLD = "#8a949e"
_COLOURS = {"visual": "#e07b39", "text": "#4a9d6e", "voice": "#8a63b5"}
_CUT = "…"


@dataclass(frozen=True)
class Said:
    """One reply on the timeline."""

    start: float  # s, the event that triggered it
    end: float  # s, the newest event read when it ended
    text: str
    trigger: str  # visual, text or voice
    interrupted: bool = False


@dataclass
class Timeline:
    """What a picture shows; times are seconds from the stream's beginning."""

    title: str
    threshold: float
    scores: list[tuple[float, float]] = field(default_factory=list)  # s, the trigger window's sum
    fired: list[tuple[float, float]] = field(default_factory=list)  # s, the sum that started a reply
    replies: list[Said] = field(default_factory=list)
    questions: list[tuple[float, str]] = field(default_factory=list)  # s, what a user asked
    frames: list[tuple[float, NDArray[np.uint8]]] = field(default_factory=list)  # s, [height, width, 3] RGB

    @property
    def end(self) -> float:
        """The last moment that anything happened, at least 1 s."""
        times = [time for time, _ in [*self.scores, *self.frames, *self.questions]]
        return max([1.0, *times, *(reply.end for reply in self.replies)])


def require_matplotlib() -> Any:
    """`matplotlib.figure`, ready to draw without a display.

    Raises:
        ValueError: it is not installed; the message says how to get it.
    """
    try:
        import matplotlib  # noqa: PLC0415 - an extra
        import matplotlib.figure  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError("a plot needs matplotlib: pip install 'vispeak_node[plot]'") from error
    matplotlib.use("Agg")
    return matplotlib.figure


def thumbnail(image: NDArray[np.uint8], height: int = 160) -> NDArray[np.uint8]:
    """A small copy of a frame, so that a long stream's pictures stay small."""
    step = max(1, image.shape[0] // height)
    return np.ascontiguousarray(image[::step, ::step])


def draw(timeline: Timeline, path: Path, max_frames: int = 12) -> None:
    """Writes the picture.

    Args:
        timeline: what to show.
        path: its suffix names the format (.png, .svg, .pdf).
        max_frames: frames shown at most, evenly chosen.

    Raises:
        ValueError: matplotlib is missing, or the file cannot be written.
    """
    figure = require_matplotlib().Figure(figsize=(12, 5.4), dpi=130, layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(1.25, 1.0, 1.7))
    margin = 0.03 * timeline.end
    bottom.set_xlim(-margin, timeline.end + 4 * margin)
    _draw_frames(top, timeline, max_frames)
    _draw_replies(middle, timeline)
    _draw_scores(bottom, timeline)
    figure.suptitle(timeline.title, x=0.01, ha="left", color=_INK, fontsize=12, fontweight="bold", parse_math=False)
    try:
        figure.savefig(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error.strerror}") from error


def _draw_frames(axes: Any, timeline: Timeline, max_frames: int) -> None:
    """Thumbnails side by side, each in its own slot, with a line down to its moment on the axis."""
    _bare(axes, "seen")
    axes.set_ylim(0, 1)
    if not timeline.frames:
        return
    count = min(max_frames, len(timeline.frames))
    left, right = axes.get_xlim()
    slot = (right - left) / count
    for index, pick in enumerate(np.linspace(0, len(timeline.frames) - 1, count).round().astype(int)):
        time, image = timeline.frames[pick]
        centre = left + (index + 0.5) * slot
        box = axes.inset_axes((centre - 0.47 * slot, 0.16, 0.94 * slot, 0.84), transform=axes.transData)
        box.imshow(image, aspect="equal", interpolation="antialiased")
        box.set_anchor("S")
        box.set_xticks([])
        box.set_yticks([])
        for spine in box.spines.values():
            spine.set_color("#c3c9ce")
        axes.plot([centre, time], [0.16, 0.0], color="#c3c9ce", linewidth=0.8, clip_on=False)


def _draw_replies(axes: Any, timeline: Timeline) -> None:
    """Each reply from its trigger to its end; texts that would overlap go to rows of their own."""
    _bare(axes, "said")
    ends: list[float] = []  # where the text of each row ends
    per_letter = timeline.end / 155
    for reply in timeline.replies:
        label = textwrap.shorten(reply.text + (_CUT if reply.interrupted else ""), 70, placeholder=_CUT) or "(no words)"
        letters = len(label)
        begin = min(reply.start, axes.get_xlim()[1] - letters * per_letter)  # of the text, which must fit in
        row = next((index for index, end in enumerate(ends) if end <= begin), len(ends))
        ends[row:] = [max(reply.end, begin + letters * per_letter), *ends[row + 1 :]]
        colour = _COLOURS.get(reply.trigger, _INK)
        width = max(reply.end - reply.start, 0.008 * timeline.end)
        axes.broken_barh([(reply.start, width)], (row + 0.1, 0.22), color=colour, alpha=0.85)
        axes.axvline(reply.start, color=colour, linewidth=0.8, linestyle=":", zorder=0)
        _label(axes, reply.start, row + 0.42, label, letters * per_letter, color=_INK, va="bottom")
    for time, text in timeline.questions:
        label = textwrap.shorten(text, 50, placeholder=_CUT)
        width = (len(label) + 2) * per_letter
        _label(axes, time, -0.12, f"? {label}", width, color=_COLOURS["text"], va="top", style="italic")
    if not timeline.replies:
        middle = sum(axes.get_xlim()) / 2
        axes.text(middle, 0.5, "nothing was said", color=_THRESHOLD, ha="center", va="center", style="italic")
    axes.set_ylim(max(1, len(ends)), -0.75 if timeline.questions else -0.1)
    axes.invert_yaxis()


def _label(axes: Any, time: float, height: float, text: str, width: float, **style: Any) -> None:
    """Text that begins at a time, or ends at the right edge where it would not fit."""
    left, right = axes.get_xlim()
    fits = time + width <= right or width > right - left
    place = {"x": time, "ha": "left"} if fits else {"x": right, "ha": "right"}
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    axes.text(y=height, s=text, fontsize=9, bbox=paper, parse_math=False, **place, **style)


def _draw_scores(axes: Any, timeline: Timeline) -> None:
    times = [time for time, _ in timeline.scores]
    totals = [total for _, total in timeline.scores]
    axes.plot(times, totals, color=_SCORE, linewidth=1.6, marker="o", markersize=3.5, label="scores in the window")
    axes.fill_between(times, totals, color=_SCORE, alpha=0.12)
    axes.axhline(timeline.threshold, color=_THRESHOLD, linewidth=1.2, linestyle="--")
    axes.annotate(
        f"threshold {timeline.threshold:g}", (1, timeline.threshold), xycoords=("axes fraction", "data"),
        xytext=(-4, 3), textcoords="offset points", ha="right", fontsize=8.5, color=_THRESHOLD,
    )  # fmt: skip
    if timeline.fired:
        axes.scatter(
            *zip(*timeline.fired, strict=True), color=_COLOURS["visual"], s=70, zorder=3, label="began to speak"
        )
    for reply in timeline.replies:
        axes.axvline(reply.start, color=_COLOURS.get(reply.trigger, _INK), linewidth=0.8, linestyle=":")
    axes.set_ylim(0, max([1.15 * timeline.threshold, *(1.1 * total for total in totals)]) or 1.0)
    axes.set_ylabel("call for words", color=_INK)
    axes.set_xlabel("time (s)", color=_INK)
    axes.grid(axis="y", color="#e6e9ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="upper left", frameon=False, fontsize=9, ncols=2)


def _bare(axes: Any, label: str) -> None:
    """No frame and no ticks, only a name at the left."""
    axes.set_ylabel(label, color=_INK)
    axes.set_yticks([])
    axes.tick_params(bottom=False, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
