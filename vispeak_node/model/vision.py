"""InternViT, pixel shuffle, pooling and the projector: pixels to a frame's rows of the user stream.

Shape legend: B batch, C channels, H and W pixels or grid cells, N tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vispeak_node.model.config import VisionConfig

FEATURE_SCALE = 0.5  # the published tower multiplies its features by this before the shuffle


class Embeddings(nn.Module):
    """Patches, the class token and learned positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        positions = config.grid_size**2 + 1
        self.class_embedding = nn.Parameter(torch.randn(1, 1, config.hidden_size) * 0.02)
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, config.patch_size, config.patch_size)
        self.position_embedding = nn.Parameter(torch.randn(1, positions, config.hidden_size) * 0.02)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        patches_BND = self.patch_embedding(pixels_BCHW).flatten(2).transpose(1, 2)
        first_B1D = self.class_embedding.expand(patches_BND.shape[0], -1, -1)
        return torch.cat([first_B1D, patches_BND], dim=1) + self.position_embedding


class Attention(nn.Module):
    """Full attention with one matrix for queries, keys and values."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x_BND: Tensor) -> Tensor:
        B, N, D = x_BND.shape
        query, key, value = self.qkv(x_BND).view(B, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(B, N, D))


class MLP(nn.Module):
    """Two layers with exact GELU."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Layer(nn.Module):
    """Pre-norm layer whose branches are scaled by learned vectors."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = Attention(config)
        self.mlp = MLP(config)
        self.ls1 = nn.Parameter(torch.ones(config.hidden_size))
        self.ls2 = nn.Parameter(torch.ones(config.hidden_size))

    def forward(self, x_BND: Tensor) -> Tensor:
        x_BND = x_BND + self.ls1 * self.attn(self.norm1(x_BND))
        return x_BND + self.ls2 * self.mlp(self.norm2(x_BND))


class Encoder(nn.Module):
    """The stack of layers; a module of its own because the checkpoint names it so."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))

    def forward(self, x_BND: Tensor) -> Tensor:
        for layer in self.layers:
            x_BND = layer(x_BND)
        return x_BND


class InternViT(nn.Module):
    """OpenGVLab/InternViT-300M-448px; the last hidden state has no final norm."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels [B, 3, S, S] to hidden states [B, 1 + patches, D], the class token first."""
        return self.encoder(self.embeddings(pixels_BCHW))


class VisionTower(nn.Module):
    """InternViT with its patches folded two by two into tokens."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.vision_tower = InternViT(config)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels [B, 3, S, S] to features [B, (grid/2)^2, 4 D]."""
        patches_BND = self.vision_tower(pixels_BCHW)[:, 1:] * FEATURE_SCALE
        return pixel_shuffle(patches_BND)


def pixel_shuffle(patches_BND: Tensor) -> Tensor:
    """Folds every 2x2 square of patches into one token of four times the width, in the published channel order."""
    B, N, D = patches_BND.shape
    half = int(N**0.5) // 2
    squares = patches_BND.view(B, half, 2, half, 2, D)  # row, row in square, column, column in square
    return squares.permute(0, 1, 3, 2, 4, 5).reshape(B, half * half, 4 * D)


def pool(features_BND: Tensor, pooling_size: int) -> Tensor:
    """Shrinks the square of tokens by bilinear interpolation, before the projector as in training."""
    if pooling_size == 1:
        return features_BND
    B, N, D = features_BND.shape
    side = int(N**0.5)
    grid_BDHW = features_BND.transpose(1, 2).reshape(B, D, side, side)
    small = side // pooling_size
    pooled_BDHW = functional.interpolate(grid_BDHW, size=(small, small), mode="bilinear", align_corners=False)
    return pooled_BDHW.flatten(2).transpose(1, 2)


def build_projector(feature_size: int, hidden_size: int) -> nn.Sequential:
    """The published mlp2x_gelu."""
    return nn.Sequential(nn.Linear(feature_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
