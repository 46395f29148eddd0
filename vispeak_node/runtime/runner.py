"""Answers what sessions ask for, requests of one kind together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.heads import read_heads
from vispeak_node.runtime.passes import run_passes
from vispeak_node.runtime.requests import FrameRequest, HeadRequest, PassRequest, Request, Result, SoundRequest, Steps

Key = TypeVar("Key", bound=Hashable)
# the order in which several sessions' requests are answered: what comes early brings sessions to the same pass
_KINDS: tuple[type[Request], ...] = (FrameRequest, SoundRequest, HeadRequest, PassRequest)


def drive(model: ViSpeakModel, steps: Steps[Result]) -> Result:
    """Does one session's work alone, to its end."""
    answer: Any = None
    with torch.inference_mode():
        while True:
            try:
                request = steps.send(answer)
            except StopIteration as stop:
                return stop.value
            (answer,) = answer_together(model, [request])


def answer_together(model: ViSpeakModel, requests: Sequence[Request]) -> list[Any]:
    """Answers of requests that are all of one kind; frames and sounds of one back end."""
    frames = [request for request in requests if isinstance(request, FrameRequest)]
    sounds = [request for request in requests if isinstance(request, SoundRequest)]
    heads = [request for request in requests if isinstance(request, HeadRequest)]
    passes = [request for request in requests if isinstance(request, PassRequest)]
    assert sum(map(bool, (frames, sounds, heads, passes))) == 1, "one kind at a time"
    if frames:
        return _encode_frames(frames)
    if sounds:
        return _encode_sounds(sounds)
    return read_heads(model, heads) if heads else run_passes(model, passes)


def next_batch(waiting: Mapping[Key, Request]) -> list[Key]:
    """Whose requests are answered next: of the first kind that any asks for, all that fit together."""
    first = min(waiting, key=lambda key: _KINDS.index(type(waiting[key])))
    kind = _batch_key(waiting[first])
    return [key for key, request in waiting.items() if _batch_key(request) == kind]


def _batch_key(request: Request) -> tuple[object, ...]:
    """Requests with the same key can be answered together."""
    if isinstance(request, FrameRequest):
        return FrameRequest, id(request.backends.vision), request.frame_SSC.shape
    if isinstance(request, SoundRequest):
        return SoundRequest, id(request.backends.audio), request.fbank_TM.shape
    return (type(request),)


def _encode_frames(requests: Sequence[FrameRequest]) -> list[tuple[Tensor, Tensor]]:
    frames_BSSC = torch.stack([request.frame_SSC for request in requests])
    embeds_BND, features_BNF = requests[0].backends.encode_images(frames_BSSC)
    return list(zip(embeds_BND, features_BNF, strict=True))


def _encode_sounds(requests: Sequence[SoundRequest]) -> list[Tensor]:
    fbank_BTM = torch.stack([request.fbank_TM for request in requests])
    return list(requests[0].backends.encode_sound(fbank_BTM))
