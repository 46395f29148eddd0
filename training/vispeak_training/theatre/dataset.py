"""Many clips at once, rendered only at the moments that a model looks at: one frame a second, with a random phase."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vispeak_node.model.preprocess import resize
from vispeak_training.theatre.acts import ACTS
from vispeak_training.theatre.scene import Scene
from vispeak_training.theatre.script import fixed_script, make_script

HELD_OUT = 1_000_000  # added to the seed of clips that no model may learn from
_VALIDATION = 500_000  # first seed of clips for choosing a threshold
UNSETTLED = -1  # label of a frame between two acts


@dataclass(frozen=True, eq=False)
class SampledClip:
    """One clip as a model sees it."""

    frames: NDArray[np.uint8]  # [n, size, size, 3], one a second
    labels: NDArray[np.int64]  # [n] index into ACTS, or UNSETTLED
    starts: NDArray[np.float64]  # [n] when the act under way at each frame began, s
    times: NDArray[np.float64]  # [n] s
    keypoints: NDArray[np.float32]  # [n, len(KEYPOINTS), 2] pixels of `frames`, right and down


def sample_clip(seed: int, size: int, held_out: bool = False) -> SampledClip:
    """Renders one random clip at one frame a second."""
    rng = np.random.default_rng(seed + HELD_OUT * held_out)
    script = make_script(rng, duration=float(rng.uniform(8, 14)))
    width, height = size * 10 // 7, size * 15 // 14
    scene = Scene(rng, width, height, held_out)
    times = np.arange(float(rng.uniform(0, 1)), script.duration, 1.0)
    frames, labels, starts, keypoints = [], [], [], []
    for time in times:
        frames.append(resize(scene.picture(script.pose(time)), size))
        # resized by the shorter side, then cut at the sides
        keypoints.append((scene.keypoints() - [(width - height) / 2, 0]) * size / height)
        part = script.part_at(time)
        labels.append(ACTS.index(part.act) if script.settled(time) else UNSETTLED)
        starts.append(part.start)
    scene.close()
    return SampledClip(np.stack(frames), np.array(labels), np.array(starts), times, np.array(keypoints, np.float32))


SPLITS = ("train", "validation", "held_out")


def render_dataset(count: int, size: int, folder: Path, split: str = "train", processes: int = 2) -> Path:
    """Renders `count` clips in parallel and writes them to one .npz named after the split.

    Validation clips show figures and rooms of the kinds that training clips have, held-out clips those that they have
    not; no clip is in two splits.
    """
    first = _VALIDATION if split == "validation" else 0
    jobs = [(first + seed, size, split == "held_out") for seed in range(count)]
    return _render(_job, jobs, folder / f"{split}.npz", processes)


def _render(make: Callable[[Any], SampledClip], jobs: list[Any], path: Path, processes: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # GL contexts do not survive a fork
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        clips = list(tqdm(pool.imap(make, jobs, chunksize=8), total=len(jobs), desc="rendering", disable=None))
    np.savez(
        path,
        frames=np.concatenate([clip.frames for clip in clips]),
        labels=np.concatenate([clip.labels for clip in clips]),
        starts=np.concatenate([clip.starts for clip in clips]),
        times=np.concatenate([clip.times for clip in clips]),
        keypoints=np.concatenate([clip.keypoints for clip in clips]),
        lengths=np.array([len(clip.times) for clip in clips]),
    )
    return path


def sample_frames(seed: int, size: int, count: int = 8) -> SampledClip:
    """One figure in one room, doing something else in every frame, seen from somewhere else each time.

    Frames of a clip look alike; these are for learning to see.
    """
    rng = np.random.default_rng(seed + 2 * HELD_OUT)
    width, height = size * 10 // 7, size * 15 // 14
    scene = Scene(rng, width, height)
    frames, labels, keypoints = [], [], []
    for _ in range(count):
        act = str(rng.choice(ACTS, p=_FRAME_SHARES))
        script = fixed_script(rng, [(act, 6.0)])
        scene.move_camera()
        frames.append(resize(scene.picture(script.pose(float(rng.uniform(0.9, 4.0)))), size))
        keypoints.append((scene.keypoints() - [(width - height) / 2, 0]) * size / height)
        labels.append(ACTS.index(act))
    scene.close()
    zeros = np.zeros(count)
    return SampledClip(np.stack(frames), np.array(labels), zeros, zeros, np.array(keypoints, np.float32))


def render_frames(count: int, size: int, folder: Path, processes: int = 2) -> Path:
    """Renders `count` rooms of single frames in parallel into `frames.npz`; returns the file."""
    jobs = [(seed, size) for seed in range(count)]
    return _render(_frames_job, jobs, folder / "frames.npz", processes)


def _frames_job(arguments: tuple[int, int]) -> SampledClip:
    return sample_frames(*arguments)


_FRAME_SHARES = [0.2, 0.12, *[0.06] * 11, 0.02]  # of ACTS: half of what matters is telling events from the rest


def read_dataset(path: Path) -> list[SampledClip]:
    """The clips of a file that `render_dataset` wrote."""
    return list(_split(path))


def _split(path: Path) -> Iterator[SampledClip]:
    with np.load(path, allow_pickle=False) as data:
        columns = [data[name] for name in ("frames", "labels", "starts", "times", "keypoints")]
        ends = np.cumsum(data["lengths"])
    begin = 0
    for end in ends:
        yield SampledClip(*(column[begin:end] for column in columns))
        begin = end


def _job(arguments: tuple[int, int, bool]) -> SampledClip:
    return sample_clip(*arguments)
