"""Video and sound files as items, through PyAV: any container and codec that FFmpeg knows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from vispeak_node.stream.events import NANOSECONDS
from vispeak_node.stream.items import FrameItem, Item, SoundItem

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileInfo:
    """What a file says of itself."""

    duration: float  # s; 0 if it does not say
    has_video: bool
    has_sound: bool
    width: int  # pixels, as stored
    height: int
    frames_per_second: float  # on average


def probe(path: str | Path) -> FileInfo:
    """Reads a file's headers.

    Raises:
        ValueError: it is missing, empty, or nothing that can be watched or heard.
    """
    with _open(Path(path)) as container:
        video = container.streams.video[0] if container.streams.video else None
        return FileInfo(
            duration=(container.duration or 0) / av.time_base,
            has_video=video is not None,
            has_sound=bool(container.streams.audio),
            width=video.width if video else 0,
            height=video.height if video else 0,
            frames_per_second=float(video.average_rate or 0) if video else 0.0,
        )


def read_file(path: str | Path) -> Iterator[Item]:
    """The first video and the first sound track, in file order, with stamps in ns from the file's beginning.

    A file that ends or breaks half-way gives what can be decoded, and a warning.

    Raises:
        ValueError: it is missing, empty, nothing that can be watched or heard, or not one frame of it can be decoded.
    """
    path = Path(path)
    with _open(path) as container:
        streams = [*container.streams.video[:1], *container.streams.audio[:1]]
        for stream in streams:
            stream.thread_type = "AUTO"
        begin = _begin(container, streams)
        resampler = av.AudioResampler(format="flt", layout="mono")  # same rate: the segmenter resamples
        count = 0
        for frame in _decode(container, streams, path):
            items = _items(frame, begin, resampler)
            count += len(items)
            yield from items
        if not count:
            raise ValueError(f"{path}: nothing in it can be decoded")


def _open(path: Path) -> av.container.InputContainer:
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, not a video file")
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if path.is_file() and not path.stat().st_size:
        raise ValueError(f"{path}: the file is empty")
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a video or sound file that can be read ({_reason(error)})") from error
    if not container.streams.video and not container.streams.audio:
        container.close()
        raise ValueError(f"{path}: holds neither video nor sound")
    return container


def _begin(container: av.container.InputContainer, streams: list[av.stream.Stream]) -> Fraction:
    starts = [s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base is not None]
    return min(starts) if starts else Fraction(0)


def _decode(
    container: av.container.InputContainer, streams: list[av.stream.Stream], path: Path
) -> Iterator[av.VideoFrame | av.AudioFrame]:
    decoded, broken = 0, 0
    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets)
            frames = packet.decode()
        except StopIteration:
            break
        except av.error.EOFError:
            break
        except (av.error.InvalidDataError, av.error.FFmpegError) as error:
            broken += 1
            if broken > 100:
                logger.warning("%s: too much of it is damaged (%s)", path, _reason(error))
                break
            continue
        for frame in frames:
            if isinstance(frame, av.VideoFrame | av.AudioFrame):
                decoded += 1
                yield frame
    if broken and decoded:
        logger.warning("%s: %d damaged packets were left out", path, broken)


def _items(
    frame: av.VideoFrame | av.AudioFrame, begin: Fraction, resampler: av.AudioResampler
) -> list[FrameItem | SoundItem]:
    if frame.pts is None or frame.time_base is None:
        return []
    stamp = round((frame.pts * frame.time_base - begin) * NANOSECONDS)
    if isinstance(frame, av.VideoFrame):
        return [FrameItem(stamp, lambda: to_rgb(frame))]
    samples = [np.ascontiguousarray(part.to_ndarray()[0]) for part in resampler.resample(frame)]
    joined = np.concatenate(samples) if samples else np.zeros(0, np.float32)
    return [SoundItem(stamp, joined, frame.sample_rate)] if joined.size else []


def to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A decoded frame as it is meant to be seen, RGB uint8 [height, width, 3], turned as its metadata say."""
    picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]
