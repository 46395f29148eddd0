"""A pass through the decoder's layers with ten kernels a layer, for static passes on a GPU.

Four are matrix products, on the layers' own weights, plain or quantised (`merged_linear`); the others are
`layer_kernels`.

Shape legend: T rows of the pass, Q the last ones of them, whose output is wanted, N all heads of a row, H heads of its
query, K key-value heads, E head width, C rows of the ring's buffers, D hidden.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from vispeak_node.model.language import Layer, RMSNorm
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime import layer_kernels
from vispeak_node.runtime.merged_linear import Product, merge
from vispeak_node.runtime.ring import RingCache

_OTHER_PROCESSORS = 8  # where Triton only interprets, on a CPU


class FusedLayers:
    """All layers over a ring's whole buffers.

    Args:
        model: from `load_model`; weights that are multiplied together are laid together.
        ring: whose buffers are read and written.
    """

    def __init__(self, model: ViSpeakModel, ring: RingCache) -> None:
        self._layers = cast("list[Layer]", list(model.model.layers))
        self._heads = [_heads_of(layer) for layer in self._layers]
        self._gates = [_gate_of(layer) for layer in self._layers]
        self._norm: RMSNorm = model.model.norm
        self._ring = ring
        config = model.config.language
        self._num_heads, self._head_dim = config.num_heads + 2 * config.num_kv_heads, config.head_dim
        cuda = model.device.type == "cuda"
        self._processors = (
            torch.cuda.get_device_properties(model.device).multi_processor_count if cuda else _OTHER_PROCESSORS
        )

    def __call__(
        self,
        embeds_TD: Tensor,
        angles_2TE: Tensor,
        rows_T: Tensor,
        positions_T: Tensor,
        positions_C: Tensor,
        wanted: int,
    ) -> Tensor:
        """Final hidden states of the last `wanted` rows, [Q, D]; the model's device must be the current one.

        Args:
            embeds_TD: both streams, combined.
            angles_2TE: cosines and sines.
            rows_T: of the buffers, for the pass's keys and values.
            positions_T: of the pass's rows.
            positions_C: of the buffers' rows, those of the pass included.
            wanted: rows.
        """
        x_TD, delta_TD = embeds_TD, None
        for index, layer in enumerate(self._layers):
            x_TD, y_TD = _norm(layer.input_layernorm, x_TD, delta_TD)
            heads_TNE = self._heads[index](y_TD).view(-1, self._num_heads, self._head_dim)
            if index == len(self._layers) - 1:
                x_TD = x_TD[-wanted:]
            keys_1KCE, values_1KCE = self._ring.buffers(index)
            cache = keys_1KCE[0], values_1KCE[0]
            query_QHE = layer_kernels.turn_and_store(heads_TNE, angles_2TE, rows_T, *cache, len(x_TD))
            bounds_Q = positions_T[-len(x_TD) :]
            mixed_QD = layer_kernels.attend(query_QHE, *cache, bounds_Q, positions_C, self._processors)
            x_TD, y_TD = _norm(layer.post_attention_layernorm, x_TD, layer.self_attn.o_proj(mixed_QD))
            delta_TD = layer.mlp.down_proj(layer_kernels.gate(self._gates[index](y_TD)))
        return _norm(self._norm, x_TD, delta_TD)[1]


def _norm(norm: RMSNorm, x_TD: Tensor, delta_TD: Tensor | None) -> tuple[Tensor, Tensor]:
    return layer_kernels.add_norm(x_TD, delta_TD, norm.weight, norm.eps)


def _heads_of(layer: Layer) -> Product:
    attention = layer.self_attn
    return merge([attention.q_proj, attention.k_proj, attention.v_proj])


def _gate_of(layer: Layer) -> Product:
    return merge([layer.mlp.gate_proj, layer.mlp.up_proj])


def fused_layers(model: ViSpeakModel, ring: RingCache, kernels: str) -> FusedLayers | None:
    """The kernels' way through the layers; None where torch's is taken.

    Args:
        model: from `load_model`.
        ring: of the stream.
        kernels: auto (where Triton's kernels run) or never.
    """
    if model.device.type != "cuda":
        return None
    # made even where it is not taken: a graph of torch's layers, captured first, would read on where the weights were
    fused = FusedLayers(model, ring)
    works = kernels == "auto" and layer_kernels.works(model.device, model.dtype, model.config.language)
    return fused if works else None
