"""Muon for matrices and AdamW for the rest, as one optimiser: for models that start from nothing.

Muon (Jordan 2024, in torch since 2.9) makes every update of a matrix an orthogonal one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

logger = logging.getLogger(__name__)


class Together(Optimizer):
    """Several optimisers that step at once; their groups are its groups.

    Args:
        parts: each over parameters of its own.
    """

    def __init__(self, parts: Iterable[Optimizer]) -> None:
        self._parts = list(parts)
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The parts' states."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        # a part that loads makes new groups
        self.param_groups = [group for part in self._parts for group in part.param_groups]


def split_matrices(
    named: Iterable[tuple[str, nn.Parameter]], groups: list[dict[str, Any]]
) -> tuple[list[nn.Parameter], list[dict[str, Any]]]:
    """The matrices of the decoder's layers, and the groups without them."""
    matrices = [tensor for name, tensor in named if tensor.requires_grad and tensor.ndim == 2 and _in_decoder(name)]
    taken = {id(tensor) for tensor in matrices}
    rest = [group | {"params": [tensor for tensor in group["params"] if id(tensor) not in taken]} for group in groups]
    return matrices, [group for group in rest if group["params"]]


def muon(matrices: list[nn.Parameter], rate: float, weight_decay: float) -> Optimizer | None:
    """Muon over matrices, its updates of the size that AdamW's would have; None where there is none."""
    if not matrices:
        return None
    if not hasattr(torch.optim, "Muon"):
        logger.warning("torch %s has no Muon (2.9 has): AdamW trains everything, which takes longer", torch.__version__)
        return None
    return torch.optim.Muon(matrices, rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")


def _in_decoder(name: str) -> bool:
    return name.removeprefix("module.").removeprefix("core.").startswith("model.layers.")
