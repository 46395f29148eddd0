"""Many clips at once, rendered only at the moments that a model looks at: one frame a second, with a random phase."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vispeak_training.theatre.acts import ABSENT, ACTS, EVENTS, IDLE, REFERENCES
from vispeak_training.theatre.annotation import describe
from vispeak_training.theatre.figure import Look
from vispeak_training.theatre.room import photographs
from vispeak_training.theatre.scene import FINGERTIPS, Scene, Stage
from vispeak_training.theatre.script import DISTRACTORS, fixed_script, make_script
from vispeak_training.theatre.staging import set_scene

HELD_OUT = 1_000_000  # added to the seed of clips that no model may learn from
_VALIDATION = 500_000  # first seed of clips for choosing a threshold
UNSETTLED = -1  # label of a frame between two acts
SPLITS = ("train", "validation", "held_out")
SHRINK = 1.5  # pictures are rendered so much larger, and averaged
_ROBOTS = 0.03  # share of figures in a robot's costume, whatever they do
_AT_ONCE = 16  # clips that a process renders before it hands them over


@dataclass(frozen=True, eq=False)
class SampledClip:
    """One clip as a model sees it."""

    frames: NDArray[np.uint8]  # [n, size, size, 3], one a second
    labels: NDArray[np.int64]  # [n] index into ACTS, or UNSETTLED
    starts: NDArray[np.float64]  # [n] when the act under way at each frame began, s
    times: NDArray[np.float64]  # [n] s
    keypoints: NDArray[np.float32]  # [n, len(KEYPOINTS), 2] pixels of `frames`, right and down
    fingertips: NDArray[np.float32] = field(  # [n, len(FINGERTIPS), 2] likewise
        default_factory=lambda: np.zeros((0, len(FINGERTIPS), 2), np.float32)
    )
    note: dict[str, Any] = field(default_factory=dict)  # what happens and what is said, as `annotation.describe` has it


@dataclass(frozen=True)
class ClipJob:
    """Which clips to render."""

    seeds: tuple[int, ...]
    size: int  # pixels a side
    held_out: bool = False
    subtask: str | None = None  # of SUBTASKS, or "distractors"; drawn for each clip by default
    duration: float | None = None  # s; 8 to 14 by default
    photos: tuple[Path, ...] = ()  # backgrounds
    single: int = 0  # frames of one room that have nothing to do with each other; 0 for clips


def sample_clip(seed: int, size: int, held_out: bool = False) -> SampledClip:
    """Renders one random clip at one frame a second."""
    return _render_job(ClipJob((seed,), size, held_out))[0]


@dataclass(frozen=True)
class Footage:
    """Files of rendered clips to learn from."""

    clips: tuple[Path, ...]  # told whole
    rooms: Path  # single frames

    def read(self) -> tuple[list[SampledClip], list[SampledClip]]:
        """Whole clips, and rooms."""
        return [clip for path in self.clips for clip in read_dataset(path)], read_dataset(self.rooms)


def render_dataset(
    count: int,
    size: int,
    folder: Path,
    split: str = "train",
    processes: int = 2,
    photos: Path | None = None,
    subtask: str | None = None,
    duration: float | None = None,
) -> Path:
    """Renders `count` clips in parallel and writes them to one .npz named after the split.

    Validation clips show figures and rooms of the kinds that training clips have, held-out clips those that they have
    not; no clip is in two splits. What was rendered before an interruption is not rendered again.

    Args:
        count: clips.
        size: pixels a side.
        folder: of the file.
        split: of SPLITS.
        processes: that render.
        photos: folder with photographs for backgrounds, not for held-out clips.
        subtask: of all clips, or "distractors"; then the file is named after it, too.
        duration: of all clips in s; by default drawn for each.
    """
    first = _VALIDATION if split == "validation" else 0
    held_out = split == "held_out"
    backgrounds = () if held_out else photographs(photos)
    jobs = [ClipJob(seeds, size, held_out, subtask, duration, backgrounds) for seeds in _batches(first, first + count)]
    name = split if subtask is None else f"{split}-{subtask}"
    return _render(jobs, folder / f"{name}.npz", processes)


def render_frames(count: int, size: int, folder: Path, processes: int = 2, photos: Path | None = None) -> Path:
    """Renders `count` rooms of eight single frames in parallel into `frames.npz`; returns the file."""
    backgrounds = photographs(photos)
    jobs = [ClipJob(seeds, size, photos=backgrounds, single=8) for seeds in _batches(0, count)]
    return _render(jobs, folder / "frames.npz", processes)


def read_dataset(path: Path) -> list[SampledClip]:
    """The clips of a file that `render_dataset` wrote."""
    return list(_split(path))


def count_clips(path: Path) -> int:
    """How many clips a file has; its frames are not read."""
    with np.load(path, allow_pickle=False) as data:
        return len(data["lengths"])


def _batches(begin: int, end: int) -> list[tuple[int, ...]]:
    return [tuple(range(first, min(end, first + _AT_ONCE))) for first in range(begin, end, _AT_ONCE)]


def _render(jobs: list[ClipJob], path: Path, processes: int) -> Path:
    """Renders all jobs, each into a file of its own, and puts these together at the end."""
    parts = path.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    places = [parts / f"{job.seeds[0]}-{job.seeds[-1]}-{_key(job)}.npz" for job in jobs]
    waiting = [(job, place) for job, place in zip(jobs, places, strict=True) if not place.is_file()]
    with tqdm(total=sum(len(job.seeds) for job in jobs), desc=f"rendering {path.stem}", disable=None) as bar:
        bar.update(sum(len(job.seeds) for job in jobs) - sum(len(job.seeds) for job, _ in waiting))
        if processes < 2:
            for pair in waiting:
                bar.update(_write_job(pair))
        else:
            # GL contexts do not survive a fork
            with multiprocessing.get_context("spawn").Pool(processes) as pool:
                for done in pool.imap_unordered(_write_job, waiting):
                    bar.update(done)
    write_dataset(path, [clip for place in places for clip in _split(place)])
    for place in places:
        place.unlink()
    if not any(parts.iterdir()):
        parts.rmdir()
    return path


def _key(job: ClipJob) -> str:
    """Tells files of different jobs apart."""
    photos = f"p{len(job.photos)}" if job.photos else "p0"
    return f"{job.size}-{int(job.held_out)}-{job.subtask or 'any'}-{job.duration or 0:g}-{photos}-{job.single}"


def _write_job(pair: tuple[ClipJob, Path]) -> int:
    job, place = pair
    write_dataset(place, _render_job(job))
    return len(job.seeds)


def _render_job(job: ClipJob) -> list[SampledClip]:
    side = round(job.size * SHRINK)
    with Stage(side, side) as stage:
        if job.single:
            return [_single_frames(seed, job, stage) for seed in job.seeds]
        return [_clip(seed, job, stage) for seed in job.seeds]


def _clip(seed: int, job: ClipJob, stage: Stage) -> SampledClip:
    rng = np.random.default_rng(seed + HELD_OUT * job.held_out)
    look = Look.random(rng, job.held_out)
    look = look.as_robot() if rng.random() < _ROBOTS else look
    duration = job.duration or round(float(rng.uniform(8, 14)), 2)
    script = make_script(rng, duration, look, job.held_out, job.subtask)
    scene = set_scene(stage, rng, script, look, job.held_out, photos=job.photos)
    blurred = rng.random() < 0.15
    times = np.arange(float(rng.uniform(0, 1)), script.duration, 1.0)
    taken = []
    for time in times:
        moments = (time - 0.04, time) if blurred and time > 0.04 else (time,)
        poses = [lambda _, moment=moment: script.pose(moment) for moment in moments]
        taken.append((scene.film(poses, float(time), SHRINK), scene.keypoints(), scene.fingertips()))
    scene.close()
    acts = [script.part_at(time) for time in times]
    labels = [ACTS.index(p.act) if script.settled(t) else UNSETTLED for p, t in zip(acts, times, strict=True)]
    return SampledClip(
        *_stacked([row[0] for row in taken], labels, np.array([part.start for part in acts]), times),
        np.array([row[1] for row in taken], np.float32),
        np.array([row[2] for row in taken], np.float32),
        describe(script, rng),
    )


def _single_frames(seed: int, job: ClipJob, stage: Stage) -> SampledClip:
    rng = np.random.default_rng(seed + 2 * HELD_OUT)
    look = Look.random(rng, job.held_out)
    chosen = [str(rng.choice(ACTS, p=_FRAME_SHARES)) for _ in range(job.single)]
    if chosen[0] != "robot_dance":  # one room has one figure: a robot does other things, too, but nobody else its dance
        chosen = [act if act != "robot_dance" else "stand" for act in chosen]
    scripts = [fixed_script(rng, [(act, 6.0)], look, job.held_out) for act in chosen]
    dressed = look
    for script in scripts:
        dressed = script.dress(dressed)
    things = tuple(dict.fromkeys(thing for script in scripts for thing in script.things()))
    scene = Scene(stage, rng, dressed, things, "upper", job.held_out, photos=job.photos)
    taken, labels = [], []
    for act, script in zip(chosen, scripts, strict=True):
        anywhere = str(rng.choice(["close", "upper", "full"]))
        scene.move_camera(anywhere if script.subtask == DISTRACTORS else script.framing)
        pose = script.pose(float(rng.uniform(1.0, 3.0)))
        taken.append((scene.picture(pose, float(rng.uniform(0, 6)), SHRINK), scene.keypoints(), scene.fingertips()))
        labels.append(ACTS.index(act))
    scene.close()
    zeros = np.zeros(job.single)
    return SampledClip(
        *_stacked([row[0] for row in taken], labels, zeros, zeros),
        np.array([row[1] for row in taken], np.float32),
        np.array([row[2] for row in taken], np.float32),
    )


def _stacked(
    frames: list[NDArray[np.uint8]], labels: list[int], starts: NDArray[np.float64], times: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    return np.stack(frames), np.array(labels), starts, times


_COLUMNS = ("frames", "labels", "starts", "times", "keypoints", "fingertips")


def write_dataset(path: Path, clips: list[SampledClip]) -> None:
    """Writes clips to a file, whole or not at all."""
    columns: dict[str, Any] = {name: np.concatenate([getattr(clip, name) for clip in clips]) for name in _COLUMNS}
    columns["notes"] = np.array([json.dumps(clip.note) for clip in clips])
    columns["lengths"] = np.array([len(clip.times) for clip in clips])
    half = path.with_suffix(f".{os.getpid()}.half")
    with half.open("wb") as file:
        np.savez(file, **columns)
    half.replace(path)


def _split(path: Path) -> Iterator[SampledClip]:
    with np.load(path, allow_pickle=False) as data:
        columns = [data[name] for name in _COLUMNS]
        ends, notes = np.cumsum(data["lengths"]), data["notes"]
    begin = 0
    for end, note in zip(ends, notes, strict=True):
        frames, labels, starts, times, keypoints, tips = (column[begin:end] for column in columns)
        yield SampledClip(frames, labels, starts, times, keypoints, tips, json.loads(str(note)))
        begin = end


# of ACTS: half of what matters is telling events from the rest
_GROUPS = ((EVENTS, 0.6), (REFERENCES, 0.1), (IDLE, 0.28), ((ABSENT,), 0.02))
_FRAME_SHARES = [share / len(group) for group, share in _GROUPS for _ in group]
assert len(_FRAME_SHARES) == len(ACTS)
