"""The theatre's clips as a training set: every index is another telling of some clip, seen through another camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset

from vispeak_node.model.config import ModelConfig
from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.tokens import Vocabulary
from vispeak_training.data.sample import IGNORE, Sample
from vispeak_training.phrases import corpus
from vispeak_training.pictures import changed
from vispeak_training.recalling import RecallBuilder, Scene, scenes_of
from vispeak_training.splicing import long_stream
from vispeak_training.streams import StreamBuilder, TellingConfig
from vispeak_training.theatre.dataset import UNSETTLED, SampledClip

_LONGEST_TEXT = 256  # tokens
_LONG = (16, 40)  # frames of a long stream
_PAST_SCENES = (0, 1, 2, 2, 3, 4)  # how many scenes are remembered when the past is asked for
_PRESENT_SCENES = (1, 2, 3, 4)  # and how many are still in the context


@dataclass(frozen=True)
class Mix:
    """What a stage learns from."""

    telling: TellingConfig  # of clips
    pictures: float  # share of samples that are a single frame
    picture_telling: TellingConfig  # of those
    recalls: float = 0.0  # share of samples that ask for the past
    texts: float = 0.0  # share of samples without pictures, in which somebody asks for words
    long: float = 0.0  # share of samples that are several clips, one after the other


class TheatreSet(Dataset[Sample | None]):
    """`length` samples; each follows from the seed and its index alone, so that a run can be taken up anywhere.

    All samples of a batch are of one kind, for short ones beside long ones would be mostly padding. So the order is
    part of the set (`in_order`): nothing is gained by shuffling what is drawn at random.

    Args:
        clips: told whole.
        rooms: told frame by frame.
        vocabulary: of the model.
        config: of the model.
        mix: how both are told.
        length: samples.
        seed: of everything random.
        batch: samples that are of one kind, one after the other.
    """

    in_order = True

    def __init__(
        self,
        clips: list[SampledClip],
        rooms: list[SampledClip],
        vocabulary: Vocabulary,
        config: ModelConfig,
        mix: Mix,
        length: int,
        seed: int,
        batch: int,
    ) -> None:
        self._clips, self._mix, self._length, self._seed, self._batch = clips, mix, length, seed, batch
        self._frames = [(room, index) for room in rooms for index in np.flatnonzero(room.labels != UNSETTLED).tolist()]
        self._whole = StreamBuilder(vocabulary, config.tokens_per_image, mix.telling)
        self._scenes = scenes_of(clips) if mix.recalls else []
        assert self._scenes or not mix.recalls, "no everyday act lasts for two frames"
        self._vocabulary, self._side = vocabulary, config.vision.image_size
        self._texts = [text for text in corpus() if len(vocabulary.encode(text)) <= _LONGEST_TEXT] if mix.texts else []
        self._recall = RecallBuilder(vocabulary, config.tokens_per_image)
        self._single = StreamBuilder(vocabulary, config.tokens_per_image, mix.picture_telling)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample | None:
        kind = np.random.default_rng((self._seed, 1, index // self._batch)).random()
        rng = np.random.default_rng((self._seed, 0, index))
        if kind < self._mix.recalls:
            past, present = self._scenes_of(rng, _PAST_SCENES), self._scenes_of(rng, _PRESENT_SCENES)
            return self._recall.build(past, present, rng, f"theatre {index}")
        if kind < self._mix.recalls + self._mix.texts:
            return self._recite(rng, f"theatre {index}")
        if kind < self._mix.recalls + self._mix.texts + self._mix.pictures:
            room, frame = self._frames[int(rng.integers(len(self._frames)))]
            clip, builder = picture_of(room, frame), self._single
        elif kind < self._mix.recalls + self._mix.texts + self._mix.pictures + self._mix.long:
            clip, builder = long_stream(self._clips, int(rng.integers(*_LONG, endpoint=True)), rng), self._whole
        else:
            clip, builder = self._clips[int(rng.integers(len(self._clips)))], self._whole
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        frames, _ = changed(clip.frames, clip.keypoints, generator)
        return builder.build(replace(clip, frames=frames), rng, f"theatre {index}")

    def _recite(self, rng: np.random.Generator, name: str) -> Sample:
        """A text that the model should know how to say, whatever it sees."""
        vocabulary, text = self._vocabulary, str(rng.choice(self._texts))
        user = [*vocabulary.encode(SYSTEM_PROMPTS["text"]), vocabulary.segment_end]
        user += [*vocabulary.encode_user_text(f"Say: {text}"), vocabulary.segment_end]
        start = vocabulary.answer_text if rng.random() < 0.5 else vocabulary.answer_visual
        reply = [start, *vocabulary.encode(text), vocabulary.reply_end]
        agent = np.array([vocabulary.pad] * len(user) + reply, np.int64)
        targets = np.where(np.arange(len(agent)) < len(user), IGNORE, agent)
        silent = np.full(len(agent), IGNORE, np.int64)
        nothing = np.zeros((0, self._side, self._side, 3), np.uint8), np.zeros((0, 16_000), np.float32)
        whole = np.array(user + [vocabulary.pad] * len(reply), np.int64)
        return Sample(whole, agent, targets, silent, silent.copy(), *nothing, name)

    def _scenes_of(self, rng: np.random.Generator, numbers: tuple[int, ...]) -> list[Scene]:
        """As many scenes as one of `numbers`, each through another camera."""
        drawn = []
        for _ in range(int(rng.choice(numbers))):
            scene = self._scenes[int(rng.integers(len(self._scenes)))]
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            drawn.append(replace(scene, frames=changed(scene.frames, scene.keypoints, generator)[0]))
        return drawn


def picture_of(clip: SampledClip, index: int) -> SampledClip:
    """One frame of a clip as a clip of its own."""
    one = slice(index, index + 1)
    return SampledClip(clip.frames[one], clip.labels[one], clip.starts[one], clip.times[one], clip.keypoints[one])
