"""What comes before the four stages: the vision tower learns what people do and where their joints are.

The published tower (InternViT) comes trained. The small one has to learn to see first.
Shapes: B frames, N tokens an image, D width of the language model.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_training.pictures import changed, normalised
from vispeak_training.schedule import OneCycle
from vispeak_training.theatre.acts import ACTS
from vispeak_training.theatre.dataset import UNSETTLED, SampledClip
from vispeak_training.theatre.scene import FINGERTIPS, KEYPOINT_KINDS
from vispeak_training.tiny_config import TinyConfig

logger = logging.getLogger(__name__)

_PLACE_WEIGHT = 20.0  # nearly all cells are empty, so the mean is small
_TIP_KINDS = tuple(max(KEYPOINT_KINDS) + 1 + index % 5 for index in range(len(FINGERTIPS)))  # left and right look alike
KINDS = (*KEYPOINT_KINDS, *_TIP_KINDS)
assert len(FINGERTIPS) == 10


class Probes(nn.Module):
    """What is read from the projector's rows, and thrown away afterwards.

    The act is read from the mean over an image's tokens, because a mean is what attention forms most easily: an act
    that only a layer with its own weights for every token could read would stay hidden from the language model.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.acts = nn.Linear(width, len(ACTS))
        self.places = nn.Linear(width, 4 * (max(KINDS) + 1))

    def forward(self, tokens_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Act logits [B, acts] and place logits [B, N, 4 * kinds]."""
        return self.acts(self.norm(tokens_BND.mean(1))).float(), self.places(tokens_BND).float()


class Frames:
    """All frames of many clips."""

    def __init__(self, clips: list[SampledClip]) -> None:
        self.pictures = np.concatenate([clip.frames for clip in clips])
        self.labels = torch.from_numpy(np.concatenate([clip.labels for clip in clips]))
        self.joints = np.concatenate([np.concatenate([clip.keypoints, clip.fingertips], 1) for clip in clips])

    def __len__(self) -> int:
        return len(self.labels)


@contextlib.contextmanager
def quick_on_cpu() -> Iterator[None]:
    """bfloat16 where it is safe, and attention in plain steps: several times faster for short sequences on a CPU."""
    # without autocast's cache: it would keep the first step's weights for as long as the context is open
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False), sdpa_kernel(SDPBackend.MATH):
        yield


def train_vision(
    model: ViSpeakModel,
    clips: list[SampledClip],
    held_out: list[SampledClip],
    config: TinyConfig,
    log: Path | None = None,
) -> float:
    """Learns which act a frame shows, and where head, hands, elbows, fingertips, ... are.

    Args:
        model: learns in place.
        clips: to learn from.
        held_out: to measure on.
        config: rates and passes.
        log: takes a line of JSON a pass.

    Returns:
        Held-out accuracy over acts, settled frames only.
    """
    frames = Frames(clips)
    torch.manual_seed(config.seed)
    probes = Probes(model.config.language.hidden_size)
    per_epoch = len(frames) // config.vision_batch
    hidden = (model.model.vision_tower, model.model.mm_projector)
    optimiser = OneCycle(hidden, (probes,), config.vision_epochs * per_epoch, config)
    encode = torch.compile(model.encode_images) if config.compile_tower else model.encode_images
    generator = torch.Generator().manual_seed(config.seed)
    with tqdm(total=config.vision_epochs * per_epoch, desc="vision", disable=None) as bar:
        for epoch in range(config.vision_epochs):
            order = torch.randperm(len(frames), generator=generator)
            losses = []
            for batch in order.split(config.vision_batch)[:per_epoch]:
                act_loss, place_loss = vision_losses(encode, probes, frames, batch, generator)
                optimiser.step(act_loss + _PLACE_WEIGHT * place_loss)
                losses.append((float(act_loss.detach()), float(place_loss.detach())))
                bar.update()
            acts, places = np.mean(losses[-200:], axis=0).tolist()
            logger.info("vision pass %d: acts %.3f, places %.4f", epoch, acts, places)
            if log is not None:
                with log.open("a") as file:
                    file.write(json.dumps({"pass": epoch, "acts": acts, "places": places}) + "\n")
    return _accuracy(model, probes, held_out)


def vision_losses(
    encode: Callable[[Tensor], Tensor], probes: Probes, frames: Frames, batch: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of acts and of places, over frames seen through other cameras."""
    chosen = batch.numpy()
    pictures, joints = changed(frames.pictures[chosen], frames.joints[chosen], generator)
    with quick_on_cpu():
        rows_BND = encode(normalised(pictures))
        acts, places = probes(rows_BND)
    patches = 2 * round(rows_BND.shape[1] ** 0.5)  # a token is a square of 2x2 patches
    maps = torch.from_numpy(place_maps(joints, pictures.shape[1], pictures.shape[1] // patches))
    truth = frames.labels[batch]
    entropy = functional.cross_entropy(acts, truth, ignore_index=UNSETTLED, label_smoothing=0.05)
    return entropy, functional.binary_cross_entropy_with_logits(places, maps)


def inherit_tower(model: ViSpeakModel, base: ViSpeakModel) -> None:
    """Gives a fresh model another one's tower and projector, to go on learning.

    The projector's last layer gets back the scale of a fresh one, which `fold_scale` had taken from it: at its small
    one the first steps would wipe it out.

    Raises:
        ValueError: the base has another architecture.
    """
    if (model.config.vision, model.config.language.hidden_size) != (
        base.config.vision,
        base.config.language.hidden_size,
    ):
        raise ValueError("the tower to go on with has another architecture: give one that this recipe has made")
    last = model.model.mm_projector[-1]
    assert isinstance(last, nn.Linear)
    deviation = last.weight.std()
    model.model.vision_tower.load_state_dict(base.model.vision_tower.state_dict())
    model.model.mm_projector.load_state_dict(base.model.mm_projector.state_dict())
    with torch.no_grad():
        factor = deviation / last.weight.std()
        last.weight.mul_(factor)
        last.bias.mul_(factor)


def fold_scale(model: ViSpeakModel, clips: list[SampledClip], scale: float = 2.0) -> float:
    """Brings the projector's rows to the scale of the text embeddings, by its last layer's weight and bias alone.

    What the tower's training leaves is mostly one large vector that all images share. Beside text rows a hundred times
    smaller the language model's first normalisation would pass on that vector and little else. It is subtracted, and
    the rest is scaled.

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
        rows = torch.cat([model.encode_images(normalised(clip.frames)).flatten(0, 1) for clip in clips])
        mean = rows.mean(0)
        factor = scale * model.model.embed_tokens.weight.std() / (rows - mean).pow(2).mean().sqrt()
        last.weight.mul_(factor)
        last.bias.sub_(mean).mul_(factor)
    return float(factor)


def place_maps(joints: NDArray[np.float32], image_size: int, patch_size: int) -> NDArray[np.float32]:
    """Which quarter of which token shows which kind of joint.

    Args:
        joints: [n, len(KINDS), 2] pixels.
        image_size: of the frames.
        patch_size: of the tower.

    Returns:
        float32 [n, tokens, 4 * kinds], 1 where a joint of that kind is: a token is a square of 2x2 patches, and each
        patch has its own columns. A joint outside the frame is nowhere.
    """
    kinds, side = max(KINDS) + 1, image_size // patch_size
    maps = np.zeros((len(joints), side // 2, side // 2, 2, 2, kinds), np.float32)
    cells = np.floor(joints / patch_size).astype(int)
    for joint, kind in enumerate(KINDS):
        right, down = cells[:, joint, 0], cells[:, joint, 1]
        inside = np.flatnonzero((right >= 0) & (right < side) & (down >= 0) & (down < side))
        down, right = down[inside], right[inside]
        maps[inside, down // 2, right // 2, down % 2, right % 2, kind] = 1.0
    return maps.reshape(len(joints), (side // 2) ** 2, 4 * kinds)


def _accuracy(model: ViSpeakModel, probes: Probes, clips: list[SampledClip]) -> float:
    right = total = 0
    with torch.no_grad():
        for clip in clips:
            known = clip.labels != UNSETTLED
            if known.any():
                acts, _ = probes(model.encode_images(normalised(clip.frames[known])))
                right += int((acts.argmax(-1).numpy() == clip.labels[known]).sum())
                total += int(known.sum())
    return right / max(1, total)
