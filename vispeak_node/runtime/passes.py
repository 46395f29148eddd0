"""Passes of the language model: one stream's, or several streams' packed into one.

A packed pass puts the rows of all streams one after the other, so every weight is read once; each stream attends to its
own cache, so nothing is padded and the result is the lone pass's.

Shape legend: T positions of one stream, D hidden, E head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from vispeak_node.model.language import Angles, Layer, Stretch, rotary_angles
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.requests import PassRequest
from vispeak_node.runtime.transfer import send


def run_passes(model: ViSpeakModel, requests: Sequence[PassRequest]) -> list[Tensor]:
    """Final hidden states of each, [wanted, D]; no two may be of one cache."""
    if len(requests) > 1:
        return run_packed(model, requests)
    (request,) = requests
    return [run_alone(model, request) if request.alone is None else request.alone(request)]


def run_alone(model: ViSpeakModel, request: PassRequest) -> Tensor:
    """One stream's pass over the rows in use, of any length."""
    return model.forward_embeds(request.embeds_TD[None], request.start, request.cache, request.wanted)[0]


def run_packed(model: ViSpeakModel, requests: Sequence[PassRequest]) -> list[Tensor]:
    """Several streams' passes as one."""
    stretches = [Stretch(request.cache, request.embeds_TD.shape[0], request.wanted) for request in requests]
    host = torch.empty(0, dtype=model.dtype)
    parts = [
        rotary_angles(model.config.language, request.start, stretch.count, host)
        for request, stretch in zip(requests, stretches, strict=True)
    ]
    angles = tuple(send(torch.cat(values), model.device) for values in zip(*parts, strict=True))
    embeds_1TD = torch.cat([request.embeds_TD for request in requests])[None]
    hidden_1QD = forward_packed(model, embeds_1TD, (angles[0], angles[1]), stretches)
    return list(hidden_1QD[0].split([stretch.wanted for stretch in stretches]))


def forward_packed(model: ViSpeakModel, embeds_1TD: Tensor, angles: Angles, stretches: Sequence[Stretch]) -> Tensor:
    """Combined embeddings of all stretches to final hidden states of the wanted rows, [1, sum of them, D]."""
    hidden_1TD = embeds_1TD
    layers = cast("list[Layer]", list(model.model.layers))
    last = len(layers) - 1
    for index, layer in enumerate(layers):
        hidden_1TD = layer.forward_packed(hidden_1TD, angles, stretches, index, index == last)
    return model.model.norm(hidden_1TD)
