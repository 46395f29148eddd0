"""What tests of several parts share: a short clip and a small checkpoint, both made on the spot."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.golden.models import FOLDER, random_model
from vispeak_node.model.checkpoint import save_checkpoint

# small tensors: more threads only wait for each other, and much longer so on a busy machine
torch.set_num_threads(1)

CLIP_SECONDS = 4
CLIP_RATE = 10  # frames/s


def write_clip(path: Path, seconds: int = CLIP_SECONDS, sound: bool = True) -> Path:
    """A square that wanders over grey, with a quiet tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=CLIP_RATE)
        video.width, video.height, video.pix_fmt = 96, 72, "yuv420p"
        tone = container.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for index in range(seconds * CLIP_RATE):
            image = np.full((72, 96, 3), 120, np.uint8)
            image[20:40, index : index + 20] = (220, 60, 40)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        if tone is not None:
            for second in range(seconds):
                times = (np.arange(16_000) + second * 16_000) / 16_000
                samples = (0.1 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 16_000, second * 16_000, Fraction(1, 16_000)
                container.mux(tone.encode(frame))
            container.mux(tone.encode())
        container.mux(video.encode())
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of picture and sound."""
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights."""
    folder = tmp_path_factory.mktemp("models") / "random"
    save_checkpoint(random_model(), folder)
    shutil.copy(FOLDER / "tokenizer.json", folder)
    return folder
