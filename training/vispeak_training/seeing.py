"""Stage 1 of the small checkpoint: the vision tower and the projector learn what people do and where their joints are.

Shapes: B frames, N tokens an image, D width of the language model.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from vispeak_node.model.preprocess import normalise
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_training.schedule import one_cycle, step
from vispeak_training.theatre.acts import ACTS
from vispeak_training.theatre.dataset import UNSETTLED, SampledClip
from vispeak_training.theatre.scene import KEYPOINT_KINDS
from vispeak_training.tiny_config import TinyConfig

logger = logging.getLogger(__name__)

_PLACE_WEIGHT = 20.0  # nearly all cells are empty, so the mean is small
_SHIFT = 12.0  # pixels
_ZOOM = 0.15  # share of the size
_TURN = 6.0  # degrees


class Probes(nn.Module):
    """What stage 1 reads from the projector's rows, and is thrown away after it.

    The act is read from the mean over an image's tokens, because a mean is what attention forms most easily: an act
    that only a layer with its own weights for every token could read would stay hidden from the language model.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.acts = nn.Linear(width, len(ACTS))
        self.places = nn.Linear(width, 4 * (max(KEYPOINT_KINDS) + 1))

    def forward(self, tokens_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Act logits [B, acts] and place logits [B, N, 4 * kinds]."""
        return self.acts(self.norm(tokens_BND.mean(1))).float(), self.places(tokens_BND).float()


def train_vision(
    model: ViSpeakModel, clips: list[SampledClip], held_out: list[SampledClip], config: TinyConfig
) -> list[float]:
    """Learns which act a frame shows, and where head, hands, elbows, ... are.

    Returns:
        Held-out accuracy over acts after every cycle, settled frames only.
    """
    return [
        _cycle(model, clips, held_out, config, epochs, config.seed + number)
        for number, epochs in enumerate(config.vision_cycles)
    ]


def _cycle(
    model: ViSpeakModel,
    clips: list[SampledClip],
    held_out: list[SampledClip],
    config: TinyConfig,
    epochs: int,
    seed: int,
) -> float:
    frames = np.concatenate([clip.frames for clip in clips])
    labels = torch.from_numpy(np.concatenate([clip.labels for clip in clips]))
    keypoints = np.concatenate([clip.keypoints for clip in clips])
    torch.manual_seed(seed)
    probes = Probes(model.config.language.hidden_size)
    parts = (model.model.vision_tower, model.model.mm_projector, probes)
    learning = [parameter for part in parts for parameter in part.parameters()]
    steps = epochs * (len(frames) // config.vision_batch)
    optimiser, schedule = one_cycle(learning, config.vision_lr, steps, config)
    generator = torch.Generator().manual_seed(seed)
    bar = tqdm(total=steps, desc="vision", disable=None)
    for epoch in range(epochs):
        order = torch.randperm(len(frames), generator=generator)
        losses = []
        for batch in order.split(config.vision_batch)[: len(frames) // config.vision_batch]:
            pixels, joints = jitter(pixels_of(frames[batch.numpy()]), keypoints[batch.numpy()], generator)
            maps = torch.from_numpy(place_maps(joints, config.image_size))
            with torch.autocast("cpu", torch.bfloat16):
                acts, places = probes(model.encode_images(recolour(pixels, generator)))
            act_loss = functional.cross_entropy(acts, labels[batch], ignore_index=UNSETTLED, label_smoothing=0.05)
            place_loss = functional.binary_cross_entropy_with_logits(places, maps)
            step(act_loss + _PLACE_WEIGHT * place_loss, learning, optimiser, schedule)
            losses.append((float(act_loss.detach()), float(place_loss.detach())))
            bar.update()
        logger.info("vision epoch %d: acts %.3f, places %.4f", epoch, *np.mean(losses[-200:], axis=0))
    bar.close()
    return _accuracy(model, probes, held_out)


def fold_scale(model: ViSpeakModel, clips: list[SampledClip], scale: float = 2.0) -> float:
    """Brings the projector's rows to the scale of the text embeddings, by its last layer's weight and bias alone.

    What stage 1 leaves is mostly one large vector that all images share. Beside text rows a hundred times smaller the
    language model's first normalisation would pass on that vector and little else. It is subtracted, and the rest is
    scaled.

    Args:
        model: changed in place.
        clips: to measure the rows on.
        scale: wanted standard deviation of an element, in standard deviations of the text embeddings' elements.

    Returns:
        The factor.
    """
    last = model.model.mm_projector[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        rows = torch.cat([model.encode_images(pixels_of(clip.frames)).flatten(0, 1) for clip in clips])
        mean = rows.mean(0)
        factor = scale * model.model.embed_tokens.weight.std() / (rows - mean).pow(2).mean().sqrt()
        last.weight.mul_(factor)
        last.bias.sub_(mean).mul_(factor)
    return float(factor)


def place_maps(keypoints: np.ndarray, image_size: int) -> np.ndarray:
    """Which quarter of which token shows which kind of joint.

    Args:
        keypoints: [n, len(KEYPOINTS), 2] pixels.
        image_size: of the frames.

    Returns:
        float32 [n, tokens, 4 * kinds], 1 where a joint of that kind is: a token is a square of 2x2 patches, and each
        patch has its own columns. A joint outside the frame is nowhere.
    """
    kinds, side = max(KEYPOINT_KINDS) + 1, image_size // 14
    maps = np.zeros((len(keypoints), side // 2, side // 2, 2, 2, kinds), np.float32)
    cells = np.floor(keypoints / 14).astype(int)
    for joint, kind in enumerate(KEYPOINT_KINDS):
        right, down = cells[:, joint, 0], cells[:, joint, 1]
        inside = np.flatnonzero((right >= 0) & (right < side) & (down >= 0) & (down < side))
        down, right = down[inside], right[inside]
        maps[inside, down // 2, right // 2, down % 2, right % 2, kind] = 1.0
    return maps.reshape(len(keypoints), (side // 2) ** 2, 4 * kinds)


def jitter(pixels: Tensor, keypoints: np.ndarray, generator: torch.Generator) -> tuple[Tensor, np.ndarray]:
    """Mirrors half of the frames, and shifts, zooms and turns each a little, with their keypoints.

    Args:
        pixels: float32 [n, 3, size, size].
        keypoints: [n, len(KEYPOINTS), 2] pixels right and down.
        generator: every frame draws its own change.

    Returns:
        The changed ones; the border's pixels fill what comes in from outside.
    """
    count, size = len(pixels), pixels.shape[-1]

    def draw(reach: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * reach

    mirror = torch.where(draw(1.0) < 0, -1.0, 1.0)
    zoom, angle, shift = 1 + draw(_ZOOM), torch.deg2rad(draw(_TURN)), torch.stack([draw(_SHIFT), draw(_SHIFT)], -1)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).reshape(count, 2, 2)
    # where a new pixel comes from, seen from the middle: mirror . turn . (new - shift) / zoom
    back = torch.diag_embed(torch.stack([mirror, torch.ones(count)], -1)) @ turn / zoom[:, None, None]
    offset = -(back @ (shift / (size / 2))[:, :, None])
    grid = functional.affine_grid(torch.cat([back, offset], -1), list(pixels.shape), align_corners=False)
    changed = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    centred = torch.from_numpy(keypoints).float() - size / 2
    moved = torch.einsum("nij,nkj->nki", torch.linalg.inv(back), centred) + shift[:, None]
    return changed, (moved + size / 2).numpy()


def recolour(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Changes each picture's colours and brightness: the same scene under another camera."""
    gain = 0.7 + 0.6 * torch.rand(len(pixels), 3, 1, 1, generator=generator)
    shift = 0.6 * torch.rand(len(pixels), 1, 1, 1, generator=generator) - 0.3
    return pixels * gain + shift


def pixels_of(frames: np.ndarray) -> Tensor:
    """uint8 [n, size, size, 3] to what the tower takes, float32 [n, 3, size, size]."""
    return torch.stack([normalise(frame) for frame in frames])


def _accuracy(model: ViSpeakModel, probes: Probes, clips: list[SampledClip]) -> float:
    right = total = 0
    with torch.no_grad():
        for clip in clips:
            known = clip.labels != UNSETTLED
            if known.any():
                acts, _ = probes(model.encode_images(pixels_of(clip.frames[known])))
                right += int((acts.argmax(-1).numpy() == clip.labels[known]).sum())
                total += int(known.sum())
    return right / max(1, total)
