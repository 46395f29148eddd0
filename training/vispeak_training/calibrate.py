"""The threshold of a checkpoint: the focal loss leaves scores well ordered but not well scaled, so it is measured."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.session import Session
from vispeak_training.measure import measure
from vispeak_training.theatre.dataset import SampledClip

logger = logging.getLogger(__name__)

GRID = (0.35, 0.5, 0.7, 0.9, 1.1, 1.3, 1.6, 1.9, 2.2)
_BETA = 0.7  # a false reply is worse than a missed event, and quiet minutes count in precision already


def calibrate(
    model: ViSpeakModel,
    vocabulary: Vocabulary,
    clips: list[SampledClip],
    grid: Sequence[float] = GRID,
    config: SessionConfig | None = None,
    session_type: type[Session] = Session,
) -> float:
    """Sets the model's threshold to the one with the best F-score over clips that nothing was trained on.

    Args:
        model: with an informative head; its configuration is changed.
        vocabulary: of the model.
        clips: to watch.
        grid: thresholds to try.
        config: of the sessions, but for the threshold.
        session_type: what watches.

    Returns:
        The threshold; the smallest of equally good ones.
    """
    scores = []
    for threshold in grid:
        session = dataclasses.replace(config or SessionConfig(), threshold=threshold)
        result = measure(model, vocabulary, clips, session, session_type)
        scores.append(f_score(result["precision"], result["noticed"]))
        logger.info("threshold %.2f: %s", threshold, result)
    best = grid[max(range(len(grid)), key=lambda index: scores[index])]
    model.config = dataclasses.replace(model.config, threshold=best)
    return best


def f_score(precision: float, recall: float, beta: float = _BETA) -> float:
    """Weighted harmonic mean; 0 where both are."""
    bottom = beta**2 * precision + recall
    return (1 + beta**2) * precision * recall / bottom if bottom else 0.0
