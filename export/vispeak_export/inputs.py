"""What exported encoders are tried on: noise, and the frames and seconds of a real clip or of drawn pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from vispeak_node.model.config import ModelConfig
from vispeak_node.model.fbank import SAMPLE_RATE, fbank
from vispeak_node.model.preprocess import resize
from vispeak_node.stream.events import Event, ImageEvent, SoundEvent
from vispeak_node.stream.files import probe, read_file
from vispeak_node.stream.segmenter import Segmenter, SegmenterConfig

Item = TypeVar("Item")

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})


def clip_events(clip: Path) -> list[Event]:
    """A clip as a session reads it.

    Raises:
        ValueError: it cannot be watched.
    """
    info = probe(clip)
    segmenter = Segmenter(SegmenterConfig(has_video=info.has_video, has_sound=info.has_sound))
    events = [event for item in read_file(clip) for event in segmenter.push(item)]
    return [*events, *segmenter.flush()]


def pictures(source: Path, most: int) -> list[NDArray[np.uint8]]:
    """Pictures of a folder, in the order of their names, or a clip's frames, one a second.

    Returns:
        At most so many, evenly taken from all; RGB uint8 [height, width, 3].

    Raises:
        ValueError: there is none, or one cannot be read.
    """
    if not source.is_dir():
        return _spread([event.image for event in clip_events(source) if isinstance(event, ImageEvent)], most)
    files = sorted(path for path in source.iterdir() if path.suffix.lower() in PICTURES)
    if not files:
        raise ValueError(f"{source}: no pictures in it ({', '.join(sorted(PICTURES))})")
    found = []
    for file in _spread(files, most):
        try:
            with Image.open(file) as picture:
                found.append(np.asarray(picture.convert("RGB")))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{file}: not a picture that can be read: {error}") from error
    return found


def frames(config: ModelConfig, count: int, source: Path | None, seed: int = 0) -> Tensor:
    """Frames of the tower's size, half noise and half real.

    Args:
        config: gives the size and how pictures are cut.
        count: how many.
        source: clip or folder of pictures; drawn ones take their place where it has too few.
        seed: of noise and drawn pictures.

    Returns:
        uint8 [count, S, S, 3].
    """
    side, mode = config.vision.image_size, config.image_aspect_ratio
    generator = np.random.default_rng(seed)
    real = pictures(source, count - count // 2) if source else []
    drawn = [_drawing(generator, side) for _ in range(count - count // 2 - len(real))]
    noise = [generator.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count // 2)]
    return torch.from_numpy(np.stack([resize(image, side, mode) for image in (*real, *drawn, *noise)]))


def seconds_of_sound(config: ModelConfig, count: int, clip: Path | None) -> Tensor:
    """Mel features of one second each: a clip's where it has sound, tones, and noise.

    Returns:
        float32 [count, 98, mel bins].
    """
    generator = np.random.default_rng(0)
    real = [event.samples for event in clip_events(clip) if isinstance(event, SoundEvent)] if clip else []
    real = real[: count - count // 2]
    tones = [_tone(generator) for _ in range(count - count // 2 - len(real))]
    noise = [generator.normal(0, 0.1, SAMPLE_RATE).astype(np.float32) for _ in range(count // 2)]
    return torch.from_numpy(np.stack([fbank(samples, config.audio) for samples in (*real, *tones, *noise)]))


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many, evenly taken."""
    step = max(1, len(items) / most)
    return [items[int(index * step)] for index in range(min(most, len(items)))]


def _drawing(generator: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """A picture of flat shapes, as far from noise as pictures are."""
    picture = Image.new("RGB", (side, side), _colour(generator))
    draw = ImageDraw.Draw(picture)
    for _ in range(6):
        left, top = (int(value) for value in generator.integers(0, side, 2))
        width, height = (int(value) for value in generator.integers(side // 16, side // 2, 2))
        shape = draw.ellipse if generator.random() < 0.5 else draw.rectangle
        shape((left, top, left + width, top + height), fill=_colour(generator))
    return np.asarray(picture)


def _colour(generator: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in generator.integers(0, 256, 3))
    return red, green, blue


def _tone(generator: np.random.Generator) -> NDArray[np.float32]:
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    wave = generator.uniform(0.02, 0.5) * np.sin(2 * np.pi * generator.uniform(80, 4000) * times)
    return (wave + generator.normal(0, 1e-3, SAMPLE_RATE)).astype(np.float32)
