"""A script's scene: who performs it, dressed for it, among the things that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vispeak_training.theatre.figure import Look
from vispeak_training.theatre.scene import Scene, Stage
from vispeak_training.theatre.script import Script


def set_scene(
    stage: Stage,
    rng: np.random.Generator,
    script: Script,
    look: Look,
    held_out: bool = False,
    clean: bool = False,
    photos: Sequence[Path] = (),
) -> Scene:
    """The scene of one clip.

    Args:
        stage: where it is rendered.
        rng: everything random is drawn from it.
        script: what happens.
        look: who performs.
        held_out: a room of the kinds that no model is trained on.
        clean: without what a camera adds.
        photos: backgrounds to choose from.
    """
    dressed, things = script.dress(look), script.things()
    return Scene(
        stage, rng, dressed, things, script.framing, held_out, clean=clean, photos=photos, drift=script.drift()
    )
