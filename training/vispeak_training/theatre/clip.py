"""One clip as a video file with sound, and its annotation in the published format."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vispeak_training.phrases import REPLIES
from vispeak_training.theatre.dataset import HELD_OUT
from vispeak_training.theatre.scene import Scene
from vispeak_training.theatre.script import BLEND, Script, fixed_script, make_script

SAMPLE_RATE = 16_000  # Hz


def render_clip(
    path: Path,
    seed: int,
    acts: list[tuple[str, float]] | None = None,
    width: int = 320,
    height: int = 240,
    frames_per_second: int = 15,
    held_out: bool = False,
) -> dict[str, Any]:
    """Renders a clip to `path` (.mp4) and its annotation beside it (.json).

    Args:
        path: of the video.
        seed: everything follows from it.
        acts: what happens, each act with its length in s; drawn at random by default.
        width: pixels.
        height: pixels.
        frames_per_second: of the video.
        held_out: a figure and a room of the kind that no model is trained on.

    Returns:
        The annotation.
    """
    rng = np.random.default_rng(seed + HELD_OUT * held_out)
    script = fixed_script(rng, acts) if acts else make_script(rng, float(rng.uniform(8, 14)))
    scene = Scene(rng, width, height, held_out, clean=True)
    times = np.arange(round(script.duration * frames_per_second)) / frames_per_second
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=frames_per_second, options={"crf": "26", "preset": "slow"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for index, time in enumerate(tqdm(times, desc="frames", disable=None)):
            frame = av.VideoFrame.from_ndarray(scene.picture(script.pose(float(time))), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, frames_per_second)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        _write_sound(container, sound, room_sound(script, rng))
    scene.close()
    note = annotation(path.name, script, rng)
    path.with_suffix(".json").write_text(json.dumps([note], indent=2) + "\n")
    return note


def annotation(video: str, script: Script, rng: np.random.Generator) -> dict[str, Any]:
    """The script's events as a proactive sample.

    `timespan` is when the event can be seen, `time` lies in its second half.
    """
    turns = []
    for part in script.events():
        begin, end = part.start + (0.0 if part.act == "fall" else BLEND), part.end
        time = round((begin + end) / 2 + 0.1, 2)
        text = str(rng.choice(REPLIES[part.act]))
        turns.append({"from": "gpt", "value": text, "time": time, "timespan": [round(begin, 2), round(end, 2)]})
    return {"video": video, "video_len": round(script.duration, 2), "proactive": True, "conversations": turns}


def room_sound(script: Script, rng: np.random.Generator) -> NDArray[np.float32]:
    """A quiet room: noise with a soft hum, and a thud where somebody falls; float32 [n] at 16 kHz."""
    count = int(script.duration * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    noise = np.convolve(rng.normal(0, 1, count), np.ones(24) / 24, mode="same")
    sound = 0.01 * noise + 0.004 * np.sin(2 * np.pi * 50 * time)
    for part in script.parts:
        if part.act == "fall":
            after = np.maximum(time - part.start - 0.7, 0)
            sound += (time > part.start + 0.7) * 0.5 * np.exp(-18 * after) * np.sin(2 * np.pi * 70 * after)
    return np.clip(sound, -1, 1).astype(np.float32)


def _write_sound(container: av.container.OutputContainer, stream: av.AudioStream, samples: NDArray[np.float32]) -> None:
    for first in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, first : first + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, first, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
