"""One remembered frame: what the projector reads, at some resolution, with its time.

Shape legend: N tokens (a square of them), F width of a feature.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Frame:
    """Features of a frame before the projector."""

    stamp: int  # ns
    index: int  # its number in the stream, from 0
    features_NF: Tensor  # N is a square number
    direction_F: Tensor = field(init=False, repr=False)  # float32, length 1: the spatial mean, for comparing

    def __post_init__(self) -> None:
        mean_F = self.features_NF.float().mean(0)
        object.__setattr__(self, "direction_F", mean_F / mean_F.norm().clamp_min(1e-12))

    @property
    def side(self) -> int:
        """Tokens along one side."""
        return round(self.features_NF.shape[0] ** 0.5)

    @property
    def num_tokens(self) -> int:
        """Rows that it takes when it is read."""
        return self.features_NF.shape[0]

    @property
    def num_bytes(self) -> int:
        """Of features and direction."""
        return frame_bytes(self.num_tokens, self.features_NF.shape[1], self.features_NF.element_size())

    def shrunk(self, side: int) -> Frame:
        """The same frame with at most `side` tokens a side: means over squares."""
        if self.side <= side:
            return self
        grid_FHW = self.features_NF.T.reshape(-1, self.side, self.side)
        small_FHW = functional.adaptive_avg_pool2d(grid_FHW.float(), side).to(self.features_NF.dtype)
        return Frame(self.stamp, self.index, small_FHW.flatten(1).T.contiguous())


def frame_bytes(num_tokens: int, width: int, element_size: int) -> int:
    """Bytes of one remembered frame: its features, and its direction in float32."""
    return num_tokens * width * element_size + 4 * width


def likeness(frames: list[Frame]) -> Tensor:
    """Cosine similarity of neighbours in this order, float32 [len - 1], on the host: who leaves is decided there."""
    directions = torch.stack([frame.direction_F for frame in frames])
    return (directions[:-1] * directions[1:]).sum(1).cpu()
