"""Events to rows of the user stream: the encoders, through whichever back end, and the embedding table."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from vispeak_node.model.fbank import fbank
from vispeak_node.model.preprocess import resize
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.ahead import Ahead
from vispeak_node.runtime.backends import Backends
from vispeak_node.runtime.requests import FrameRequest, SoundRequest, Steps
from vispeak_node.runtime.runner import drive
from vispeak_node.runtime.transfer import send
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
    features_NF: Tensor | None = None  # of an image: what its rows were projected from


class SegmentEncoder:
    """Turns events into segments.

    Args:
        model: the embedding table, and the encoders where no others are given.
        vocabulary: its tokenizer.
        max_query_tokens: a longer question is refused.
        backends: what runs the encoders; by default the model's own layers.
        overlap: whether events that are expected are encoded ahead. Nobody else may use the back ends then.
    """

    def __init__(
        self,
        model: ViSpeakModel,
        vocabulary: Vocabulary,
        max_query_tokens: int,
        backends: Backends | None = None,
        overlap: bool = False,
    ) -> None:
        self._model = model
        self._backends = backends or Backends.torch(model)
        self._vocabulary = vocabulary
        self._max_query_tokens = max_query_tokens
        self._end_1D = self.embed([vocabulary.segment_end])
        self._ahead = Ahead(_without_hold(model, self._alone), model.device) if overlap else None

    def embed(self, ids: list[int]) -> Tensor:
        """Token ids to embeddings [T, D]."""
        return self._model.embed(send(torch.tensor(ids, dtype=torch.long), self._model.device))

    def prompt(self, text: str, stamp: int) -> Segment:
        """The system prompt, which is a segment like any other."""
        return Segment(Kind.PROMPT, stamp, torch.cat([self.embed(self._vocabulary.encode(text)), self._end_1D]))

    def segment(self, event: Event) -> Segment:
        """One event's rows, with the encoders run for it alone; see `encoding`."""
        return drive(self._model, self.encoding(event))

    def expect(self, event: Event | None) -> None:
        """This event is most likely the next: its encoder may run meanwhile. Without overlap nothing is done."""
        if self._ahead is not None and event is not None:
            self._ahead.begin(event)

    def encoding(self, event: Event) -> Steps[Segment]:
        """One event's rows, by steps that ask for an encoder unless it ran already.

        Raises:
            ValueError: a question is empty or too long, an image or sound is malformed.
        """
        segment = None if self._ahead is None else self._ahead.take(event)
        return segment if segment is not None else (yield from self._alone(event))

    def _alone(self, event: Event) -> Steps[Segment]:
        if isinstance(event, ImageEvent):
            rows_TD, features_NF = yield FrameRequest(self._frame(event), self._backends)
            return self._close(Kind.IMAGE, event.stamp, rows_TD, features_NF)
        if isinstance(event, SoundEvent):
            rows_TD = yield SoundRequest(self._fbank(event), self._backends)
            return self._close(Kind.SOUND, event.stamp, rows_TD)
        if isinstance(event, TextEvent):
            return self._close(Kind.TEXT, event.stamp, self._text(event))
        assert not isinstance(event, ResetEvent), "a reset has no rows"
        raise ValueError(f"not an event: {type(event).__name__}")

    def remembered(self, stamp: int, features_NF: Tensor, words: str = "") -> Segment:
        """A frame from memory, after words of ours, in its own resolution."""
        before_TD = self.embed(self._vocabulary.encode(words)) if words else self._end_1D[:0]
        return self._close(Kind.IMAGE, stamp, torch.cat([before_TD, self.project(features_NF)]))

    def project(self, features_NF: Tensor) -> Tensor:
        """Features of a frame [N, F] to rows [N, D]."""
        return self._model.model.mm_projector(features_NF)

    def _close(self, kind: Kind, stamp: int, rows_TD: Tensor, features_NF: Tensor | None = None) -> Segment:
        return Segment(kind, stamp, torch.cat([rows_TD, self._end_1D]), features_NF)

    def _frame(self, event: ImageEvent) -> Tensor:
        """uint8 [S, S, C], as the vision encoder wants it."""
        config = self._model.config
        return torch.from_numpy(np.array(resize(event.image, config.vision.image_size, config.image_aspect_ratio)))

    def _fbank(self, event: SoundEvent) -> Tensor:
        return torch.from_numpy(fbank(event.samples, self._model.config.audio))

    def _text(self, event: TextEvent) -> Tensor:
        ids = self._vocabulary.encode_user_text(event.text)
        if not self._vocabulary.decode(ids).strip():
            raise ValueError("the question is empty")
        if len(ids) > self._max_query_tokens:
            raise ValueError(f"the question has {len(ids)} tokens, at most {self._max_query_tokens} are read")
        return self.embed(ids)


def _without_hold(model: ViSpeakModel, alone: Callable[[Event], Steps[Segment]]) -> Callable[[Event], Segment]:
    """Does an event's steps; whoever keeps this does not keep the encoder, whose graphs hold memory."""
    weak = weakref.WeakMethod(alone)

    def encode(event: Event) -> Segment:
        method = weak()
        if method is None:
            raise RuntimeError("the session is gone")
        return drive(model, method(event))

    return encode
