"""Which frames of a clip a benchmark shows, and when: one a second, at least 4 and at most 64, as published.

The rule is the one of the published loaders (ViSpeak, video_utils): by frame numbers and the file's average rate, a
frame's time is its number divided by the rate.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from vispeak_node.stream.files import probe, read_file
from vispeak_node.stream.items import FrameItem

logger = logging.getLogger(__name__)

MOST, LEAST = 64, 4  # frames of one clip, as published


@dataclass(frozen=True)
class Clip:
    """The chosen frames of one file."""

    path: Path
    indices: tuple[int, ...]  # frame numbers, ascending; one may repeat in a very short clip
    rate: float  # frames per second of the file

    @property
    def times(self) -> tuple[float, ...]:
        """Of every chosen frame, in seconds of the file."""
        return tuple(index / self.rate for index in self.indices)


def choose_frames(
    rate: float, count: int, start: float, end: float | None, most: int = MOST, least: int = LEAST
) -> list[int]:
    """Frame numbers, ascending, one a second of [start, end].

    Args:
        rate: frames per second of the file.
        count: frames in the file.
        start: of the clip, s.
        end: of the clip, s; none is the file's end.
        most: of more, so many are taken evenly.
        least: of fewer, so many are taken evenly, and frames may repeat.

    Raises:
        ValueError: the clip begins after the file's end.
    """
    first, last = int(start * rate), count - 1
    if end is not None:
        last = int(min(end * rate, last))
    if last < first:
        raise ValueError(f"the clip begins at {start:g} s, but the file has {count} frames at {rate:g} a second")
    positions = range(first, last + 1, max(1, round(rate)))
    if len(positions) > most:
        return [positions[int(index)] for index in np.linspace(0, len(positions) - 1, most, dtype=int)]
    if len(positions) < least:
        return [int(index) for index in np.linspace(first, last, least, dtype=int)]
    return list(positions)


def open_clip(path: Path, start: float, end: float | None, most: int = MOST, least: int = LEAST) -> Clip:
    """Chooses a clip's frames; reads the file's headers, or where they do not say, its packets.

    Raises:
        ValueError: the file is missing, cannot be read, has no video, or ends before the clip begins.
    """
    info = probe(path)
    if not info.has_video or not info.frames_per_second:
        raise ValueError(f"{path}: has no video, or one without a frame rate")
    try:
        indices = choose_frames(info.frames_per_second, _count(path), start, end, most, least)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Clip(path, tuple(indices), info.frames_per_second)


def read_frames(clip: Clip) -> Iterator[NDArray[np.uint8]]:
    """The chosen frames in order, RGB [height, width, 3]; a file that ends early repeats its last frame.

    Raises:
        ValueError: nothing in the file can be decoded.
    """
    wanted = list(reversed(clip.indices))
    last = None
    frames = (item for item in read_file(clip.path) if isinstance(item, FrameItem))
    for index, item in enumerate(frames):
        last = item
        while wanted and wanted[-1] == index:
            yield _picture(item)
            wanted.pop()
        if not wanted:
            return
    if last is None:
        raise ValueError(f"{clip.path}: no frame of it can be decoded")
    logger.warning("%s: ends before the last %d of the chosen frames", clip.path, len(wanted))
    for _ in wanted:
        yield _picture(last)


def _picture(item: FrameItem) -> NDArray[np.uint8]:
    return item.image() if callable(item.image) else item.image


def _count(path: Path) -> int:
    """Frames of the first video track."""
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            stream = container.streams.video[0]
            return stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
