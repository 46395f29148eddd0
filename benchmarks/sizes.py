"""Models for benchmarks: random ones of the released size or, for a CPU, smaller; and the shipped checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.config import AudioConfig, LanguageConfig, ModelConfig, VisionConfig
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.stream.events import ImageEvent, SoundEvent, nanoseconds

TINY = Path(__file__).parent.parent / "models/vispeak-tiny"  # its tokenizer serves all sizes: any ids do
SIZES = {
    "full": ModelConfig(),
    "small": ModelConfig(
        VisionConfig(hidden_size=64, num_layers=2, num_heads=4, intermediate_size=256),
        AudioConfig(hidden_size=64, num_layers=2, num_heads=4, intermediate_size=128),
        LanguageConfig(2048, 256, 1024, 4, 4, 2, max_positions=2048),
    ),
}
SILENT = 1e6  # a threshold that no sum of scores exceeds


def add_size(parser: argparse.ArgumentParser) -> None:
    """The options that say what is measured and where."""
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument(
        "--size", choices=(*SIZES, "tiny"),
        help="of the random model (default: full on CUDA, else small); tiny is the shipped checkpoint",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="default: bfloat16 for full")


def random_model(arguments: argparse.Namespace) -> ViSpeakModel:
    """The model that the options ask for; it fills in those that were left open."""
    on_gpu = torch.device(arguments.device).type == "cuda"
    arguments.size = arguments.size or ("full" if on_gpu else "small")
    arguments.dtype = arguments.dtype or ("bfloat16" if arguments.size == "full" else "float32")
    dtype = getattr(torch, arguments.dtype)
    if arguments.size == "tiny":
        return load_model(TINY, arguments.device, dtype)
    return build(SIZES[arguments.size], arguments.device, dtype)


def build(config: ModelConfig, device: str, dtype: torch.dtype) -> ViSpeakModel:
    """Random weights, made where they will stay and in their type: no second copy anywhere."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return ViSpeakModel(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def vocabulary() -> Vocabulary:
    """Of the shipped small checkpoint."""
    return Vocabulary.from_folder(TINY)


def describe(model: ViSpeakModel, arguments: argparse.Namespace) -> str:
    """A line on what is measured."""
    config = model.config
    layers = sum(weight.numel() for weight in model.model.layers.parameters())
    what = "The shipped checkpoint" if arguments.size == "tiny" else "Random weights"
    return (
        f"{what}, {arguments.dtype}: {config.language.num_layers} layers x {config.language.hidden_size} "
        f"({layers / 1e6:.0f} M), vision {config.vision.num_layers} x {config.vision.hidden_size} at "
        f"{config.vision.image_size} px; {config.tokens_per_image + 1} + {config.tokens_per_second + 1} positions a "
        f"second; on {arguments.device}."
    )


class Seconds:
    """An endless stream of a frame and a second of sound, of noise."""

    def __init__(self, size: tuple[int, int] = (480, 640), distinct: int = 8) -> None:
        dice = np.random.default_rng(0)
        self._frames = [dice.integers(0, 255, (*size, 3), dtype=np.uint8) for _ in range(distinct)]
        self._sounds = [dice.normal(0, 0.1, 16_000).astype(np.float32) for _ in range(distinct)]
        self._second = -1

    def next(self) -> tuple[ImageEvent, SoundEvent]:
        """The next second's two events."""
        self._second += 1
        stamp, index = nanoseconds(self._second), self._second % len(self._frames)
        return ImageEvent(stamp, self._frames[index], stamp), SoundEvent(stamp + 1, self._sounds[index])
