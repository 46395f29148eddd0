"""The model's heads, read for one or several sessions at once, with one copy to the host.

Shape legend: N rows, D hidden, L event labels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.requests import HeadRequest, Reading


def read_heads(model: ViSpeakModel, requests: Sequence[HeadRequest]) -> list[Reading]:
    """What the heads say to each request.

    All of it comes to the host as one copy of float32, which holds every token id exactly: a silent segment waits for
    the device once.

    Raises:
        ValueError: the checkpoint has no such head.
    """
    scored = [request.visual_1D for request in requests if request.visual_1D is not None]
    known = [request.visual_1D for request in requests if request.visual_1D is not None and request.events]
    spoken = [request for request in requests if request.end_1D is not None]
    parts: list[Tensor] = []
    if scored:
        parts.append(model.informative(_joined(scored)).float().sigmoid())
    if known:
        parts.append(model.events(_joined(known)).float().softmax(-1).flatten())
    if spoken:
        parts += _words(model, spoken)
    values = iter(_joined(parts).tolist() if parts else [])
    scores = _take(values, len(scored))
    shares = [tuple(_take(values, len(model.config.event_labels))) for _ in known]
    tokens, chances = _take(values, len(spoken)), list(values)
    return _readings(requests, iter(scores), iter(shares), iter(tokens), iter(chances))


def _words(model: ViSpeakModel, requests: Sequence[HeadRequest]) -> list[Tensor]:
    """Tokens [N] and the probabilities of those whose probability is wanted."""
    logits_NV = model.lm_head(_joined([request.end_1D for request in requests if request.end_1D is not None]))
    tokens_N = logits_NV.argmax(-1)
    parts = [tokens_N.float()]
    if any(request.chance for request in requests):
        chances_N = logits_NV.float().softmax(-1).gather(-1, tokens_N[:, None])[:, 0]
        parts += [chances_N[index : index + 1] for index, request in enumerate(requests) if request.chance]
    return parts


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """One after the other; a single one as it is, which saves a launch for every word."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def _take(values: Iterator[float], count: int) -> list[float]:
    return [next(values) for _ in range(count)]


def _readings(
    requests: Sequence[HeadRequest],
    scores: Iterator[float],
    shares: Iterator[tuple[float, ...]],
    tokens: Iterator[float],
    chances: Iterator[float],
) -> list[Reading]:
    """Hands each request its own, in order."""
    found = []
    for request in requests:
        seen, speaks = request.visual_1D is not None, request.end_1D is not None
        found.append(
            Reading(
                score=next(scores) if seen else 0.0,
                events=next(shares) if seen and request.events else (),
                token=int(next(tokens)) if speaks else -1,
                chance=next(chances) if speaks and request.chance else 0.0,
            )
        )
    return found
