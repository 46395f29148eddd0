"""Pictures, sound files and videos from disk, through Pillow and PyAV. Everything that fails is a SampleError."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import av.error
import numpy as np
import soxr
from numpy.typing import NDArray
from PIL import Image

from vispeak_node.model.fbank import SAMPLE_RATE
from vispeak_node.model.preprocess import MAX_SIDE
from vispeak_node.stream.files import probe, to_rgb
from vispeak_training.data.sample import MEDIA, MISSING, SampleError

MAX_SOUND = 2 * 3600  # s of a track that are read at most
_MAX_PACKETS = 5_000_000  # of a video track
_MAX_BROKEN = 100  # packets of a track, after which the rest is not tried
_LOST = 1.0  # s around a frame that cannot be decoded, in which another may stand in: files end raggedly
_USUAL_RATE = 25  # frames/s of a video that does not say

Result = TypeVar("Result")


def read_image(path: Path) -> NDArray[np.uint8]:
    """A still picture, RGB uint8 [height, width, 3].

    Raises:
        SampleError: it is missing, no picture, or larger than MAX_SIDE.
    """
    _check_there(path)
    try:
        with Image.open(path) as picture:
            if max(picture.size) > MAX_SIDE:
                raise SampleError(MEDIA, f"{path}: {picture.width}x{picture.height}, larger than {MAX_SIDE} a side")
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise SampleError(MEDIA, f"{path}: not a picture that can be read ({_line(error)})") from error


def read_sound(path: Path, first_channel: bool = False) -> NDArray[np.float32]:
    """The first sound track of a file, mono [samples] at 16 kHz from the file's beginning; empty without one.

    Args:
        path: a sound or video file.
        first_channel: whether to take channel 0 instead of the mean of all.

    Raises:
        SampleError: it is missing or cannot be decoded.
    """
    return _guarded(path, lambda container: _sound(path, container, first_channel))


class VideoFile:
    """A video's frames by number.

    Attributes:
        path: of the file.
        rate: frames per second on average.
        times: float64 [n], when each frame is shown, s from the file's beginning, ascending.

    Raises:
        SampleError: it is missing, holds no video, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamps: list[int] = []  # pts of every frame, ascending; empty where the file has none
        self._keys: list[int] = []  # numbers of the frames that decoding can begin at
        self.rate, self.times = _guarded(path, self._scan)

    def frames(self, numbers: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """The frames of these numbers, ascending and each once, as (number, RGB uint8 [height, width, 3]).

        Raises:
            SampleError: one of them cannot be decoded, nor one within a second of it.
        """
        wanted, given = sorted(set(numbers)), 0
        try:
            for jump in (True, False):  # not every container can be entered in its middle
                with _open(self.path) as container:
                    for found in self._frames(container, wanted[given:], jump):
                        given += 1
                        yield found
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SampleError(MEDIA, f"{self.path}: {_line(error)}") from error
        if given < len(wanted):
            raise SampleError(MEDIA, f"{self.path}: frame {wanted[given]} of {len(self.times)} cannot be decoded")

    def _frames(
        self, container: av.container.InputContainer, wanted: list[int], jump: bool
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """The wanted frames up to the first that cannot be had."""
        stream = _video_track(container)
        stream.codec_context.thread_type = "AUTO"
        decoded, number, frame = self._numbered(container, stream), -1, None
        for target in wanted:
            key = max((k for k in self._keys if k <= target), default=-1)
            if jump and key > number + 1:
                container.seek(self._stamps[key], stream=stream)
                decoded = self._numbered(container, stream)
            while frame is None or number < target:
                following = next(decoded, None)
                if following is None:
                    break
                number, frame = following
            far = frame is None or abs(self.times[target] - self.times[number]) > _LOST
            if frame is None or far or (jump and number > target):
                return
            yield target, to_rgb(frame)

    def _numbered(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        places = {stamp: number for number, stamp in enumerate(self._stamps)}
        for count, frame in enumerate(_decode(container, stream)):
            assert isinstance(frame, av.VideoFrame)
            if not places:
                yield count, frame
            elif frame.pts in places:
                yield places[frame.pts], frame

    def _scan(self, container: av.container.InputContainer) -> tuple[float, NDArray[np.float64]]:
        """Lists the frames by their packets, without decoding where the file has stamps."""
        stream = _video_track(container)
        rate = float(stream.average_rate or _USUAL_RATE)
        packets: list[tuple[int | None, bool]] = []
        for packet in container.demux(stream):
            if packet.size:
                packets.append((packet.pts, packet.is_keyframe))
            if len(packets) > _MAX_PACKETS:
                raise SampleError(MEDIA, f"{self.path}: more than {_MAX_PACKETS} frames")
        stamps = [stamp for stamp, _ in packets if stamp is not None]
        if len(stamps) < len(packets) or len(set(stamps)) < len(stamps) or stream.time_base is None:
            return rate, self._count() / rate
        self._stamps = sorted(stamps)
        places = {stamp: number for number, stamp in enumerate(self._stamps)}
        self._keys = sorted(places[stamp] for stamp, is_key in packets if is_key and stamp is not None)
        begin = _begin(container)
        return rate, np.array([float(stamp * stream.time_base - begin) for stamp in self._stamps])

    def _count(self) -> NDArray[np.float64]:
        """Frame numbers of a file whose packets have no stamps: by decoding."""
        with _open(self.path) as container:
            return np.arange(sum(1 for _ in _decode(container, _video_track(container))), dtype=np.float64)


def _sound(path: Path, container: av.container.InputContainer, first_channel: bool) -> NDArray[np.float32]:
    if not container.streams.audio:
        return np.zeros(0, np.float32)
    stream = container.streams.audio[0]
    converter = av.AudioResampler(format="flt")
    chunks, rate, count, lead = [], 0, 0, 0
    for frame in _decode(container, stream):
        assert isinstance(frame, av.AudioFrame)
        if not rate:
            rate, lead = frame.sample_rate, _lead(frame, container)
        for part in converter.resample(frame):
            samples = part.to_ndarray().reshape(-1, part.layout.nb_channels)
            chunks.append(samples[:, 0] if first_channel else samples.mean(axis=1))
            count += len(samples)
        if frame.sample_rate != rate or count > MAX_SOUND * rate:
            raise SampleError(MEDIA, f"{path}: its sound changes its rate or is longer than {MAX_SOUND} s")
    if not chunks:
        raise SampleError(MEDIA, f"{path}: not one second of its sound can be decoded")
    mono = np.concatenate([np.zeros(lead, np.float32), *chunks]).astype(np.float32)
    if not np.isfinite(mono).all():
        raise SampleError(MEDIA, f"{path}: its sound holds values that are not finite")
    return np.clip(mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE), -1.0, 1.0)


def _lead(frame: av.AudioFrame, container: av.container.InputContainer) -> int:
    """Samples of silence before the first frame of sound, in a file whose pictures begin earlier."""
    if frame.pts is None or frame.time_base is None:
        return 0
    lead = float(frame.pts * frame.time_base - _begin(container))
    return round(min(max(lead, 0.0), MAX_SOUND) * frame.sample_rate)


def _decode(
    container: av.container.InputContainer, stream: av.VideoStream | av.AudioStream
) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """Everything that can be decoded, around a few damaged packets."""
    broken = 0
    packets = container.demux(stream)
    while broken <= _MAX_BROKEN:
        try:
            frames = next(packets).decode()
        except (StopIteration, av.error.EOFError):
            return
        except av.error.FFmpegError:
            broken += 1
            continue
        yield from (frame for frame in frames if isinstance(frame, av.VideoFrame | av.AudioFrame))


def _guarded(path: Path, work: Callable[[av.container.InputContainer], Result]) -> Result:
    """What `work` makes of an open file; faults become SampleErrors."""
    _check_there(path)
    try:
        probe(path)  # says in one line what is wrong with a file that is no medium
        with _open(path) as container:
            return work(container)
    except SampleError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SampleError(MEDIA, _line(error)) from error


def _open(path: Path) -> av.container.InputContainer:
    return av.open(str(path), options={"protocol_whitelist": "file"})  # a play list must not reach the network


def _video_track(container: av.container.InputContainer) -> av.VideoStream:
    covers = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & covers:
            return stream
    raise SampleError(MEDIA, f"{container.name}: holds no video")


def _begin(container: av.container.InputContainer) -> Fraction:
    tracks = [*container.streams.video[:1], *container.streams.audio[:1]]
    starts = [t.start_time * t.time_base for t in tracks if t.start_time is not None and t.time_base is not None]
    return min(starts, default=Fraction(0))


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise SampleError(MISSING, str(path))


def _line(error: Exception) -> str:
    return (str(getattr(error, "strerror", None) or error).splitlines() or [type(error).__name__])[0]
