"""Video and sound files as items, through PyAV: any container and codec that FFmpeg knows.

Each track is read by a decoder of its own and the items are merged by stamp. A file's tracks may be stored far apart
(all pictures, then all sound), and what a stream gives must not depend on how a file was written.
"""

from __future__ import annotations

import functools
import heapq
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from vispeak_node.stream.events import NANOSECONDS, seconds
from vispeak_node.stream.items import FrameItem, Item, SoundItem

logger = logging.getLogger(__name__)

_MAX_BROKEN = 100  # packets of a track, after which the rest is not tried
_USUAL_RATE = 25  # frames per second of a video that does not say


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
        return _info(container)


def read_file(path: str | Path) -> Iterator[Item]:
    """The first video and the first sound track in the order of their stamps, in ns from the file's beginning.

    Pictures are converted only when they are asked for. A file that ends or breaks half-way gives what can be decoded,
    and a warning.

    Raises:
        ValueError: it is missing, empty, nothing that can be watched or heard, or not one frame of it can be decoded.
    """
    path = Path(path)
    with _open(path) as container:
        info = _info(container)
        begin = _begin(_tracks(container))
        tracks = [_Track(path, number, begin) for number in range(len(_tracks(container)))]
    yield from heapq.merge(*(track.items() for track in tracks), key=lambda item: item.stamp)
    if not any(track.decoded for track in tracks):
        raise ValueError(f"{path}: nothing in it can be decoded")
    end = seconds(max(track.end for track in tracks))
    if info.duration - end > max(1.0, info.duration / 20):
        logger.warning("%s: ends at %.1f s, though it says it lasts %.1f s", path, end, info.duration)


class _Track:
    """One track of a file, with a decoder of its own."""

    def __init__(self, path: Path, number: int, begin: Fraction) -> None:
        self._path = path
        self._number = number
        self._begin = begin  # s, what stamps count from
        self.decoded = 0
        self.end = 0  # ns, of the last frame or samples
        self._broken = 0
        self._converter = _new_converter()

    def items(self) -> Iterator[FrameItem | SoundItem]:
        with _open(self._path) as container:
            stream = _tracks(container)[self._number]
            stream.codec_context.thread_type = "AUTO"
            for frame in self._frames(container, stream):
                stamp = self._stamp(frame)
                self.decoded += 1
                if isinstance(frame, av.VideoFrame):
                    self.end = stamp + _duration(frame, stream)
                    yield FrameItem(stamp, functools.partial(to_rgb, frame))
                elif len(samples := self._samples(frame)):
                    self.end = stamp + len(samples) * NANOSECONDS // frame.sample_rate
                    yield SoundItem(stamp, samples, frame.sample_rate)
        if self._broken and self.decoded:
            logger.warning("%s: %d damaged packets were left out", self._path, self._broken)

    def _frames(
        self, container: av.container.InputContainer, stream: av.VideoStream | av.AudioStream
    ) -> Iterator[av.VideoFrame | av.AudioFrame]:
        """Everything that can be decoded, around what cannot."""
        packets = container.demux(stream)
        while self._broken <= _MAX_BROKEN:
            try:
                packet = next(packets)
                frames = packet.decode()
            except (StopIteration, av.error.EOFError):
                return
            except av.error.FFmpegError:
                self._broken += 1
                continue
            yield from (frame for frame in frames if isinstance(frame, av.VideoFrame | av.AudioFrame))

    def _samples(self, frame: av.AudioFrame) -> NDArray[np.float32]:
        """Samples of any type as float32 [samples, channels].

        Channels and rate stay: the segmenter makes mono in the same way of live sound. FFmpeg would take sqrt(1/2) of
        the sum of two channels, which is louder and clips.
        """
        for _ in range(2):
            try:
                parts = [
                    part.to_ndarray().reshape(-1, part.layout.nb_channels) for part in self._converter.resample(frame)
                ]
                return np.concatenate(parts).astype(np.float32, copy=False)
            except (av.error.FFmpegError, ValueError):  # the track changed its format, which a converter cannot follow
                self._converter = _new_converter()
        self._broken += 1
        return np.zeros((0, 1), np.float32)

    def _stamp(self, frame: av.VideoFrame | av.AudioFrame) -> int:
        """ns; a track that has no stamps (a bare H.264 stream) is counted out instead."""
        if frame.pts is None or frame.time_base is None:
            return self.end
        return round((frame.pts * frame.time_base - self._begin) * NANOSECONDS)


def _open(path: Path) -> av.container.InputContainer:
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, not a video file")
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if path.is_file() and not path.stat().st_size:
        raise ValueError(f"{path}: the file is empty")
    try:
        container = av.open(str(path), options={"protocol_whitelist": "file"})  # a play list must not reach the network
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a video or sound file that can be read ({_reason(error)})") from error
    if container.format.name == "tty":  # FFmpeg would paint a text file's letters
        container.close()
        raise ValueError(f"{path}: is a text, not a video file")
    if not _tracks(container):
        container.close()
        raise ValueError(f"{path}: holds neither video nor sound")
    return container


def _new_converter() -> av.AudioResampler:
    return av.AudioResampler(format="flt")


def _tracks(container: av.container.InputContainer) -> list[av.VideoStream | av.AudioStream]:
    """The first video and the first sound track; a cover picture is no video."""
    covers = av.stream.Disposition.attached_pic
    video = [stream for stream in container.streams.video if not stream.disposition & covers]
    return [*video[:1], *container.streams.audio[:1]]


def _info(container: av.container.InputContainer) -> FileInfo:
    tracks = _tracks(container)
    video = next((track for track in tracks if isinstance(track, av.VideoStream)), None)
    return FileInfo(
        duration=(container.duration or 0) / av.time_base,
        has_video=video is not None,
        has_sound=any(isinstance(track, av.AudioStream) for track in tracks),
        width=video.width if video else 0,
        height=video.height if video else 0,
        frames_per_second=float(video.average_rate or 0) if video else 0.0,
    )


def _begin(streams: list[av.VideoStream | av.AudioStream]) -> Fraction:
    starts = [s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base is not None]
    return min(starts) if starts else Fraction(0)


def _duration(frame: av.VideoFrame, stream: av.VideoStream | av.AudioStream) -> int:
    """How long a frame is shown, ns."""
    if frame.duration and frame.time_base:
        return round(frame.duration * frame.time_base * NANOSECONDS)
    return round(NANOSECONDS / Fraction(getattr(stream, "average_rate", None) or _USUAL_RATE))


def to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A decoded frame as it is meant to be seen, RGB uint8 [height, width, 3], turned as its metadata say.

    Raises:
        ValueError: its pixels cannot be converted.
    """
    try:
        picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"a decoded frame cannot be converted to RGB ({_reason(error)})") from error
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4  # both count against the clock
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]
