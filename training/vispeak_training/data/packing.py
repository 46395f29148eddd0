"""Packing: short offline samples joined into longer ones, once and offline, as stage 1's text, picture and sound sets.

Joined samples share one system prompt and read each other; there is no mask between them.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Sequence
from typing import Any

from vispeak_node.model.fbank import SAMPLE_RATE
from vispeak_node.model.preprocess import tile_image
from vispeak_node.model.tokens import Vocabulary
from vispeak_training.data.media import read_image, read_sound
from vispeak_training.data.record import Record

MOST = 5800  # positions of a joined sample
SECOND = 12.5  # positions that a second of sound is taken for
_MARKS = re.compile("<image>|<audio>|<video>")


def packed_length(record: Record, vocabulary: Vocabulary, tokens_per_image: int, tile_size: int) -> float:
    """Positions that a sample is taken for: text, tiles, and seconds of sound rounded up to an even number.

    Raises:
        SampleError: a file is missing or cannot be read.
    """
    text = sum(len(vocabulary.encode(_MARKS.sub("", turn.text))) for turn in record.turns)
    tiles = sum(len(tile_image(read_image(path), tile_size)) for path in record.images)
    seconds = sum(2 * math.ceil(len(read_sound(path)) / SAMPLE_RATE / 2) for path in record.sounds)
    return text + tokens_per_image * tiles + SECOND * seconds


def group(lengths: Sequence[float], order: Iterable[int], most: float = MOST) -> list[list[int]]:
    """Consecutive samples in the given order, joined greedily while their lengths add up to at most `most`."""
    groups: list[list[int]] = []
    total = math.inf
    for index in order:
        if total + lengths[index] > most:
            groups.append([])
            total = 0.0
        groups[-1].append(index)
        total += lengths[index]
    return groups


def pack(entries: Sequence[dict[str, Any]], lengths: Sequence[float], seed: int = 42, most: float = MOST) -> list[Any]:
    """Entries of an annotation file, mixed and joined.

    Args:
        entries: as the JSON holds them; offline, without video.
        lengths: of each, positions.
        seed: of the mixing.
        most: positions of a joined entry; a longer one stays alone.

    Raises:
        ValueError: an entry has a video.
    """
    if any("video" in entry for entry in entries):
        raise ValueError("samples with a video cannot be packed")
    order = list(range(len(entries)))
    random.Random(seed).shuffle(order)
    return [_joined([entries[index] for index in indices]) for indices in group(lengths, order, most)]


def _joined(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = {"conversations": [turn for entry in entries for turn in entry["conversations"]]}
    for key in ("image", "audio"):
        files: list[str] = []
        for entry in entries:
            value = entry.get(key) or []
            files += [value] if isinstance(value, str) else value
        if files:
            joined[key] = files
    return joined
