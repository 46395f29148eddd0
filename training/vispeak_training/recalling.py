"""Questions about the past: remembered frames between the stream and the question, as the runtime puts them there.

The runtime (`runtime.past`) reads remembered frames before a question, each after words that say how long ago it was,
older ones in lower resolution. Here scenes of different clips make up such a past.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.tokens import Vocabulary
from vispeak_training.data.sample import IGNORE, IMAGE, Sample
from vispeak_training.phrases import PAST_QUESTIONS
from vispeak_training.stages.batch import tokens_at
from vispeak_training.theatre.acts import ACTS, IDLE, SENTENCES
from vispeak_training.theatre.dataset import UNSETTLED, SampledClip

_PRESENT = 24  # frames that the context still holds, at most
_REMEMBERED = 14  # frames, at most
_AS_KEPT = 0.6  # of samples with levels as the pyramid has them: the older, the larger
_LEVELS = (0, 1, 2)
_LEVEL_SHARES = (0.3, 0.2, 0.5)  # of remembered frames


@dataclass(frozen=True)
class Scene:
    """Frames of one everyday act."""

    act: str
    frames: NDArray[np.uint8]  # [n, size, size, 3]
    keypoints: NDArray[np.float32]


def scenes_of(clips: list[SampledClip]) -> list[Scene]:
    """Everyday acts that are seen in at least two frames of a clip."""
    found = []
    for clip in clips:
        for label in np.unique(clip.labels):
            rows = np.flatnonzero(clip.labels == label)
            if label != UNSETTLED and ACTS[label] in IDLE and len(rows) >= 2:
                whole = len(rows) == rows[-1] - rows[0] + 1  # then nothing is copied
                chosen = slice(rows[0], rows[-1] + 1) if whole else rows
                found.append(Scene(ACTS[label], clip.frames[chosen], clip.keypoints[chosen]))
    return found


class RecallBuilder:
    """Makes samples of scenes.

    Args:
        vocabulary: of the model.
        tokens_per_image: of a frame in full resolution.
    """

    def __init__(self, vocabulary: Vocabulary, tokens_per_image: int) -> None:
        self._vocabulary, self._tokens = vocabulary, tokens_per_image

    def build(self, past: list[Scene], present: list[Scene], rng: np.random.Generator, name: str = "") -> Sample:
        """A stream in which these scenes were seen one after the other, and the question what was first.

        Args:
            past: what is remembered, maybe nothing.
            present: what the context still holds.
            rng: everything random is drawn from it.
            name: of the sample.
        """
        vocabulary = self._vocabulary
        user = [*vocabulary.encode(SYSTEM_PROMPTS["vispeak"]), vocabulary.segment_end]
        images = [picture for scene in present for picture in self._lived(scene, rng)][:_PRESENT]
        user += [*[IMAGE] * self._tokens, vocabulary.segment_end] * len(images)
        levels, kept = [0] * len(images), rng.random() < _AS_KEPT
        for number, (age, picture) in enumerate(self._ages(past, rng)):
            level = min(number, 2) if kept else int(rng.choice(_LEVELS, p=_LEVEL_SHARES))
            user += vocabulary.encode(f"{age}s ago:")
            user += [*[IMAGE] * tokens_at(self._tokens, [level])[0], vocabulary.segment_end]
            images.append(picture)
            levels.append(level)
        user += [*vocabulary.encode_user_text(str(rng.choice(PAST_QUESTIONS))), vocabulary.segment_end]
        answer = [vocabulary.answer_text, *vocabulary.encode(SENTENCES[[*past, *present][0].act]), vocabulary.reply_end]
        agent = [vocabulary.pad] * len(user) + answer
        silent = np.full(len(agent), IGNORE, np.int64)
        return Sample(
            np.array(user + [vocabulary.pad] * len(answer), np.int64),
            np.array(agent, np.int64),
            np.array([IGNORE] * len(user) + answer, np.int64),
            silent,
            silent.copy(),
            np.stack(images),
            np.zeros((0, 16_000), np.float32),
            name,
            np.array(levels, np.int64),
        )

    @staticmethod
    def _lived(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Some seconds of a scene."""
        return scene.frames[rng.integers(len(scene.frames), size=int(rng.integers(2, 9)))]

    @staticmethod
    def _ages(past: list[Scene], rng: np.random.Generator) -> list[tuple[int, NDArray[np.uint8]]]:
        """Frames of the past with their ages in s, the oldest first."""
        counts = [int(rng.integers(1, 6)) for _ in past]
        chosen = [
            scene.frames[int(rng.integers(len(scene.frames)))]
            for scene, count in zip(past, counts, strict=True)
            for _ in range(count)
        ][:_REMEMBERED]
        ages = np.sort(rng.integers(25, int(rng.integers(200, 1000)), size=len(chosen)))[::-1]
        return list(zip(ages.tolist(), chosen, strict=True))
