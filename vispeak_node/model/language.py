"""Qwen2 as a stack that reads embeddings: the two streams are combined before it, so it never sees token ids.

Shape legend: B batch, T positions of this call, Q those of them whose output is wanted (the last ones), S positions so
far, D hidden, H heads, K key-value heads, E head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from vispeak_node.model.config import LanguageConfig


class KeyValueCache(Protocol):
    """Where the keys and values of earlier positions live; owned by the runtime."""

    def append(self, layer: int, keys_BKTE: Tensor, values_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """Stores one layer's new entries and returns all of that layer's, [B, K, S, E] each."""
        ...


@runtime_checkable
class MaskedCache(Protocol):
    """A cache whose rows are in no order, or hold nothing: it says itself which of them a position sees."""

    def visible(self, wanted: int) -> Tensor | None:
        """For the last `wanted` positions of this pass and all rows that `append` returned: bool [Q, S].

        None where rows are in order of position, the new ones last.
        """
        ...


@dataclass(frozen=True, eq=False)
class Stretch:
    """Rows of a packed pass that are one stream's, in order."""

    cache: KeyValueCache  # of that stream
    count: int  # rows
    wanted: int  # so many of them, the last ones, are wanted of the last layer


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 whatever the weights' type."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        kv_size = config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, kv_size)
        self.v_proj = nn.Linear(config.hidden_size, kv_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor, angles: Angles, cache: KeyValueCache | None, layer: int, wanted: int) -> Tensor:
        """Keys and values of all positions are stored; the output is that of the last `wanted` ones, [B, Q, D]."""
        T = x_BTD.shape[1]
        cosines, sines = angles
        query_BHQE = rotate(
            self._heads(self.q_proj(x_BTD[:, T - wanted :])), (cosines[T - wanted :], sines[T - wanted :])
        )
        key_BKTE, value_BKTE = rotate(self._heads(self.k_proj(x_BTD)), angles), self._heads(self.v_proj(x_BTD))
        if cache is not None:
            key_BKTE, value_BKTE = cache.append(layer, key_BKTE, value_BKTE)
        return self._mix(attend(query_BHQE, key_BKTE, value_BKTE, visible(cache, wanted, key_BKTE)))

    def forward_packed(
        self, x_1TD: Tensor, angles: Angles, stretches: Sequence[Stretch], layer: int, last: bool
    ) -> Tensor:
        """As `forward`, for rows of several streams: linear layers see all rows at once, attention each its own cache.

        Of all rows [1, T, D], or where this is the last layer of the wanted ones of each stream.
        """
        key_1KTE, value_1KTE = rotate(self._heads(self.k_proj(x_1TD)), angles), self._heads(self.v_proj(x_1TD))
        if last:
            x_1TD = wanted_rows(x_1TD, stretches, 1)
            angles = wanted_rows(angles[0], stretches, 0), wanted_rows(angles[1], stretches, 0)
        query_1HQE = rotate(self._heads(self.q_proj(x_1TD)), angles)
        mixed, row, query = [], 0, 0
        for stretch in stretches:
            wanted = stretch.wanted if last else stretch.count
            rows = slice(row, row + stretch.count)
            keys, values = stretch.cache.append(layer, key_1KTE[:, :, rows], value_1KTE[:, :, rows])
            mask = visible(stretch.cache, wanted, keys)
            mixed.append(attend(query_1HQE[:, :, query : query + wanted], keys, values, mask))
            row, query = row + stretch.count, query + wanted
        return self._mix(torch.cat(mixed, dim=2))

    def _heads(self, x_BTD: Tensor) -> Tensor:
        """[B, T, heads * E] to [B, heads, T, E]."""
        return x_BTD.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _mix(self, mixed_BHQE: Tensor) -> Tensor:
        return self.o_proj(mixed_BHQE.transpose(1, 2).flatten(2))


def visible(cache: KeyValueCache | None, wanted: int, keys_BKSE: Tensor) -> Tensor | None:
    """What the last `wanted` positions see of a cache's rows, bool [Q, S]; None is all before and nothing behind."""
    mask = cache.visible(wanted) if isinstance(cache, MaskedCache) else None
    past = keys_BKSE.shape[2] - wanted
    if mask is None and past and wanted > 1:
        # every wanted position sees all of the past and itself: a lower-right triangle
        mask = torch.ones(wanted, past + wanted, dtype=torch.bool, device=keys_BKSE.device).tril(past)
    return mask


def attend(query_BHQE: Tensor, keys_BKSE: Tensor, values_BKSE: Tensor, mask_QS: Tensor | None) -> Tensor:
    """Grouped-query attention, [B, H, Q, E]; without a mask one query sees all, several are causal among themselves."""
    B, H, Q, E = query_BHQE.shape
    K = keys_BKSE.shape[1]
    if mask_QS is None and Q > 1:
        keys_BHSE, values_BHSE = (x.repeat_interleave(H // K, dim=1) for x in (keys_BKSE, values_BKSE))
        return functional.scaled_dot_product_attention(query_BHQE, keys_BHSE, values_BHSE, is_causal=True)
    # queries that share keys become rows of one head: nothing that is as long as the past is copied
    rows_BKRE = query_BHQE.reshape(B, K, H // K * Q, E)
    mask_RS = mask_QS.repeat(H // K, 1) if mask_QS is not None and Q > 1 else mask_QS
    return functional.scaled_dot_product_attention(rows_BKRE, keys_BKSE, values_BKSE, attn_mask=mask_RS).view(
        B, H, Q, E
    )


def wanted_rows(rows: Tensor, stretches: Sequence[Stretch], dim: int) -> Tensor:
    """The last rows of each stretch, as many as are wanted."""
    parts = rows.split([stretch.count for stretch in stretches], dim)
    return torch.cat(
        [part.narrow(dim, s.count - s.wanted, s.wanted) for part, s in zip(parts, stretches, strict=True)], dim
    )


class MLP(nn.Module):
    """The gated feed-forward of Qwen2."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x_BTD: Tensor, angles: Angles, cache: KeyValueCache | None, layer: int, wanted: int | None = None
    ) -> Tensor:
        """Of all positions [B, T, D], or of the last `wanted` ones [B, Q, D]."""
        wanted = x_BTD.shape[1] if wanted is None else wanted
        mixed_BQD = self.self_attn(self.input_layernorm(x_BTD), angles, cache, layer, wanted)
        x_BQD = x_BTD[:, x_BTD.shape[1] - wanted :] + mixed_BQD
        return x_BQD + self.mlp(self.post_attention_layernorm(x_BQD))

    def forward_packed(
        self, x_1TD: Tensor, angles: Angles, stretches: Sequence[Stretch], layer: int, last: bool
    ) -> Tensor:
        """See `Attention.forward_packed`."""
        mixed_1QD = self.self_attn.forward_packed(self.input_layernorm(x_1TD), angles, stretches, layer, last)
        x_1QD = (wanted_rows(x_1TD, stretches, 1) if last else x_1TD) + mixed_1QD
        return x_1QD + self.mlp(self.post_attention_layernorm(x_1QD))


Angles = tuple[Tensor, Tensor]  # cosines and sines, [T, E] each


def rotary_angles(config: LanguageConfig, start: int, count: int, like: Tensor) -> Angles:
    """Cosines and sines for positions start..start+count-1, in the type and place of `like`.

    The angles are float64: in float32 they are off by 0.7 in the attention score at position 1e6 (an hour of video).
    """
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float64, device="cpu") / config.head_dim
    frequencies = config.rope_theta**-exponents
    positions = torch.arange(start, start + count, dtype=torch.float64, device="cpu")
    angles = torch.outer(positions, frequencies)
    angles = torch.cat([angles, angles], dim=-1)
    # the device is not waited for; the host's side of the copy is taken at once
    cosines, sines = (part.to(like.device, like.dtype, non_blocking=True) for part in (angles.cos(), angles.sin()))
    return cosines, sines


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Rotary embedding in Qwen2's half-split layout, [..., T, E] in and out."""
    cosines, sines = angles
    left, right = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-right, left], dim=-1) * sines
