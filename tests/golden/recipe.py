"""Weights and inputs of the recorded runs, made from numpy alone so that only the results need to be stored.

A tensor's numbers come from PCG64 seeded with the crc32 of its name: 24 random bits each, spread evenly around `loc`
with standard deviation `scale`, which depend on what the tensor is.
"""

from __future__ import annotations

import zlib

import numpy as np

_NORMS = (
    "norm.weight", "layernorm.weight", "norm1.weight", "norm2.weight", "after_norm.weight",
    "embed.1.weight", "bn2.weight", ".ls1", ".ls2",
)  # fmt: skip
_SHARP = ("q_proj.weight", "k_proj.weight", "linear_q.weight", "linear_k.weight", "linear_pos.weight", "qkv.weight")
_FIXED = (
    ("global_cmvn.mean", (12.0, 2.0)),
    ("global_cmvn.istd", (0.3, 0.02)),
    *((suffix, (1.0, 0.05)) for suffix in _NORMS),
    ("embed_tokens.weight", (0.0, 0.5)),
    ("class_embedding", (0.0, 0.5)),
    ("position_embedding", (0.0, 0.5)),
    ("pos_bias_u", (0.0, 0.3)),
    ("pos_bias_v", (0.0, 0.3)),
)
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


def tensor(name, shape):
    """float32 values of a named tensor."""
    loc, scale = next((value for suffix, value in _FIXED if name.endswith(suffix)), (0.0, None))
    if scale is None:
        scale = 0.1 if len(shape) == 1 else (2.0 if name.endswith(_SHARP) else 1.0) / np.sqrt(int(np.prod(shape[1:])))
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    unit = (raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    spread = ((np.float32(2) * unit - np.float32(1)) * np.float32(np.sqrt(3.0))).reshape(shape)
    return (np.float32(loc) + np.float32(scale) * spread).astype(np.float32)


def image(k=0, width=640, height=480):
    """uint8 test picture number k: gradients, a pattern and a disk that moves with k."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    picture = np.stack(
        [
            (x * 255) // (width - 1),
            ((y * 255) // (height - 1) + 40 * k) % 256,
            ((x // 16 + y // 16 + k) % 2) * 160 + ((x * y + 31 * k) % 96),
        ],
        -1,
    )
    disk = (x - (80 + 110 * k) % width) ** 2 + (y - height // 2) ** 2 < 70 * 70
    picture[disk] = np.array([255 - 35 * k, 30 + 20 * k, 200])
    return np.clip(picture, 0, 255).astype(np.uint8)


def waveform(seconds=1, k=0):
    """float32 sound number k: two chirps and a little noise."""
    count = int(seconds * 16000)
    t = np.arange(count, dtype=np.float64) / 16000
    noise = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(97 * k)) % np.uint64(1 << 32)
    wave = 0.3 * np.sin(2 * np.pi * (220 + 60 * k + 90 * t) * t)
    wave = wave + 0.15 * np.sin(2 * np.pi * (1800 - 400 * t) * t) * (1 + np.sin(2 * np.pi * 3 * t)) / 2
    return (wave + (noise.astype(np.float64) / 2**32 - 0.5) * 0.02).astype(np.float32)


def pixels(k=0):
    """float32 [3, 448, 448] of picture k, which needs no resizing."""
    scaled = image(k, 448, 448).astype(np.float32) * np.float32(1 / 255)
    return np.ascontiguousarray(((scaled - _MEAN) / _STD).transpose(2, 0, 1)).astype(np.float32)
