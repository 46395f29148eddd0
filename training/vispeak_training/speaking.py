"""Stage 2 of the small checkpoint: the tower stands still; the gate, the language model and both heads learn streams.

First streams of a single picture with a question behind most of them: short, cheap, and with nothing to learn but
reading pictures. Then whole clips.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from vispeak_node.model.fbank import fbank
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_training.losses import IGNORE, focal_loss
from vispeak_training.schedule import one_cycle, step
from vispeak_training.seeing import jitter, pixels_of, recolour
from vispeak_training.streams import Stream, StreamBuilder, TellingConfig
from vispeak_training.theatre.dataset import SampledClip
from vispeak_training.tiny_config import TinyConfig

logger = logging.getLogger(__name__)

_FOCAL_WEIGHT = 20.0  # the focal loss is a small number next to the cross-entropy
_EVENT_WEIGHT = 0.5
_ENCODED_AT_ONCE = 256  # frames
_PICTURE = TellingConfig(question=0.7, late=0.0, sound=0.0, overlap=0.0)

Losses = list[tuple[float, ...]]  # text, focal, events


class Teller:
    """Clips with the frozen tower's features of their frames, as they are and changed: it knows its own training
    frames too well, so the language model learns from changed ones as well.
    """

    def __init__(
        self, model: ViSpeakModel, clips: list[SampledClip], generator: torch.Generator, builder: StreamBuilder
    ) -> None:
        self._clips, self._builder = clips, builder
        frames, joints = np.concatenate([c.frames for c in clips]), np.concatenate([c.keypoints for c in clips])
        self._ends = np.cumsum([len(clip.labels) for clip in clips])
        copies: tuple[list[Tensor], list[Tensor]] = ([], [])
        with torch.no_grad():
            for begin in tqdm(range(0, len(frames), _ENCODED_AT_ONCE), desc="features", disable=None):
                part = slice(begin, begin + _ENCODED_AT_ONCE)
                pixels = pixels_of(frames[part])
                changed = recolour(jitter(pixels, joints[part], generator)[0], generator)
                for copy, seen in zip(copies, (pixels, changed), strict=True):
                    copy.append(model.model.vision_tower(seen).half())
        self._features = [torch.cat(copy) for copy in copies]

    def draw_clips(self, count: int, rng: np.random.Generator) -> tuple[list[Stream], list[Tensor]]:
        """`count` random tellings of random clips, with the features of their frames, [frames, tokens, width]."""
        picks = rng.integers(len(self._clips), size=count)
        copies = rng.integers(len(self._features), size=count)
        streams = [self._builder.build(self._clips[pick], rng) for pick in picks]
        begins = [self._ends[pick] - len(self._clips[pick].labels) for pick in picks]
        features = [
            self._features[copy][begin : self._ends[pick]]
            for copy, begin, pick in zip(copies, begins, picks, strict=True)
        ]
        return streams, [feature.float() for feature in features]


def pictures_of(clips: list[SampledClip]) -> list[SampledClip]:
    """Every frame as a clip of its own."""
    return [
        SampledClip(c.frames[[i]], c.labels[[i]], c.starts[[i]], c.times[[i]], c.keypoints[[i]])
        for c in clips
        for i in range(len(c.labels))
    ]


def train_streams(
    model: ViSpeakModel,
    rooms: list[SampledClip],
    clips: list[SampledClip],
    vocabulary: Vocabulary,
    config: TinyConfig,
) -> dict[str, Losses]:
    """Single pictures, then clips and still some pictures, so that answers stay sharp.

    Args:
        model: with a tower that sees.
        rooms: clips whose frames are used one by one.
        clips: clips whose frames follow each other.
        vocabulary: of the model.
        config: steps and batches.

    Returns:
        The three losses averaged over every 50 steps, of pictures and of clips.
    """
    sizes = model.config.tokens_per_image, model.config.tokens_per_second
    generator = torch.Generator().manual_seed(config.seed + 2)
    tellers = {
        "pictures": Teller(model, pictures_of(rooms), generator, StreamBuilder(vocabulary, *sizes, _PICTURE)),
        "clips": Teller(model, clips, generator, StreamBuilder(vocabulary, *sizes)),
    }
    batches = {"pictures": config.picture_batch, "clips": config.stream_batch}
    sounds = sound_bank(model)
    frozen = {id(p) for part in (model.model.vision_tower, model.model.audio_encoder) for p in part.parameters()}
    learning = [p for p in model.parameters() if id(p) not in frozen]
    steps = config.picture_steps + config.stream_steps
    optimiser, schedule = one_cycle(learning, config.stream_lr, steps, config)
    rng = np.random.default_rng(config.seed + 1)
    history: dict[str, Losses] = {"pictures": [], "clips": []}
    recent: dict[str, Losses] = {"pictures": [], "clips": []}
    for number in tqdm(range(steps), desc="streams", disable=None):
        kind = "pictures" if number < config.picture_steps or rng.random() < config.picture_share else "clips"
        streams, tower = tellers[kind].draw_clips(batches[kind], rng)
        losses = stream_loss(model, streams, tower, sounds, vocabulary.pad, rng)
        step(losses[0] + _FOCAL_WEIGHT * losses[1] + _EVENT_WEIGHT * losses[2], learning, optimiser, schedule)
        recent[kind].append(tuple(float(loss.detach()) for loss in losses))
        if len(recent[kind]) == 50:
            history[kind].append(tuple(float(mean) for mean in np.mean(recent[kind], axis=0)))
            logger.info("step %d, %s: text %.3f, focal %.4f, events %.3f", number + 1, kind, *history[kind][-1])
            recent[kind].clear()
    return history


def stream_loss(
    model: ViSpeakModel, streams: list[Stream], tower: list[Tensor], sounds: Tensor, pad: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of the replies, focal loss of the informative head, cross-entropy of the event head.

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
    targets_BT, labels_BT, events_BT = (
        _padded([getattr(s, n) for s in streams], length, IGNORE) for n in ("targets", "informative", "events")
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
    kinds = functional.cross_entropy(model.events(hidden_BTD).flatten(0, 1), events_BT.flatten(), ignore_index=IGNORE)
    return entropy, focal_loss(model.informative(hidden_BTD), labels_BT), kinds


def sound_bank(model: ViSpeakModel, count: int = 48) -> Tensor:
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


def _padded(rows: list[list[int]], length: int, filler: int) -> Tensor:
    return torch.tensor([row + [filler] * (length - len(row)) for row in rows])
