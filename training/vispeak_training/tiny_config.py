"""Hyper-parameters of the small checkpoint."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TinyConfig:
    """Hyper-parameters of the small checkpoint."""

    image_size: int = 112  # pixels
    vision_cycles: tuple[int, ...] = (8, 18)  # passes over the frames; the rate starts anew with every cycle
    vision_batch: int = 64  # frames
    vision_lr: float = 1e-3
    picture_steps: int = 1300  # optimiser steps on streams of a single frame
    picture_batch: int = 32  # streams
    stream_steps: int = 800  # optimiser steps after them, on streams of whole clips
    picture_share: float = 0.4  # of those, still on single frames
    stream_batch: int = 12  # streams
    stream_lr: float = 1.5e-3
    warmup_share: float = 0.05  # of all steps
    weight_decay: float = 0.02
    seed: int = 0
