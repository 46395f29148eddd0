"""One clip as a video file with sound, and its annotation in the published format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vispeak_training.theatre.annotation import annotation
from vispeak_training.theatre.dataset import HELD_OUT, SHRINK
from vispeak_training.theatre.figure import Look
from vispeak_training.theatre.scene import Stage
from vispeak_training.theatre.script import DISTRACTORS, Script, fixed_script, make_script
from vispeak_training.theatre.speech import SAMPLE_RATE, speak, speech_error
from vispeak_training.theatre.staging import set_scene

_THUDS = {"fall": 0.8, "slip": 0.6, "hit": 0.4, "drop": 0.8, "chair_pulled": 0.9, "box_on_head": 0.35}  # s after begin


def render_clip(
    path: Path,
    seed: int,
    acts: list[tuple[str, float]] | None = None,
    width: int = 320,
    height: int = 240,
    frames_per_second: int = 15,
    held_out: bool = False,
    subtask: str | None = None,
    plain: bool = False,
    seconds: float | None = None,
    speech: bool = False,
    clean: bool = True,
    photos: Sequence[Path] = (),
    progress: bool = True,
) -> dict[str, Any]:
    """Renders a clip to `path` (.mp4) and its annotation beside it (.json).

    Args:
        path: of the video.
        seed: everything follows from it.
        acts: what happens, each act with its length in s; drawn at random by default.
        width: pixels, even.
        height: pixels, even.
        frames_per_second: of the video.
        held_out: a figure and a room of the kind that no model is trained on.
        subtask: of SUBTASKS, or "distractors"; drawn by default.
        plain: see `make_script`.
        seconds: length of a clip without given acts; 8 to 14 by default.
        speech: questions can be heard; needs espeak-ng.
        clean: no camera noise, no shake, nobody else in the room.
        photos: backgrounds, for about half of the rooms.
        progress: show a bar.

    Returns:
        The annotation.

    Raises:
        ValueError: speech is wanted and espeak-ng is absent.
    """
    error = speech_error() if speech else None
    if error:
        raise ValueError(error)
    rng = np.random.default_rng(seed + HELD_OUT * held_out)
    look = Look.random(rng, held_out)
    duration = seconds or round(float(rng.uniform(8, 14)), 2)
    script = (
        fixed_script(rng, acts, look, held_out) if acts else make_script(rng, duration, look, held_out, subtask, plain)
    )
    if script.subtask == DISTRACTORS:
        script = replace(script, turns=())  # their annotation has no conversation, so nothing may be asked
    script, sound = make_sound(script, rng, speech, held_out)
    stamps = np.arange(round(script.duration * frames_per_second)) / frames_per_second
    with Stage(round(width * SHRINK), round(height * SHRINK)) as stage, av.open(str(path), "w") as container:
        scene = set_scene(stage, rng, script, look, held_out, clean=clean, photos=photos)
        video = container.add_stream("libx264", rate=frames_per_second, options={"crf": "26", "preset": "fast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        heard = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for index, time in enumerate(tqdm(stamps, desc="frames", disable=None if progress else True)):
            picture = scene.picture(script.pose(float(time)), float(time), SHRINK)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, frames_per_second)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        _write_sound(container, heard, sound)
        scene.close()
    note = annotation(path.name, script, rng)
    if any(turn.spoken for turn in script.turns):
        note["use_audio"] = True
    path.with_suffix(".json").write_text(json.dumps([note], indent=2) + "\n")
    return note


def make_sound(
    script: Script, rng: np.random.Generator, speech: bool, held_out: bool
) -> tuple[Script, NDArray[np.float32]]:
    """What can be heard, float32 [n] at 16 kHz, and the script with the exact spans of what is spoken.

    Without speech all questions are typed ones.

    Raises:
        ValueError: speech is wanted and espeak-ng is absent.
    """
    sound, turns = room_sound(script, rng), []
    for turn in script.turns:
        kept = turn
        if turn.spoken and speech:
            words = speak(turn.text, rng, held_out)
            end = min(round(turn.time * SAMPLE_RATE), len(sound))
            begin = max(0, end - len(words))
            sound[begin:end] += words[len(words) - (end - begin) :]
            kept = replace(turn, timespan=(round(begin / SAMPLE_RATE, 2), turn.time))
        elif turn.spoken:
            kept = replace(turn, timespan=(turn.time, turn.time), spoken=False)
        turns.append(kept)
    return replace(script, turns=tuple(turns)), np.clip(sound, -1, 1).astype(np.float32)


def room_sound(script: Script, rng: np.random.Generator) -> NDArray[np.float32]:
    """A quiet room: noise with a soft hum, and a thud where somebody or something falls; float32 [n] at 16 kHz."""
    count = int(script.duration * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    noise = np.convolve(rng.normal(0, 1, count), np.ones(24) / 24, mode="same")
    sound = 0.01 * noise + 0.004 * np.sin(2 * np.pi * 50 * time)
    for part in script.parts:
        if part.act in _THUDS:
            after = time - part.start - _THUDS[part.act]
            sound += (after > 0) * 0.5 * np.exp(-18 * np.maximum(after, 0)) * np.sin(2 * np.pi * 70 * after)
    return np.clip(sound, -1, 1).astype(np.float32)


def _write_sound(container: av.container.OutputContainer, stream: av.AudioStream, samples: NDArray[np.float32]) -> None:
    for first in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, first : first + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, first, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
