"""Hyper-parameters of the small checkpoint."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TinyConfig:
    """Hyper-parameters of the small checkpoint; the stages take 3 % of their steps to warm up, as published."""

    image_size: int = 128  # pixels
    patch_size: int = 16  # pixels
    vision_epochs: int = 24  # passes over the frames
    vision_batch: int = 64  # frames
    vision_lr: float = 1e-3  # of the tower's vectors
    vision_matrix_lr: float = 1e-2  # of its matrices (Muon)
    compile_tower: bool = False  # for its training; needs a C++ compiler and takes two thirds of the time
    warmup_share: float = 0.05  # of the tower's steps
    weight_decay: float = 0.02
    align_steps: int = 600  # stage 1a
    template_steps: int = 150  # stage 1b
    streaming_steps: int = 600  # stage 2
    instruct_steps: int = 1700  # stage 3
    lockstep_steps: int = 600  # the second part of stage 3: what is seen while it speaks
    past_steps: int = 600  # its last part: what was seen before
    batch: int = 16  # samples a step
    stage_lr: float = 1.0e-3  # of stages 1 and 2
    instruct_lr: float = 7.0e-4  # of stage 3
    lockstep_lr: float = 4.0e-4  # of its other parts
    matrix_factor: float = 5.0  # how many times that rate the language model's matrices have (Muon); 0: AdamW for all
    projector_lr: float = 5e-6  # in all stages: its weights are small (`seeing.fold_scale`) and know what they do
    seed: int = 0
