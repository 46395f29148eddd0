"""Qwen2 as a stack that reads embeddings: the two streams are combined before it, so it never sees token ids.

Shape legend: B batch, T positions of this call, Q those of them whose output is wanted (the last ones), S positions so
far, D hidden, H heads, K key-value heads, E head width.
"""

from __future__ import annotations

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
        B, T, D = x_BTD.shape
        query_BHQE = self.q_proj(x_BTD[:, T - wanted :]).view(B, wanted, self.num_heads, self.head_dim).transpose(1, 2)
        key_BKTE = self.k_proj(x_BTD).view(B, T, self.num_kv_heads, self.head_dim).transpose(1, 2)
        value_BKTE = self.v_proj(x_BTD).view(B, T, self.num_kv_heads, self.head_dim).transpose(1, 2)
        cosines, sines = angles
        query_BHQE = rotate(query_BHQE, (cosines[T - wanted :], sines[T - wanted :]))
        key_BKTE = rotate(key_BKTE, angles)
        if cache is not None:
            key_BKTE, value_BKTE = cache.append(layer, key_BKTE, value_BKTE)
        past = key_BKTE.shape[2] - wanted
        mask = cache.visible(wanted) if isinstance(cache, MaskedCache) else None
        if mask is None and past and wanted > 1:
            # every wanted position sees all of the past and itself: a lower-right triangle
            mask = torch.ones(wanted, past + wanted, dtype=torch.bool, device=x_BTD.device).tril(past)
        groups = self.num_heads // self.num_kv_heads
        mixed_BHQE = functional.scaled_dot_product_attention(
            query_BHQE,
            key_BKTE.repeat_interleave(groups, dim=1),
            value_BKTE.repeat_interleave(groups, dim=1),
            attn_mask=mask,
            is_causal=mask is None and wanted > 1,
        )
        return self.o_proj(mixed_BHQE.transpose(1, 2).reshape(B, wanted, D))


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
    return angles.cos().to(like.device, like.dtype), angles.sin().to(like.device, like.dtype)


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Rotary embedding in Qwen2's half-split layout, [..., T, E] in and out."""
    cosines, sines = angles
    left, right = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-right, left], dim=-1) * sines
