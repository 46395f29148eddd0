"""The optimiser that every stage of the small checkpoint uses: AdamW, a warm-up, a cosine."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from vispeak_training.tiny_config import TinyConfig


def one_cycle(
    parameters: list[nn.Parameter], lr: float, steps: int, config: TinyConfig
) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """AdamW whose rate rises linearly, then falls to 2 % as a cosine over `steps`."""
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=config.weight_decay, betas=(0.9, 0.98))
    warmup = max(1, round(steps * config.warmup_share))

    def factor(done: int) -> float:
        if done < warmup:
            return (done + 1) / warmup
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / max(1, steps - warmup))))

    return optimiser, LambdaLR(optimiser, factor)


def step(loss: Tensor, parameters: list[nn.Parameter], optimiser: torch.optim.Optimizer, schedule: LRScheduler) -> None:
    """One update, gradients clipped to norm 1."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    schedule.step()
