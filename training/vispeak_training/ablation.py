"""What the parts of the small checkpoint's recipe are worth: the stages again without one of them.

The issue is when to speak, so every variant has its threshold calibrated as the checkpoint's own is. How many scores
are added up is a setting of the session and needs no training.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.encoders import Segment
from vispeak_node.runtime.outputs import Output
from vispeak_node.runtime.requests import Steps
from vispeak_node.runtime.session import Session
from vispeak_training.calibrate import calibrate
from vispeak_training.measure import measure
from vispeak_training.recipe import TinyStage, tiny_stages, train_stages
from vispeak_training.theatre.dataset import Footage, SampledClip
from vispeak_training.tiny_config import TinyConfig

logger = logging.getLogger(__name__)

_MARKER = "-marker"  # end of a stage's name whose labels stand at the segment marker
_TIMED = ("2", "3", "lockstep", "past")  # stages that learn when to speak
_COARSE = (0.5, 0.9, 1.3, 1.9)  # thresholds of the sum of three that are tried
COLUMNS = {  # of the table -> of a measurement
    "time accuracy": "time_accuracy",
    "precision": "precision",
    "subtask named": "subtask_named_of_noticed",
    "false, 5 quiet min": "false_triggers_per_5_quiet_minutes",
}


class MarkerSession(Session):
    """Reads the heads at the segment's end marker instead of its last content position."""

    def _decide(self, segment: Segment, visual_1D: Tensor, end_1D: Tensor) -> Steps[list[Output]]:
        return super()._decide(segment, end_1D, end_1D)


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    stages: tuple[str, ...] = ("1a", "1b", *_TIMED)
    window: int = 3  # scores that are added up

    @property
    def session(self) -> type[Session]:
        """What watches the clips."""
        return MarkerSession if self.stages[-1].endswith(_MARKER) else Session


VARIANTS = (
    Variant("as it is"),
    Variant("without stage 1", _TIMED),
    Variant("without stage 2", ("1a", "1b", *_TIMED[1:])),
    Variant("heads at the segment marker", ("1a", "1b", *(f"{name}{_MARKER}" for name in _TIMED))),
    Variant("one score instead of the sum of three", window=1),
    Variant("sum of two scores", window=2),
)


@dataclass(frozen=True)
class Splits:
    """The clips that an ablation needs."""

    training: Footage
    validation: list[SampledClip]  # for thresholds
    held_out: list[SampledClip]  # for the numbers


def ablate(
    base: Path,
    folder: Path,
    splits: Splits,
    config: TinyConfig,
    variants: Sequence[Variant] = VARIANTS,
    apart: bool = True,
) -> dict[str, dict[str, Any]]:
    """Trains and measures every variant.

    Args:
        base: a checkpoint that sees, before its stages.
        folder: for runs; stages that variants share are run once, and those of an earlier call are not run again.
        splits: clips.
        config: steps of the stages.
        variants: rows.
        apart: every stage in a process of its own.

    Returns:
        Each variant's measurements and its threshold, by its name.
    """
    results = {}
    for variant in variants:
        trained = train_stages(base, folder, splits.training, config, stages_of(variant, config), apart)
        model, vocabulary = load_model(trained), Vocabulary.from_folder(trained)
        session = SessionConfig(window=variant.window)
        grid = [threshold * variant.window / 3 for threshold in _COARSE]
        threshold = calibrate(model, vocabulary, splits.validation, grid, session, variant.session)
        session = replace(session, threshold=threshold)
        result = measure(model, vocabulary, splits.held_out, session, variant.session)
        results[variant.name] = {**result, "threshold": threshold}
        logger.info("%s: %s", variant.name, results[variant.name])
    return results


def stages_of(variant: Variant, config: TinyConfig) -> list[TinyStage]:
    """The stages that a variant goes through, in their order."""
    known = {stage.name: stage for stage in tiny_stages(config)}
    known |= {f"{name}{_MARKER}": _at_marker(stage) for name, stage in known.items()}
    return [known[name] for name in variant.stages]


def _at_marker(stage: TinyStage) -> TinyStage:
    mix = stage.mix
    tellings = {name: replace(getattr(mix, name), at_marker=True) for name in ("telling", "picture_telling")}
    return replace(stage, name=f"{stage.name}{_MARKER}", mix=replace(mix, **tellings))


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown, one row a variant."""
    lines = ["| | " + " | ".join(COLUMNS) + " | threshold |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, result in results.items():
        values = [f"{result[key]:.3g}" for key in COLUMNS.values()]
        lines.append(f"| {name} | " + " | ".join(values) + f" | {result['threshold']:.2f} |")
    return "\n".join(lines) + "\n"
