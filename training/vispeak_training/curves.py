"""A picture of how a run went: the tower's losses a pass, then every stage's losses a step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vispeak_training.stages.journal import LOG_FILE

VISION_LOG = "vision.jsonl"  # in the work folder, a line a pass
_TERMS = {"text": "#2a6fbb", "focal": "#c2571a", "events": "#3b8f4a"}
_SMOOTH = 25  # steps


def draw_curves(work: Path, path: Path) -> None:
    """Draws all runs of a work folder side by side.

    Args:
        work: of `vispeak-train tiny`, or the folder of one stage's run.
        path: of the picture; its suffix names the format.

    Raises:
        ValueError: there is no log, matplotlib is missing, or the picture cannot be written.
    """
    runs = sorted(work.glob(f"stage-*/{LOG_FILE}"), key=lambda log: log.parent.name) or list(work.glob(LOG_FILE))
    passes = _lines(work / VISION_LOG)
    if not runs and not passes:
        raise ValueError(f"{work}: no {LOG_FILE} of a stage in it; name the folder that --work or output named")
    panels = len(runs) + bool(passes)
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError("a picture needs matplotlib: pip install 'vispeak_node[plot]'") from error
    figure = Figure(figsize=(3.1 * panels, 2.8), dpi=110, layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, panels)))
    if passes:
        _draw_passes(axes.pop(0), passes)
    for log, panel in zip(runs, axes, strict=True):
        _draw_steps(panel, log)
    try:
        figure.savefig(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error.strerror}") from error


def smoothed(values: Sequence[float], width: int = _SMOOTH) -> NDArray[np.float64]:
    """Means over the last `width` values, fewer at the beginning."""
    sums = np.cumsum(np.asarray(values, np.float64))
    counts = np.minimum(np.arange(1, len(sums) + 1), width)
    return (sums - np.concatenate([np.zeros(min(width, len(sums))), sums[:-width]])) / counts


def _draw_passes(axes: Any, passes: list[dict[str, float]]) -> None:
    axes.plot([line["acts"] for line in passes], color=_TERMS["text"], label="acts")
    axes.plot([20 * line["places"] for line in passes], color=_TERMS["focal"], label="places x 20")
    axes.set(title="tower", xlabel="pass")
    axes.legend(frameon=False, fontsize=8)


def _draw_steps(axes: Any, log: Path) -> None:
    lines = _lines(log)
    for term, colour in _TERMS.items():
        values = [line.get(term, 0.0) for line in lines]
        if any(values):
            axes.plot([line["step"] for line in lines], smoothed(values), color=colour, label=term)
    axes.set(title=log.parent.name.replace("-", " ", 1), xlabel="step", yscale="log")
    axes.legend(frameon=False, fontsize=8)


def _lines(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise ValueError(f"{path}: not a log of one JSON object a line: {error}") from error
