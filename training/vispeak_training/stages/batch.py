"""Samples to one micro-batch: padded on the right, cut to length, with all images and sounds in one row.

Shape legend: B samples, T positions, N images, S pixels, M seconds of sound, F mel frames, K mel bins, P positions that
an image or a sound takes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vispeak_node.model.config import ModelConfig
from vispeak_node.model.fbank import fbank
from vispeak_training.data.sample import AUDIO, IGNORE, IMAGE, VIDEO_AUDIO, Sample

logger = logging.getLogger(__name__)

_SECOND = 16_000  # samples


class Batch(TypedDict):
    """What the learner reads."""

    user: Tensor  # int64 [B, T] ids; pad where an embedding goes
    agent: Tensor  # int64 [B, T] ids; pad is silence
    targets: Tensor  # int64 [B, T] agent ids or IGNORE, not shifted
    informative: Tensor  # int64 [B, T] 1, 0 or IGNORE
    events: Tensor  # int64 [B, T] class or IGNORE
    lengths: Tensor  # int64 [B] positions of each sample without its padding
    images: Tensor  # uint8 [N, S, S, 3]; a black one if there is none, so that every device does the same work
    image_levels: Tensor  # int64 [N] how often the side of each image's square of tokens is halved
    fbank: Tensor  # float32 [M, F, K]; a silent one likewise
    image_places: Tensor  # bool [B, T]
    image_rows: Tensor  # int64 [P] which row of the images' embeddings goes to each place
    sound_places: Tensor  # bool [B, T]
    sound_rows: Tensor  # int64 [P]
    counts: Tensor  # int64 [2]: samples asked for, and those of them that could not be used


class Collator:
    """Makes micro-batches; a sample that does not fit the model is dropped, counted and named in the log."""

    def __init__(self, model: ModelConfig, pad: int, max_length: int, dither: float = 0.0) -> None:
        self._model, self._pad, self._max_length, self._dither = model, pad, max_length, dither

    def __call__(self, samples: Sequence[Sample | None]) -> Batch:
        """One micro-batch of `samples`; None stands for one that could not be read.

        If none can be used the batch is one silent position without targets: its loss is zero.
        """
        good = [sample for sample in samples if sample is not None and self._fits(sample)]
        counts = torch.tensor([len(samples), len(samples) - len(good)])
        lengths = [min(len(sample.user), self._max_length) for sample in good] or [1]
        users = [sample.user for sample in good]
        # where a sample is cut, what lies behind is neither seen nor heard
        user_BT = self._padded(users, lengths, self._pad)
        image_BT, sound_BT = user_BT == IMAGE, (user_BT == AUDIO) | (user_BT == VIDEO_AUDIO)
        images, levels, image_rows = self._images(good, image_BT)
        sounds, sound_rows = self._sounds(good, sound_BT)
        return Batch(
            user=torch.where(user_BT < 0, self._pad, user_BT),
            agent=self._padded([sample.agent for sample in good], lengths, self._pad),
            targets=self._padded([sample.targets for sample in good], lengths, IGNORE),
            informative=self._padded([sample.informative for sample in good], lengths, IGNORE),
            events=self._padded([sample.events for sample in good], lengths, IGNORE),
            lengths=torch.tensor(lengths),
            images=images,
            image_levels=levels,
            fbank=sounds,
            image_places=image_BT,
            image_rows=image_rows,
            sound_places=sound_BT,
            sound_rows=sound_rows,
            counts=counts,
        )

    def problem(self, sample: Sample) -> str | None:
        """Why this sample cannot be given to the model, or None."""
        arrays = (sample.agent, sample.targets, sample.informative, sample.events)
        if any(array.shape != sample.user.shape for array in arrays) or sample.user.ndim != 1 or not len(sample.user):
            return "its arrays have different lengths or none"
        return self._media_problem(sample) or self._id_problem(sample)

    def _media_problem(self, sample: Sample) -> str | None:
        images = int((sample.user == IMAGE).sum())
        sounds = int(((sample.user == AUDIO) | (sample.user == VIDEO_AUDIO)).sum())
        if len(_levels(sample)) != len(sample.images) or images != self._tokens(_levels(sample)).sum():
            return f"{images} positions for {len(sample.images)} images of {self._model.tokens_per_image} tokens"
        if sounds != len(sample.sounds) * self._model.tokens_per_second:
            return f"{sounds} positions for {len(sample.sounds)} seconds of {self._model.tokens_per_second} tokens"
        side = self._model.vision.image_size
        if images and (sample.images.shape[1:] != (side, side, 3) or sample.images.dtype != np.uint8):
            return f"images of {sample.images.dtype} {sample.images.shape[1:]}, needs uint8 {(side, side, 3)}"
        if sounds and (sample.sounds.shape[1:] != (_SECOND,) or not np.isfinite(sample.sounds).all()):
            return f"sounds of shape {sample.sounds.shape[1:]}, needs {(_SECOND,)} finite values each"
        return None

    def _id_problem(self, sample: Sample) -> str | None:
        rows, classes = self._model.language.vocab_size, len(self._model.event_labels)
        targets = sample.targets[sample.targets != IGNORE]
        if min(sample.agent.min(), targets.min(initial=0)) < 0:
            return "a negative id in the agent's stream"
        if max(sample.user.max(), sample.agent.max(), targets.max(initial=0)) >= rows:
            return f"an id beyond the {rows} rows of the embedding"
        if classes and sample.events.max() >= classes:
            return f"event class {sample.events.max()} of {classes}"
        return None

    def _fits(self, sample: Sample) -> bool:
        problem = self.problem(sample)
        if problem is not None:
            logger.warning("%s cannot be used: %s", sample.name, problem)
        return problem is None

    def _padded(self, rows: list[NDArray[np.int64]], lengths: list[int], filler: int) -> Tensor:
        """[B, T] with T the longest length."""
        padded_BT = np.full((len(lengths), max(lengths)), filler, np.int64)
        for row, values, length in zip(padded_BT, rows, lengths, strict=False):
            row[:length] = values[:length]
        return torch.from_numpy(padded_BT)

    def _tokens(self, levels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions that images take."""
        return np.array(tokens_at(self._model.tokens_per_image, levels.tolist()), np.int64)

    def _images(self, samples: list[Sample], places_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        side, kept, levels, rows = self._model.vision.image_size, [], [], []
        for sample, count in zip(samples, places_BT.sum(1).tolist(), strict=False):
            ends = np.cumsum(self._tokens(_levels(sample)))
            shown = int(np.searchsorted(ends, count)) + 1 if count else 0  # the last one may be cut
            kept.append(sample.images[:shown])
            levels.append(_levels(sample)[:shown])
            rows.append(int(ends[shown - 1]) if shown else 0)
        images = np.concatenate(kept) if sum(map(len, kept)) else np.zeros((1, side, side, 3), np.uint8)
        chosen = np.concatenate(levels) if sum(map(len, levels)) else np.zeros(1, np.int64)
        return torch.from_numpy(images), torch.from_numpy(chosen), _rows(places_BT, rows)

    def _sounds(self, samples: list[Sample], places_BT: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self._model.tokens_per_second
        heard = [(count + tokens - 1) // tokens for count in places_BT.sum(1).tolist()]
        seconds = [second for sample, count in zip(samples, heard, strict=False) for second in sample.sounds[:count]]
        seconds = seconds or [np.zeros(_SECOND, np.float32)]
        features = [fbank(np.ascontiguousarray(second), self._model.audio, self._dither) for second in seconds]
        return torch.from_numpy(np.stack(features)), _rows(places_BT, [count * tokens for count in heard])


def tokens_at(tokens_per_image: int, levels: Sequence[int]) -> list[int]:
    """Tokens of images whose sides are halved so often; one token is the least."""
    side = round(tokens_per_image**0.5)
    return [max(1, side >> level) ** 2 if level else tokens_per_image for level in levels]


def _levels(sample: Sample) -> NDArray[np.int64]:
    return np.zeros(len(sample.images), np.int64) if sample.levels is None else sample.levels


def _rows(places_BT: Tensor, sizes: list[int]) -> Tensor:
    """For every place, row by row, the row of the embeddings when all samples' things are laid end to end.

    Args:
        places_BT: where they are.
        sizes: embeddings that each sample brings; those that find no place are the last ones.
    """
    rows, first = [], 0
    for places, size in zip(places_BT.sum(1).tolist(), [*sizes, *[0] * (len(places_BT) - len(sizes))], strict=True):
        rows.append(torch.arange(first, first + places))
        first += size
    return torch.cat(rows)
