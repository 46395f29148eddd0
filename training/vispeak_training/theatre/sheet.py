"""A contact sheet: one row of small pictures for every act, to see whether a person can tell them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from vispeak_training.theatre.acts import ACTS, label_of
from vispeak_training.theatre.figure import Look
from vispeak_training.theatre.scene import Stage
from vispeak_training.theatre.script import fixed_script
from vispeak_training.theatre.staging import set_scene

_MARGIN = 150  # pixels for a row's name
_COLUMNS = 2  # rows side by side


def render_sheet(
    path: Path,
    seed: int = 0,
    acts: Sequence[str] = ACTS,
    frames: int = 6,
    size: int = 128,
    held_out: bool = False,
    clean: bool = False,
    photos: Sequence[Path] = (),
) -> Path:
    """Draws `frames` moments of every act, each pair of them with another person in another room.

    Args:
        path: of the picture (.png).
        seed: everything follows from it.
        acts: rows.
        frames: pictures a row.
        size: of a picture in pixels.
        held_out: figures and rooms that no model is trained on.
        clean: no noise, no shake, nobody else.
        photos: for backgrounds.
    """
    height = -(-len(acts) // _COLUMNS)
    wide = _MARGIN + frames * (size + 2)
    sheet = Image.new("RGB", (_COLUMNS * wide, height * (size + 2)), "white")
    draw = ImageDraw.Draw(sheet)
    with Stage(2 * size, 2 * size) as stage:
        for index, act in enumerate(tqdm(acts, desc="acts", disable=None)):
            left, top = index // height * wide, index % height * (size + 2)
            label = label_of(act)
            draw.text((left + 4, top + size // 2 - 14), f"{label}\n{act}".replace("/", "\n"), fill="black")
            pictures = _row(stage, np.random.default_rng([seed, index]), act, frames, held_out, clean, photos)
            for number, picture in enumerate(pictures):
                sheet.paste(Image.fromarray(picture), (left + _MARGIN + number * (size + 2), top))
    sheet.save(path)
    return path


def _row(
    stage: Stage,
    rng: np.random.Generator,
    act: str,
    frames: int,
    held_out: bool,
    clean: bool,
    photos: Sequence[Path],
) -> list[np.ndarray]:
    pictures: list[np.ndarray] = []
    while len(pictures) < frames:
        look = Look.random(rng, held_out)
        script = fixed_script(rng, [("stand", 1.0), (act, 5.0)], look, held_out)
        scene = set_scene(stage, rng, script, look, held_out, clean=clean, photos=photos)
        for time in (2.0, 3.3):
            pictures.append(scene.picture(script.pose(time), time, 2))
        scene.close()
    return pictures[:frames]
