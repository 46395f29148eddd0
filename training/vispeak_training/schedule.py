"""The optimiser of the small tower: Muon for its matrices, AdamW for the rest, a warm-up, a cosine.

From scratch the tower tells twice as many frames right after the same minute as with AdamW alone (docs/training.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from vispeak_training.stages.muon import Together, muon
from vispeak_training.tiny_config import TinyConfig

_BETAS = (0.9, 0.98)
_LEAST = 0.02  # share of the rate that is left at the end


class OneCycle:
    """Trains parameters over a set number of steps; the rates rise linearly, then fall as a cosine.

    Args:
        hidden: modules whose matrices Muon trains, where this torch has it.
        others: modules that AdamW trains, as it does the rest of the hidden ones.
        steps: of the whole training.
        config: rates, weight decay and warm-up.
    """

    def __init__(self, hidden: Iterable[nn.Module], others: Iterable[nn.Module], steps: int, config: TinyConfig):
        inner = [parameter for module in hidden for parameter in module.parameters()]
        outer = [parameter for module in others for parameter in module.parameters()]
        self._parameters = inner + outer
        matrices, decay = [parameter for parameter in inner if parameter.ndim == 2], config.weight_decay
        inside = muon(matrices, config.vision_matrix_lr, decay)
        chosen = {id(parameter) for parameter in matrices} if inside else set()
        rest = [parameter for parameter in self._parameters if id(parameter) not in chosen]
        outside: torch.optim.Optimizer = torch.optim.AdamW(rest, lr=config.vision_lr, betas=_BETAS, weight_decay=decay)
        self._optimiser = Together([outside, inside]) if inside else outside
        self._steps, self._warmup = steps, max(1, round(steps * config.warmup_share))
        self._schedule = LambdaLR(self._optimiser, self._factor)

    def step(self, loss: Tensor) -> None:
        """One update, gradients clipped to norm 1."""
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimiser.step()
        self._schedule.step()

    def _factor(self, done: int) -> float:
        if done < self._warmup:
            return (done + 1) / self._warmup
        share = min(1.0, (done - self._warmup) / max(1, self._steps - self._warmup))
        return _LEAST + (1 - _LEAST) * 0.5 * (1 + math.cos(math.pi * share))
