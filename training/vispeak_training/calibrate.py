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

GRID = (0.5, 0.7, 0.9, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2.0)
QUIET_LIMIT = 0.5  # false replies in 5 quiet minutes, at most: half of what is borne at the end


def calibrate(
    model: ViSpeakModel,
    vocabulary: Vocabulary,
    clips: list[SampledClip],
    grid: Sequence[float] = GRID,
    config: SessionConfig | None = None,
    session_type: type[Session] = Session,
) -> float:
    """Sets the model's threshold to the one with the best time accuracy over clips that nothing was trained on.

    Only thresholds at which quiet minutes stay quiet are taken; where none is, the one with the fewest false replies.

    Args:
        model: with an informative head; its configuration is changed.
        vocabulary: of the model.
        clips: to watch.
        grid: thresholds to try.
        config: of the sessions, but for the threshold.
        session_type: what watches.

    Returns:
        The threshold; the largest of equally good ones.
    """
    found = []
    for threshold in grid:
        session = dataclasses.replace(config or SessionConfig(), threshold=threshold)
        result = measure(model, vocabulary, clips, session, session_type)
        found.append((result["false_triggers_per_5_quiet_minutes"], result["time_accuracy"], threshold))
        logger.info("threshold %.2f: %s", threshold, result)
    _, _, best = max(found, key=lambda row: (-max(row[0], QUIET_LIMIT), row[1], row[2]))
    model.config = dataclasses.replace(model.config, threshold=best)
    return best
