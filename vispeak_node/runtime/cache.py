"""Keys and values of every position so far, in buffers that double when they are full.

Sessions use `ring`, which is bounded; this one is what it is compared with.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FIRST_ROOM = 512  # positions


class GrowingCache:
    """A plain cache for one stream; implements `model.language.KeyValueCache`."""

    def __init__(self, num_layers: int) -> None:
        self._keys: list[Tensor | None] = [None] * num_layers
        self._values: list[Tensor | None] = [None] * num_layers
        self._used = [0] * num_layers

    def __len__(self) -> int:
        """Positions stored."""
        return self._used[-1]

    def append(self, layer: int, keys_BKTE: Tensor, values_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """See `KeyValueCache.append`; the returned tensors are views that the next call may overwrite beyond."""
        start, end = self._used[layer], self._used[layer] + keys_BKTE.shape[2]
        keys = self._keys[layer] = _with_room(self._keys[layer], keys_BKTE, start, end)
        values = self._values[layer] = _with_room(self._values[layer], values_BKTE, start, end)
        keys[:, :, start:end] = keys_BKTE
        values[:, :, start:end] = values_BKTE
        self._used[layer] = end
        return keys[:, :, :end], values[:, :, :end]

    def truncate(self, length: int) -> None:
        """Forgets the positions from `length` on."""
        assert 0 <= length <= len(self)
        self._used = [length] * len(self._used)

    def clear(self) -> None:
        """Forgets every position and keeps the buffers."""
        self._used = [0] * len(self._used)


def _with_room(buffer: Tensor | None, new: Tensor, used: int, needed: int) -> Tensor:
    if buffer is not None and buffer.shape[2] >= needed:
        return buffer
    room = max(_FIRST_ROOM, 2 * needed if buffer is not None else needed)
    batch, heads, _, width = new.shape
    grown = torch.empty(batch, heads, room, width, dtype=new.dtype, device=new.device)
    if buffer is not None:
        grown[:, :, :used] = buffer[:, :, :used]
    return grown
