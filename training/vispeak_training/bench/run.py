"""A run over many items that may be stopped at any moment and goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from vispeak_training.bench.annotations import Item
from vispeak_training.bench.answerer import Answerer
from vispeak_training.bench.record import Record, RecordLog, items_file, published_file, write_published, write_text
from vispeak_training.bench.tasks import Task

logger = logging.getLogger(__name__)

_MANIFEST = "run.json"
_EDGE = 2**20  # bytes of a file's beginning and end that a fingerprint looks at


@dataclass(frozen=True)
class Run:
    """Where a run reads and writes."""

    videos: Path  # data root that the annotations' paths start from
    out: Path  # an existing folder
    skip_missing: bool = False  # leave out items whose video cannot be read, instead of stopping


def check_videos(run: Run, items: list[Item]) -> list[Item]:
    """The items whose video is there.

    Raises:
        ValueError: some are not, and they may not be left out; or none is there.
    """
    there = [item for item in items if (run.videos / item.video).is_file()]
    missing = [item.video for item in items if not (run.videos / item.video).is_file()]
    if missing and (not run.skip_missing or not there):
        way_out = "" if run.skip_missing else "; --skip-missing leaves them out"
        raise ValueError(f"{run.videos}: {len(missing)} of {len(items)} videos missing, first {missing[0]}{way_out}")
    for video in missing:
        logger.warning("left out, no such video: %s", video)
    return there


def run_task(task: Task, items: list[Item], answer: Answerer, run: Run) -> dict[str, Record]:
    """Runs what is not done yet, and writes the published file when all is.

    Returns:
        Records by video, of this and of earlier calls.

    Raises:
        ValueError: a video is missing or cannot be read, or the log is damaged.
    """
    there = check_videos(run, items)
    with RecordLog(items_file(run.out, task)) as log:
        todo = [item for item in there if item.video not in log.records]
        done = len(there) - len(todo)
        for item in tqdm(todo, desc=task.code, initial=done, total=len(there), unit="clip", disable=None):
            try:
                log.append(answer(item, run.videos / item.video))
            except ValueError as error:
                if not run.skip_missing:
                    raise
                logger.warning("left out, %s", error)
        write_published(published_file(run.out, task), items, log.records)
        return log.records


def claim(folder: Path, settings: Mapping[str, object]) -> None:
    """Makes a folder for a run's results, or goes on in one that was made with the same settings.

    Raises:
        ValueError: it was made with others, which would mix two runs.
    """
    path = folder / _MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = json.loads(path.read_text()) if path.is_file() else None
    except OSError as error:
        raise ValueError(f"{folder}: cannot be used ({error.strerror})") from error
    except ValueError as error:
        raise ValueError(f"{path}: damaged; remove it or give another --out") from error
    if before is None:
        write_text(path, json.dumps(settings, indent=1) + "\n")
    elif before != json.loads(json.dumps(settings)):
        before = before if isinstance(before, dict) else {}
        changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        raise ValueError(f"{folder}: holds a run with other {', '.join(changed)}; give another --out")


def fingerprint(folder: Path) -> str:
    """Tells checkpoints, or sets of annotations, apart: a hash of each file's name, size, beginning and end."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_EDGE))
            file.seek(max(0, size - _EDGE))
            digest.update(file.read(_EDGE))
    return digest.hexdigest()[:16]
