"""One micro-batch to its losses: the module that the Trainer wraps. It holds the model and adds no weight to it.

Shape legend: B samples, T positions, D hidden, N images, S pixels, K tokens of an image, F width before the projector,
P positions with a target.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vispeak_node.model.language import rotary_angles
from vispeak_node.model.preprocess import IMAGE_MEAN, IMAGE_STD
from vispeak_node.model.vision import pool
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_training.losses import IGNORE, focal_loss
from vispeak_training.stages.batch import Batch

TERMS = ("loss", "text", "focal", "events")
_ROWS_AT_ONCE = 2048  # rows of logits; 6200 rows of the whole vocabulary would be 3.8 GB in float32, twice
_IMAGES_AT_ONCE = 128


class Learner(nn.Module):
    """The model with its training loss."""

    def __init__(
        self,
        core: ViSpeakModel,
        focal_weight: float = 1.0,
        event_weight: float = 0.5,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.core = core
        self._focal_weight, self._event_weight = focal_weight, event_weight
        self._checkpointing = gradient_checkpointing

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Four scalars: `loss`, and its terms `text`, `focal` and `events` before their weights.

        A term whose head the model lacks, or for which the batch has no label, is zero. Every part is used in every
        batch, so that all devices take part in every reduction of gradients.
        """
        core = self.core
        pixels_NCHW = normalised(batch["images"]).to(core.model.vision_tower.vision_tower.embeddings.class_embedding)
        images_ND = self._images(pixels_NCHW, batch["image_levels"])
        sounds_ND = core.encode_sound(batch["fbank"]).flatten(0, 1)
        user_BTD = core.embed(batch["user"])
        user_BTD = _placed(user_BTD, batch["image_places"], images_ND, batch["image_rows"])
        user_BTD = _placed(user_BTD, batch["sound_places"], sounds_ND, batch["sound_rows"])
        hidden_BTD = self._hidden(core.combine(core.embed(batch["agent"]), user_BTD))
        nothing = hidden_BTD.new_zeros((), dtype=torch.float32)
        text = self._text(hidden_BTD, batch["targets"])
        focal = nothing
        if core.informative_head is not None:
            focal = focal_loss(core.informative(hidden_BTD), batch["informative"])
        events = nothing
        if core.event_head is not None:
            events = _class_loss(core.events(hidden_BTD), batch["events"])
        loss = text + self._focal_weight * focal + self._event_weight * events
        return {"loss": loss, "text": text.detach(), "focal": focal.detach(), "events": events.detach()}

    def _images(self, pixels_NCHW: Tensor, levels_N: Tensor) -> Tensor:
        """Rows of all images, end to end; those of a higher level in a lower resolution, as they are remembered."""
        core = self.core
        features_NKF = torch.cat(
            [
                pool(core.model.vision_tower(part), core.config.pooling_size)
                for part in pixels_NCHW.split(_IMAGES_AT_ONCE)
            ]
        )
        if not bool(levels_N.any()):
            return core.model.mm_projector(features_NKF).flatten(0, 1)
        pieces: dict[int, Tensor] = {}
        for level in levels_N.unique().tolist():
            chosen = (levels_N == level).nonzero()[:, 0]
            rows_NKD = core.model.mm_projector(shrunk(features_NKF[chosen], level))
            pieces.update(zip(chosen.tolist(), rows_NKD, strict=True))
        return torch.cat([pieces[index] for index in range(len(pieces))])

    def _hidden(self, embeds_BTD: Tensor) -> Tensor:
        core = self.core
        if not (self._checkpointing and torch.is_grad_enabled()):
            return core.forward_embeds(embeds_BTD)
        if not embeds_BTD.requires_grad:
            embeds_BTD.requires_grad_()  # else a layer whose inputs need no gradient would keep nothing to start from
        angles = rotary_angles(core.config.language, 0, embeds_BTD.shape[1], embeds_BTD)
        for index, layer in enumerate(core.model.layers):
            embeds_BTD = checkpoint(layer, embeds_BTD, angles, None, index, use_reentrant=False)
        return core.model.norm(embeds_BTD)

    def _text(self, hidden_BTD: Tensor, targets_BT: Tensor) -> Tensor:
        """Cross-entropy of position p's logits against position p+1's target; only these rows meet the vocabulary."""
        wanted_BT = targets_BT[:, 1:] != IGNORE
        rows_PD, truth_P = hidden_BTD[:, :-1][wanted_BT], targets_BT[:, 1:][wanted_BT]
        if not len(truth_P):
            return self.core.lm_head(hidden_BTD[:, :1]).float().sum() * 0.0
        total = rows_PD.new_zeros((), dtype=torch.float32)
        for rows, truth in zip(rows_PD.split(_ROWS_AT_ONCE), truth_P.split(_ROWS_AT_ONCE), strict=True):
            if len(truth_P) > _ROWS_AT_ONCE:
                total = total + checkpoint(self._entropy, rows, truth, use_reentrant=False)
            else:
                total = total + self._entropy(rows, truth)
        return total / len(truth_P)

    def _entropy(self, rows_PD: Tensor, truth_P: Tensor) -> Tensor:
        return functional.cross_entropy(self.core.lm_head(rows_PD).float(), truth_P, reduction="sum")


def shrunk(features_NKF: Tensor, level: int) -> Tensor:
    """Features before the projector with the side of their square halved `level` times: means over squares."""
    if not level:
        return features_NKF
    N, K, F = features_NKF.shape
    side = round(K**0.5)
    grid_NFHW = features_NKF.transpose(1, 2).reshape(N, F, side, side).float()
    small_NFHW = functional.adaptive_avg_pool2d(grid_NFHW, max(1, side >> level))
    return small_NFHW.flatten(2).transpose(1, 2).to(features_NKF.dtype)


def normalised(images: Tensor) -> Tensor:
    """uint8 [N, S, S, 3] to float32 [N, 3, S, S] with ImageNet's mean and deviation, wherever they lie."""
    scaled = images.float() / 255
    mean, deviation = (torch.tensor(values, device=images.device) for values in (IMAGE_MEAN, IMAGE_STD))
    return ((scaled - mean) / deviation).permute(0, 3, 1, 2).contiguous()


def _placed(stream_BTD: Tensor, places_BT: Tensor, embeds_ND: Tensor, rows_P: Tensor) -> Tensor:
    """The stream with rows of `embeds_ND` at the places; embeds of no place still count, with a gradient of zero."""
    return stream_BTD.masked_scatter(places_BT[..., None], embeds_ND[rows_P].to(stream_BTD.dtype))


def _class_loss(logits_BTK: Tensor, labels_BT: Tensor) -> Tensor:
    known_BT = labels_BT != IGNORE
    if not bool(known_BT.any()):
        return logits_BTK.float().sum() * 0.0
    return functional.cross_entropy(logits_BTK[known_BT].float(), labels_BT[known_BT])
