"""The results as bars: the model's time accuracy by both rules against the two baselines, and its marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vispeak_training.bench.report import Report, Row
from vispeak_training.bench.tasks import TASKS, TIMED

_COLOURS = ("#2a78b8", "#9cc3e0", "#8a949e", "#e07b39")
_SUFFIXES = (".png", ".svg", ".pdf")


def check_chart_path(path: Path) -> None:
    """Refuses, before the work begins, a picture that could not be written at its end.

    Raises:
        ValueError: matplotlib or the folder is missing, or the suffix is no picture's.
    """
    _figure_class()
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"{path}: a plot's name ends in {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder")


def draw_chart(report: Report, path: Path) -> None:
    """Draws one report.

    Raises:
        ValueError: matplotlib is missing, or the file cannot be written.
    """
    strict, legacy = report.rows("strict"), report.rows("legacy")
    figure = _figure_class()(figsize=(11, 4.2), layout="constrained")
    times, marks = figure.subplots(1, 2, width_ratios=(3, 2))
    series = [("strict", strict[0]), ("legacy", legacy[0]), ("never speaks (legacy)", legacy[1])]
    series.append(("always at start + 1 s", strict[2]))
    _bars(times, [task.code for task in TIMED], [(name, _percents(row)) for name, row in series], _COLOURS)
    times.set(ylim=(0, 105), ylabel="in time, %", title=f"{report.model}: time accuracy")
    words = [(name, row.text) for name, row in series[:2]]
    _bars(marks, [task.code for task in TASKS], words, _COLOURS)
    marks.set(ylim=(0, 5.25), ylabel="marks of 5", title=f"text score, judge {report.judge}")
    times.legend(ncols=2, fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from error


def _bars(
    axes: Any, codes: list[str], series: list[tuple[str, dict[str, float | None]]], colours: tuple[str, ...]
) -> None:
    """Groups of bars by task; what has no number has no bar."""
    width = 0.8 / len(series)
    for index, (name, values) in enumerate(series):
        found = [(place, values.get(code)) for place, code in enumerate(codes)]
        known = [(place, value) for place, value in found if value is not None]
        places = np.array([place for place, _ in known]) + (index - (len(series) - 1) / 2) * width
        axes.bar(places, [value for _, value in known], width, label=name, color=colours[index])
    axes.set_xticks(range(len(codes)), [code.upper() for code in codes])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _percents(row: Row) -> dict[str, float | None]:
    return {code: None if share is None else 100 * share for code, share in row.time.items()}


def _figure_class() -> Any:
    """matplotlib's figure, which draws without a display.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError("--plot needs matplotlib: pip install 'vispeak_node[plot]'") from error
    return Figure
