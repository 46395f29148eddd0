"""How much arithmetic a micro-batch needs, and what share of a device's peak that is (MFU).

The count (model FLOPs; what gradient checkpointing computes again is not counted): a matrix of P weights costs 2P a
position forward, 2P to pass the gradient on, and 2P more where the weights themselves learn; causal attention costs
2 T^2 D a layer forward (half of the full 4 T^2 D) and twice that backward. The towers run forward only, with full
attention, unless they learn. Norms, activations and embeddings are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_training.losses import IGNORE
from vispeak_training.stages.batch import Batch

# bf16 without sparsity, from the makers' data sheets; the first name that occurs in the device's name counts
_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L20": 119.5e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "A10": 125e12,
}


@dataclass(frozen=True)
class Cost:
    """Weights that a position, an image token or a second of sound meets, and whether their own gradient is needed."""

    language: int  # FLOPs a position, forward and backward
    attention: int  # FLOPs a squared position
    head: int  # FLOPs a position with a target
    image: int  # FLOPs an image
    sound: int  # FLOPs a second

    @classmethod
    def of(cls, model: ViSpeakModel) -> Cost:
        """Counts a model as it stands: adapters in place, parts frozen."""
        config = model.config
        vision, backbone = config.vision, model.model
        patches = vision.grid_size**2 + 1
        tower = 2 * patches * _weights(backbone.vision_tower) + 4 * patches**2 * vision.hidden_size * vision.num_layers
        tower *= 3 if _learns(backbone.vision_tower) else 1
        # all of the encoder's linear layers meet the 23 frames that a second has after the convolutions
        encoder = 2 * 23 * _weights(backbone.audio_encoder) * (3 if _learns(backbone.audio_encoder) else 1)
        projector = _passes(backbone.mm_projector, first=True) * config.tokens_per_image
        gate = 0 if backbone.combination is None else _passes(backbone.combination)
        heads = sum(_passes(head) for head in (model.informative_head, model.event_head) if head is not None)
        width, layers = config.language.hidden_size, config.language.num_layers
        return cls(
            language=_passes(backbone.layers) + gate + heads,
            attention=3 * 2 * width * layers,
            head=_passes(model.lm_head),
            image=tower + projector,
            sound=encoder,
        )

    def batch(self, batch: Batch) -> float:
        """FLOPs of one micro-batch, forward and backward, padding not counted."""
        lengths = batch["lengths"].double()
        targets = float((batch["targets"][:, 1:] != IGNORE).sum())
        media = len(batch["images"]) * self.image + len(batch["fbank"]) * self.sound
        return (
            float(lengths.sum()) * self.language
            + float((lengths**2).sum()) * self.attention
            + (targets * self.head + media)
        )


def peak_flops(device: torch.device) -> float | None:
    """bf16 operations a second of a known GPU, else None."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in _PEAKS.items() if known in name), None)


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim >= 2)


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _passes(module: nn.Module, first: bool = False) -> int:
    """FLOPs a position of all matrices in a module; the gradient need not go on from the `first` of a chain."""
    onward = 0 if first else 2
    matrices = [parameter for parameter in module.parameters() if parameter.ndim == 2]
    return sum(parameter.numel() * (2 + onward + 2 * parameter.requires_grad) for parameter in matrices)
