"""Host memory to a device, without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor


def send(values: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; what is there already stays as it is.

    Towards a GPU the copy goes through pinned memory and is only queued. torch keeps such memory until the copy is done
    and uses it again, so that nothing is allocated once a stream is under way.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=values.device.type == "cpu")


def fill(target: Tensor, values: Tensor) -> None:
    """Host values into a tensor that exists, likewise only queued."""
    if target.device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    target.copy_(values, non_blocking=True)
