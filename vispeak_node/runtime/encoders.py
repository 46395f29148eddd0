"""Events to rows of the user stream: the torch back end of the encoders and the embedding table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from vispeak_node.model.fbank import fbank
from vispeak_node.model.preprocess import preprocess_image
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.stream.events import Event, ImageEvent, ResetEvent, SoundEvent, TextEvent


class Kind(str, Enum):
    """What a segment of the user stream holds."""

    PROMPT = "prompt"
    IMAGE = "image"
    SOUND = "sound"
    TEXT = "text"


@dataclass(frozen=True, eq=False)
class Segment:
    """One event as the language model reads it; its last row is the segment's end marker."""

    kind: Kind
    stamp: int  # ns
    user_TD: Tensor  # user-stream embeddings


class SegmentEncoder:
    """Turns events into segments with one model and one vocabulary."""

    def __init__(self, model: ViSpeakModel, vocabulary: Vocabulary, max_query_tokens: int) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._max_query_tokens = max_query_tokens
        self._end_1D = self.embed([vocabulary.segment_end])

    def embed(self, ids: list[int]) -> Tensor:
        """Token ids to embeddings [T, D]."""
        return self._model.embed(torch.tensor(ids, dtype=torch.long, device=self._model.device))

    def prompt(self, text: str, stamp: int) -> Segment:
        """The system prompt, which is a segment like any other."""
        return Segment(Kind.PROMPT, stamp, torch.cat([self.embed(self._vocabulary.encode(text)), self._end_1D]))

    def segment(self, event: Event) -> Segment:
        """One event's rows.

        Raises:
            ValueError: a question is empty or too long, an image or sound is malformed.
        """
        if isinstance(event, ImageEvent):
            return self._close(Kind.IMAGE, event.stamp, self._image(event))
        if isinstance(event, SoundEvent):
            return self._close(Kind.SOUND, event.stamp, self._sound(event))
        if isinstance(event, TextEvent):
            return self._close(Kind.TEXT, event.stamp, self._text(event))
        assert not isinstance(event, ResetEvent), "a reset has no rows"
        raise ValueError(f"not an event: {type(event).__name__}")

    def _close(self, kind: Kind, stamp: int, rows_TD: Tensor) -> Segment:
        return Segment(kind, stamp, torch.cat([rows_TD, self._end_1D]))

    def _image(self, event: ImageEvent) -> Tensor:
        config = self._model.config
        pixels = preprocess_image(event.image, config.vision.image_size, config.image_aspect_ratio)
        return self._model.encode_images(pixels[None].to(self._model.device, self._model.dtype))[0]

    def _sound(self, event: SoundEvent) -> Tensor:
        features = torch.from_numpy(fbank(event.samples, self._model.config.audio))
        return self._model.encode_sound(features[None].to(self._model.device, self._model.dtype))[0]

    def _text(self, event: TextEvent) -> Tensor:
        ids = self._vocabulary.encode_user_text(event.text)
        if not self._vocabulary.decode(ids).strip():
            raise ValueError("the question is empty")
        if len(ids) > self._max_query_tokens:
            raise ValueError(f"the question has {len(ids)} tokens, at most {self._max_query_tokens} are read")
        return self.embed(ids)
