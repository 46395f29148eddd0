"""Frames as the tower takes them, and the same scene through another camera."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vispeak_node.model.preprocess import IMAGE_MEAN, IMAGE_STD

_SHIFT = 0.1  # share of the size
_ZOOM = 0.15  # likewise
_TURN = 6.0  # degrees
_GAIN = 0.3  # share of a colour's contrast
_LIGHT = 0.08  # share of the whole range
_ANY_HUE = 0.5  # share of pictures
_HUE = 0.3  # radians, of the others
_SATURATION = (0.4, 1.3)


def normalised(frames: NDArray[np.uint8]) -> Tensor:
    """uint8 [n, size, size, 3] to what the tower takes, float32 [n, 3, size, size]."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float().div_(255)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    return pixels.sub_(mean).div_(deviation)


def changed(
    frames: NDArray[np.uint8], keypoints: NDArray[np.float32], generator: torch.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames of one clip or of many, each as another camera would have seen it.

    Args:
        frames: uint8 [n, size, size, 3].
        keypoints: float32 [n, k, 2] pixels right and down.
        generator: every frame draws its own change.

    Returns:
        Frames and keypoints of the same shapes.
    """
    pixels, moved = jitter(torch.from_numpy(frames).permute(0, 3, 1, 2).float(), keypoints, generator)
    pixels = recolour(pixels, generator)
    return pixels.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy(), moved


def jitter(
    pixels: Tensor, keypoints: NDArray[np.float32], generator: torch.Generator
) -> tuple[Tensor, NDArray[np.float32]]:
    """Mirrors half of the frames, and shifts, zooms and turns each a little, with their keypoints.

    Args:
        pixels: float32 [n, 3, size, size].
        keypoints: [n, k, 2] pixels right and down.
        generator: every frame draws its own change.

    Returns:
        The changed ones; the border's pixels fill what comes in from outside.
    """
    count, size = len(pixels), pixels.shape[-1]

    def draw(reach: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * reach

    mirror = torch.where(draw(1.0) < 0, -1.0, 1.0)
    zoom, angle = 1 + draw(_ZOOM), torch.deg2rad(draw(_TURN))
    shift = torch.stack([draw(_SHIFT), draw(_SHIFT)], -1) * size
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).reshape(count, 2, 2)
    # where a new pixel comes from, seen from the middle: mirror . turn . (new - shift) / zoom
    back = torch.diag_embed(torch.stack([mirror, torch.ones(count)], -1)) @ turn / zoom[:, None, None]
    offset = -(back @ (shift / (size / 2))[:, :, None])
    grid = functional.affine_grid(torch.cat([back, offset], -1), list(pixels.shape), align_corners=False)
    seen = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    centred = torch.from_numpy(keypoints).float() - size / 2
    moved = torch.einsum("nij,nkj->nki", torch.linalg.inv(back), centred) + shift[:, None]
    return seen, (moved + size / 2).numpy()


def recolour(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Changes each picture's colours and brightness; float32 [n, 3, size, size] of 0 to 255.

    Half of the pictures have their hues turned by any angle, the others by a few degrees: whoever has only seen green
    shirts should know a person in a purple one.
    """
    count = len(pixels)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    angle = torch.where(draw(0, 1) < _ANY_HUE, draw(-math.pi, math.pi), draw(-_HUE, _HUE))
    grey = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    # turned about the axis of greys (Rodrigues), and more or less saturated
    coloured = torch.eye(3) - grey
    turned = angle.cos()[:, None, None] * coloured + angle.sin()[:, None, None] * cross
    mixing = draw(1 - _GAIN, 1 + _GAIN, 3, 1) * (grey + draw(*_SATURATION, 1, 1) * turned)
    light = draw(-_LIGHT, _LIGHT, 1, 1) * 255
    flat = pixels.flatten(2) - 127.5
    return torch.baddbmm(127.5 + light, mixing, flat).view_as(pixels)
