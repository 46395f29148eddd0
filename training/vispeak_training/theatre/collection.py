"""A folder of clips in the published format: videos, and one annotation file for each subtask."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vispeak_training.theatre.annotation import FILES
from vispeak_training.theatre.clip import render_clip
from vispeak_training.theatre.room import photographs
from vispeak_training.theatre.script import DISTRACTORS
from vispeak_training.theatre.speech import speech_error

_SEED = 2_000_000  # of the first clip; none of them is in a file of sampled frames
_WITH_DISTRACTORS = "anomaly_warning"  # whose file holds the distractors: a benchmark reads seven files
_MINUTE = 60.0  # s: length of a clip with distractors alone


@dataclass(frozen=True)
class CollectionConfig:
    """What to render."""

    count: int  # clips with something to react to, shared out evenly among the seven subtasks
    held_out: bool = False  # figures, rooms, variants and phrasings that no training clip has
    minutes: int = 0  # clips of a minute in which nothing calls for words
    speech: bool = False  # questions can be heard
    width: int = 256  # pixels
    height: int = 256  # pixels
    frames_per_second: int = 8
    processes: int = 2
    photos: Path | None = None  # folder of backgrounds for training clips


_Job = tuple[Path, str, int, CollectionConfig, tuple[Path, ...]]


def render_collection(folder: Path, config: CollectionConfig) -> list[Path]:
    """Renders the clips that are not there yet, and writes the annotation files.

    Args:
        folder: `<Task>.json` and `<Task>/<number>.mp4` go there.
        config: what to render.

    Returns:
        The annotation files.

    Raises:
        ValueError: speech without espeak-ng, or a folder without photographs.
    """
    error = speech_error() if config.speech else None
    if error:
        raise ValueError(error)
    backgrounds = () if config.held_out else photographs(config.photos)
    subtasks = [name for name in FILES if name != DISTRACTORS]
    wanted = [(subtasks[number % len(subtasks)], number) for number in range(config.count)]
    wanted += [(DISTRACTORS, config.count + number) for number in range(config.minutes)]
    jobs = [(folder, subtask, number, config, backgrounds) for subtask, number in wanted]
    items: dict[str, list[dict[str, Any]]] = {}
    for (subtask, _), note in zip(wanted, _render_all(jobs, config.processes), strict=True):
        items.setdefault(subtask, []).append(note)
    quiet = items.pop(DISTRACTORS, [])
    if quiet:
        items.setdefault(_WITH_DISTRACTORS, []).extend(quiet)
    files = []
    for subtask, notes_of in items.items():
        files.append(folder / f"{FILES[subtask]}.json")
        files[-1].write_text(json.dumps(notes_of, indent=1) + "\n")
    return files


def _render_all(jobs: list[_Job], processes: int) -> list[dict[str, Any]]:
    if processes < 2:
        return [_job(job) for job in tqdm(jobs, desc="clips", disable=None)]
    # GL contexts do not survive a fork
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return list(tqdm(pool.imap(_job, jobs), total=len(jobs), desc="clips", disable=None))


def _job(arguments: _Job) -> dict[str, Any]:
    """One clip; its annotation is written when the video is whole, so a clip with one need not be made again."""
    folder, subtask, number, config, photos = arguments
    place = folder / FILES[subtask]
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{number:05d}.mp4"
    if not path.with_suffix(".json").is_file():
        render_clip(
            path,
            _SEED + number,
            width=config.width,
            height=config.height,
            frames_per_second=config.frames_per_second,
            held_out=config.held_out,
            subtask=subtask,
            plain=True,
            seconds=_MINUTE if subtask == DISTRACTORS else None,
            speech=config.speech,
            clean=False,
            photos=photos,
            progress=False,
        )
    note: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())[0]
    return note | {"video": f"{FILES[subtask]}/{path.name}"}
