"""Passes of fixed sizes over a ring's whole buffers, which a GPU replays as CUDA graphs.

A graph repeats the same kernels on the same addresses, so all that changes from pass to pass is filled into inputs that
stay where they are: embeddings, rows, positions, angles. What rows see follows from the positions, inside the pass. A
request that is shorter than the size is padded in front; padding goes to the ring's scratch row, which nobody sees.
The same callable runs eagerly too, which is how it is compared with the plain pass where there is no GPU.

Shape legend: T rows of the pass, Q those whose output is wanted, C rows of the ring's buffers, D hidden, E head width.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vispeak_node.model.language import Stretch, rotary_angles
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.capture import capture, opening
from vispeak_node.runtime.fused_layers import FusedLayers, fused_layers
from vispeak_node.runtime.passes import forward_packed, run_alone
from vispeak_node.runtime.requests import PassRequest
from vispeak_node.runtime.ring import RingCache
from vispeak_node.runtime.transfer import fill
from vispeak_node.runtime.weight_kernels import KERNEL_ERRORS

logger = logging.getLogger(__name__)

SIZES = (1, 16, 64, 65, 72, 78, 80, 128)  # rows for which a pass may be made
_MOST_WANTED = 2  # a decision looks at the last two rows of a segment


class StaticPass:
    """A pass of so many rows over a ring's whole buffers; implements `KeyValueCache` and `MaskedCache` for its layers.

    Args:
        model: from `load_model`.
        ring: whose buffers are read and written; its rows must have been placed before a call.
        size: rows.
        fused: the way through the layers; torch's by default.
    """

    def __init__(self, model: ViSpeakModel, ring: RingCache, size: int, fused: FusedLayers | None = None) -> None:
        self._model, self._ring, self.size, self._fused = model, ring, size, fused
        config, device = model.config.language, model.device
        capacity = ring.positions.shape[0]
        self._places = torch.zeros(2 * size + capacity, dtype=torch.long, device=device)
        self._rows_T, self._positions_T, self._positions_C = self._places.split([size, size, capacity])
        self._rows_T.fill_(ring.scratch)
        self._angles_2TE = torch.zeros(2, size, config.head_dim, dtype=model.dtype, device=device)
        self._embeds_1TD = torch.zeros(1, size, config.hidden_size, dtype=model.dtype, device=device)
        self._mask_TC = torch.zeros(size, capacity, dtype=torch.bool, device=device)
        self._wanted = min(size, _MOST_WANTED)

    def run(self, request: PassRequest) -> Tensor:
        """Final hidden states [wanted, D] of a request of at most `size` rows."""
        self._fill(request)
        # a copy: the next pass writes its result to the same place
        return self._compute()[-request.wanted :].clone()

    def append(self, layer: int, keys_BKTE: Tensor, values_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """See `KeyValueCache.append`; all rows of the buffers, [1, K, C, E] each."""
        keys, values = self._ring.buffers(layer)
        keys.index_copy_(2, self._rows_T, keys_BKTE)
        values.index_copy_(2, self._rows_T, values_BKTE)
        return keys, values

    def visible(self, wanted: int) -> Tensor:
        """See `MaskedCache.visible`."""
        return self._mask_TC[-wanted:]

    def _fill(self, request: PassRequest) -> None:
        count, start = request.embeds_TD.shape[0], request.start
        padding = self.size - count
        places = (
            torch.full((padding,), self._ring.scratch),
            self._ring.placed,
            torch.full((padding,), start),  # padding must see something, or its softmax has no sum
            torch.arange(start, start + count),
            self._ring.positions,
        )
        fill(self._places, torch.cat(places))
        host = torch.empty(0, dtype=self._model.dtype)
        angles = rotary_angles(self._model.config.language, start, count, host)
        fill(self._angles_2TE[:, padding:], torch.stack(angles))
        if padding:
            self._embeds_1TD[:, :padding].zero_()
        self._embeds_1TD[0, padding:].copy_(request.embeds_TD)

    def _compute(self) -> Tensor:
        """The pass itself, [Q, D]: nothing here depends on values that only the host knows."""
        if self._fused is not None:
            places = self._rows_T, self._positions_T, self._positions_C
            with torch.cuda.device_of(self._places):
                return self._fused(self._embeds_1TD[0], self._angles_2TE, *places, self._wanted)
        torch.le(self._positions_C[None], self._positions_T[:, None], out=self._mask_TC)
        angles = self._angles_2TE[0], self._angles_2TE[1]
        stretch = Stretch(self, self.size, self._wanted)
        return forward_packed(self._model, self._embeds_1TD, angles, [stretch])[0]


class GraphedPass(StaticPass):
    """The same, captured once and replayed.

    Args:
        fused: the way through the layers, or torch's.
        pool: a handle of memory that graphs of one session share; they never run at the same time.
        stream: on which all of them are captured.

    Raises:
        RuntimeError: something in the pass cannot be captured.
    """

    def __init__(
        self,
        model: ViSpeakModel,
        ring: RingCache,
        size: int,
        fused: FusedLayers | None,
        pool: Any,
        stream: torch.cuda.Stream,
    ) -> None:
        super().__init__(model, ring, size, fused)
        # every row is padding yet
        self._graph, self._hidden_QD = capture(super()._compute, model.device, pool, stream)

    def _compute(self) -> Tensor:
        self._graph.replay()
        return self._hidden_QD


class StaticPasses:
    """Runs one stream's requests by passes of a few sizes, and those that fit none by the plain pass.

    Args:
        model: from `load_model`.
        passes: of different sizes.
    """

    def __init__(self, model: ViSpeakModel, passes: Sequence[StaticPass]) -> None:
        self._model = model
        self._passes = sorted(passes, key=lambda static: static.size)

    def __call__(self, request: PassRequest) -> Tensor:
        """Final hidden states [wanted, D]."""
        count = request.embeds_TD.shape[0]
        fitting = [static for static in self._passes if static.size >= count]
        if not fitting or request.wanted > min(count, _MOST_WANTED):
            return run_alone(self._model, request)
        return fitting[0].run(request)


def static_passes(model: ViSpeakModel, ring: RingCache, graphs: str, kernels: str = "auto") -> StaticPasses | None:
    """The static passes that a session's stream asks for; None where it reads by plain passes.

    They are made, and captured, before the stream begins: one row for words, and the sizes of a frame, a second of
    sound, and both, with and without the position that the end of a reply leaves over.

    Args:
        model: from `load_model`.
        ring: of the stream.
        graphs: auto (graphs on a GPU, plain passes elsewhere), static (the same passes, not captured), or never.
        kernels: see `fused_layers`.
    """
    if graphs == "never" or (graphs == "auto" and model.device.type != "cuda"):
        return None
    config = model.config
    frame, sound = config.tokens_per_image + 1, config.tokens_per_second + 1
    lengths = [1] + [rows + end for rows in (frame, sound, sound + frame) for end in (0, 1)]
    sizes = sorted({next((size for size in SIZES if size >= length), length) for length in lengths})
    with torch.inference_mode(), opening:
        fused = fused_layers(model, ring, kernels)
        if graphs == "static":
            return StaticPasses(model, [StaticPass(model, ring, size, fused) for size in sizes])
        for way in [fused, None] if fused is not None else [None]:
            try:
                return StaticPasses(model, _captured(model, ring, sizes, way))
            except KERNEL_ERRORS as error:
                name = "kernels" if way is not None else "CUDA graphs"
                logger.warning("no %s, the session reads without: %s", name, str(error).splitlines()[0])
    return None


def _captured(
    model: ViSpeakModel, ring: RingCache, sizes: Sequence[int], fused: FusedLayers | None
) -> list[StaticPass]:
    with torch.cuda.device(model.device):
        pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
        # the largest first: smaller ones find their room in its memory
        return [GraphedPass(model, ring, size, fused, pool, stream) for size in reversed(sizes)]
