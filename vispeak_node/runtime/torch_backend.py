"""The two encoders by the model's own layers.

Shape legend: as in `backends`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vispeak_node.model.preprocess import IMAGE_MEAN, IMAGE_STD
from vispeak_node.model.vision import pool
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.transfer import send


class TorchVision:
    """The model's own vision tower and projector."""

    def __init__(self, model: ViSpeakModel) -> None:
        self.name = f"torch ({model.device}, {str(model.dtype).removeprefix('torch.')})"
        self._model = model
        self._mean = torch.tensor(IMAGE_MEAN, device=model.device)
        self._std = torch.tensor(IMAGE_STD, device=model.device)

    def run(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """See `backends.Backend`."""
        pixels_BSSC = send(inputs, self._model.device).float() * (1 / 255)
        pixels_BCSS = ((pixels_BSSC - self._mean) / self._std).permute(0, 3, 1, 2).to(self._model.dtype)
        features_BNF = pool(self._model.model.vision_tower(pixels_BCSS), self._model.config.pooling_size)
        return self._model.model.mm_projector(features_BNF), features_BNF


class TorchAudio:
    """The model's own audio encoder, for sound of any length."""

    def __init__(self, model: ViSpeakModel) -> None:
        self.name = f"torch ({model.device}, {str(model.dtype).removeprefix('torch.')})"
        self._model = model

    def run(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """See `backends.Backend`."""
        return (self._model.encode_sound(send(inputs, self._model.device).to(self._model.dtype)),)
