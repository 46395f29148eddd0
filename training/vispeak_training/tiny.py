"""The recipe of the small checkpoint: see first, then learn when to speak and what to say.

1. The vision tower and the projector learn to tell the theatre's acts apart, frame by frame, under a classifier that is
   thrown away.
2. With the tower frozen, the gate, the language model and both heads learn from streams.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from vispeak_node.model.config import AudioConfig, LanguageConfig, ModelConfig, VisionConfig
from vispeak_node.model.fbank import fbank
from vispeak_node.model.preprocess import normalise
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_training.losses import IGNORE, focal_loss, next_token_loss
from vispeak_training.streams import Stream, StreamBuilder
from vispeak_training.theatre.acts import ACTS
from vispeak_training.theatre.dataset import UNSETTLED, SampledClip
from vispeak_training.theatre.scene import KEYPOINT_KINDS

logger = logging.getLogger(__name__)

_FOCAL_WEIGHT = 10.0  # the focal loss is a small number next to the cross-entropy
_PLACE_WEIGHT = 20.0  # nearly all cells are empty, so the mean is small


@dataclass(frozen=True)
class TinyConfig:
    """Hyper-parameters of the small checkpoint."""

    image_size: int = 112  # pixels
    vision_epochs: int = 6  # passes over the frames
    vision_batch: int = 64  # frames
    vision_lr: float = 1e-3
    stream_steps: int = 1000  # optimiser steps
    stream_batch: int = 12  # streams
    stream_lr: float = 1.5e-3
    warmup_share: float = 0.05  # of all steps
    weight_decay: float = 0.02
    seed: int = 0


def tiny_model_config(vocab_size: int, image_size: int = 112) -> ModelConfig:
    """The architecture of the small checkpoint."""
    return ModelConfig(
        vision=VisionConfig(
            hidden_size=128, num_layers=4, num_heads=4, intermediate_size=256, image_size=image_size, patch_size=14
        ),
        audio=AudioConfig(hidden_size=64, num_layers=2, num_heads=4, intermediate_size=128),
        language=LanguageConfig(
            vocab_size=vocab_size,
            hidden_size=192,
            intermediate_size=512,
            num_layers=4,
            num_heads=6,
            num_kv_heads=2,
            rope_theta=1e4,
            max_positions=2048,
        ),
        pooling_size=1,
    )


def build_model(vocab_size: int, config: TinyConfig) -> ViSpeakModel:
    """A fresh model; its audio normalisation is that of speech-like features."""
    torch.manual_seed(config.seed)
    model = ViSpeakModel(tiny_model_config(vocab_size, config.image_size))
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.04)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
    cmvn = model.model.audio_encoder.encoder.global_cmvn
    cmvn.mean.fill_(12.0)
    cmvn.istd.fill_(0.3)
    return model


def train_vision(
    model: ViSpeakModel, clips: list[SampledClip], held_out: list[SampledClip], config: TinyConfig
) -> float:
    """Stage 1: which act, and where head, hands, elbows, ... are.

    The places teach far more per frame than the act alone, so a few passes over the frames are enough. Both tasks
    read what the projector gives the language model, through layers that are thrown away.

    Returns:
        Held-out accuracy over acts, settled frames only.
    """
    frames = np.concatenate([clip.frames for clip in clips])
    labels = torch.from_numpy(np.concatenate([clip.labels for clip in clips]))
    keypoints = np.concatenate([clip.keypoints for clip in clips])
    width, tokens = model.config.language.hidden_size, model.config.tokens_per_image
    act_layer = nn.Sequential(nn.LayerNorm(tokens * width), nn.Linear(tokens * width, len(ACTS)))
    place_layer = nn.Linear(width, 4 * (max(KEYPOINT_KINDS) + 1))
    throw_away = [*act_layer.parameters(), *place_layer.parameters()]
    seeing = [*model.model.vision_tower.parameters(), *model.model.mm_projector.parameters(), *throw_away]
    steps = config.vision_epochs * (len(frames) // config.vision_batch)
    optimiser, schedule = _optimiser(seeing, config.vision_lr, steps, config)
    generator = torch.Generator().manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    bar = tqdm(total=steps, desc="vision", disable=None)
    for epoch in range(config.vision_epochs):
        order = torch.randperm(len(frames), generator=generator)
        losses = []
        for batch in order.split(config.vision_batch)[: len(frames) // config.vision_batch]:
            shown, places_of = jitter(frames[batch.numpy()], keypoints[batch.numpy()], rng)
            pixels, maps = _recolour(_pixels(shown), rng), torch.from_numpy(place_maps(places_of, config.image_size))
            with torch.autocast("cpu", torch.bfloat16):
                tokens_BND = model.encode_images(pixels)
                acts, places = act_layer(tokens_BND.flatten(1)).float(), place_layer(tokens_BND).float()
            act_loss = functional.cross_entropy(acts, labels[batch], ignore_index=UNSETTLED, label_smoothing=0.05)
            place_loss = functional.binary_cross_entropy_with_logits(places, maps)
            _step(act_loss + _PLACE_WEIGHT * place_loss, seeing, optimiser, schedule)
            losses.append((float(act_loss.detach()), float(place_loss.detach())))
            bar.update()
        logger.info("vision epoch %d: acts %.3f, places %.4f", epoch, *np.mean(losses[-100:], axis=0))
    bar.close()
    return _accuracy(model, act_layer, held_out)


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


def jitter(frames: np.ndarray, keypoints: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mirrors half of the frames and shifts each by up to 12 pixels, with their keypoints."""
    frames, keypoints, size = frames.copy(), keypoints.copy(), frames.shape[1]
    for index in range(len(frames)):
        if rng.random() < 0.5:
            frames[index] = frames[index, :, ::-1]
            keypoints[index, :, 0] = size - keypoints[index, :, 0]
        down, right = (int(v) for v in rng.integers(-12, 13, 2))
        rows = np.clip(np.arange(size) - down, 0, size - 1)
        columns = np.clip(np.arange(size) - right, 0, size - 1)
        frames[index] = frames[index][rows][:, columns]
        keypoints[index] += (right, down)
    return frames, keypoints


def train_streams(
    model: ViSpeakModel, clips: list[SampledClip], vocabulary: Vocabulary, config: TinyConfig
) -> list[tuple[float, float]]:
    """Stage 2.

    Returns:
        Cross-entropy and focal loss, averaged over every 50 steps.
    """
    # the tower knows its own training frames too well: the language model learns from changed ones as well
    copies = [encode_clips(model, clips, None), encode_clips(model, clips, np.random.default_rng(config.seed + 2))]
    sounds = _sound_bank(model)
    builder = StreamBuilder(vocabulary, model.config.tokens_per_image, model.config.tokens_per_second)
    frozen = {id(p) for part in (model.model.vision_tower, model.model.audio_encoder) for p in part.parameters()}
    learning = [p for p in model.parameters() if id(p) not in frozen]
    optimiser, schedule = _optimiser(learning, config.stream_lr, config.stream_steps, config)
    rng = np.random.default_rng(config.seed + 1)
    history, recent = [], []
    for step in tqdm(range(config.stream_steps), desc="streams", disable=None):
        picks = rng.integers(len(clips), size=config.stream_batch)
        streams = [builder.build(clips[pick], rng) for pick in picks]
        tower = [copies[int(rng.integers(len(copies)))][pick] for pick in picks]
        entropy, focal = stream_loss(model, streams, tower, sounds, vocabulary.pad, rng)
        _step(entropy + _FOCAL_WEIGHT * focal, learning, optimiser, schedule)
        recent.append((float(entropy.detach()), float(focal.detach())))
        if step % 50 == 49:
            history.append((float(np.mean([r[0] for r in recent])), float(np.mean([r[1] for r in recent]))))
            logger.info("stream step %d: text %.3f, focal %.4f", step + 1, *history[-1])
            recent.clear()
    return history


def stream_loss(
    model: ViSpeakModel, streams: list[Stream], tower: list[Tensor], sounds: Tensor, pad: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and focal loss of a batch.

    Args:
        model: its gate, language model and heads get gradients; so does the projector.
        streams: from `StreamBuilder`.
        tower: features of each clip's frames, [frames, tokens, width of the tower].
        sounds: a bank of embedded seconds to draw from, [n, tokens, hidden].
        pad: fills streams up to the batch's length.
        rng: draws the sounds.
    """
    length = max(len(stream.user) for stream in streams)
    user_BT, agent_BT = (_padded([getattr(s, n) for s in streams], length, pad) for n in ("user", "agent"))
    targets_BT, labels_BT = (
        _padded([getattr(s, n) for s in streams], length, IGNORE) for n in ("targets", "informative")
    )
    user_BTD = model.embed(user_BT)
    for row, (stream, features) in enumerate(zip(streams, tower, strict=True)):
        for (start, index), image in zip(stream.images, model.model.mm_projector(features), strict=True):
            assert index < len(features)
            user_BTD[row, start : start + image.shape[0]] = image
        for start in stream.sounds:
            user_BTD[row, start : start + sounds.shape[1]] = sounds[int(rng.integers(len(sounds)))]
    hidden_BTD = model.forward_embeds(model.combine(model.embed(agent_BT), user_BTD))
    # only positions before a target need the vocabulary
    wanted = functional.pad(targets_BT[:, 1:], (0, 1), value=IGNORE) != IGNORE
    logits = model.lm_head(hidden_BTD[wanted])
    truth = targets_BT[:, 1:][wanted[:, :-1]]
    entropy = functional.cross_entropy(logits.float(), truth)
    return entropy, focal_loss(model.informative(hidden_BTD), labels_BT)


def encode_clips(model: ViSpeakModel, clips: list[SampledClip], rng: np.random.Generator | None) -> list[Tensor]:
    """The frozen tower's features of every frame, one tensor a clip; with a generator, of clips changed as a whole."""
    features = []
    with torch.no_grad():
        for clip in tqdm(clips, desc="features", disable=None):
            pixels = _pixels(clip.frames)
            if rng is not None:
                pixels = _recolour(pixels, rng).flip(-1).roll(tuple(int(v) for v in rng.integers(-6, 7, 2)), (-2, -1))
            features.append(model.model.vision_tower(pixels))
    return features


def _sound_bank(model: ViSpeakModel, count: int = 48) -> Tensor:
    """Seconds of silence, hum, noise and tones as embeddings: it hears, but has nothing to learn from it."""
    rng = np.random.default_rng(7)
    time = np.arange(16_000) / 16_000
    bank = []
    for index in range(count):
        loud = 0.0 if index == 0 else 10 ** rng.uniform(-4, -0.7)
        tone = np.sin(2 * np.pi * rng.uniform(60, 2000) * time) * rng.random()
        samples = (loud * (tone + rng.normal(0, 0.5, 16_000) * rng.random())).clip(-1, 1).astype(np.float32)
        bank.append(fbank(samples, model.config.audio))
    with torch.no_grad():
        return model.encode_sound(torch.from_numpy(np.stack(bank)))


def _pixels(frames: np.ndarray) -> Tensor:
    return torch.stack([normalise(frame) for frame in frames])


def _recolour(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Changes each picture's colours and brightness: the same scene under another camera."""
    gain = torch.from_numpy(rng.uniform(0.7, 1.3, (len(pixels), 3, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.3, 0.3, (len(pixels), 1, 1, 1)).astype(np.float32))
    return pixels * gain + shift


def _optimiser(
    parameters: list[nn.Parameter], lr: float, steps: int, config: TinyConfig
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=config.weight_decay, betas=(0.9, 0.98))
    warmup = max(1, round(steps * config.warmup_share))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _step(
    loss: Tensor,
    parameters: list[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    schedule.step()
    return float(loss.detach())


def _accuracy(model: ViSpeakModel, classifier: nn.Module, clips: list[SampledClip]) -> float:
    right = total = 0
    with torch.no_grad():
        for clip in clips:
            known = clip.labels != UNSETTLED
            if known.any():
                guess = classifier(model.encode_images(_pixels(clip.frames[known])).flatten(1)).argmax(-1).numpy()
                right += int((guess == clip.labels[known]).sum())
                total += int(known.sum())
    return right / max(1, total)


def _padded(rows: list[list[int]], length: int, filler: int) -> Tensor:
    return torch.tensor([row + [filler] * (length - len(row)) for row in rows])


def write_tokenizer(folder: Path) -> Vocabulary:
    """Trains the small tokenizer into a folder and reads it back."""
    from vispeak_training.tokenizer import train_tokenizer  # noqa: PLC0415 - keeps inference free of trainers

    folder.mkdir(parents=True, exist_ok=True)
    train_tokenizer().save(str(folder / "tokenizer.json"))
    return Vocabulary.from_folder(folder)


__all__ = ["TinyConfig", "build_model", "next_token_loss", "train_streams", "train_vision", "write_tokenizer"]
