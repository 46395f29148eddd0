"""Messages in, events out: the checks, the stamps and the segmenter of one camera."""

from __future__ import annotations

import time
from collections.abc import Callable

from vispeak_node.ros.images import check_image, decompress, to_rgb
from vispeak_node.ros.sound import check_info, from_arrays, to_samples
from vispeak_node.ros.standard import AudioDataStamped, AudioInfo, AudioStamped, CompressedImage, Header, Image, String
from vispeak_node.stream.events import NANOSECONDS, Event, nanoseconds
from vispeak_node.stream.items import Picture
from vispeak_node.stream.segmenter import Segmenter, SegmenterConfig

DIALECTS = ("ros-drivers", "mgonzs13")


class Allowance:
    """How much of something may come: so many a second on average, and a few at once.

    Args:
        rate: per second.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(4.0, 2 * rate)
        self._left = self._most
        self._last: float | None = None

    def take(self, now: float) -> bool:
        """Whether one more may come at `now`, monotonic s."""
        if self._last is not None:
            self._left = min(self._most, self._left + (now - self._last) * self._rate)
        self._last = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Intake:
    """Not thread-safe. Every method returns the events that a message completes.

    Args:
        frames_per_second: that the model reads, 1 or 2.
        audio: whether sound is listened to: frames then wait for their second of it.
        max_query_length: characters.
        max_image_bytes: of one message.
        clock: the receiver's own, monotonic s.

    Raises:
        ValueError: (from the methods) says why a message is refused.
    """

    def __init__(
        self,
        frames_per_second: int,
        audio: bool,
        max_query_length: int,
        max_image_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.segmenter = Segmenter(SegmenterConfig(frames_per_second, has_sound=audio))
        self._audio, self._max_query_length, self._max_image_bytes = audio, max_query_length, max_image_bytes
        self._info: AudioInfo | None = None
        self.clock = clock
        self._heard: dict[str, float] = {}  # when a source was last heard, by the receiver's clock
        self.frame_id = ""
        self.newest = 0  # ns, stamp of the newest input

    def reset(self) -> list[Event]:
        """Forgets the stream."""
        return self.segmenter.push_reset()

    def image(self, message: Image) -> list[Event]:
        """Takes a frame; its pixels are looked at only if the model is to see it."""
        self._check_size(len(message.data))
        check_image(message)
        return self._frame(message.header, lambda: to_rgb(message))

    def compressed(self, message: CompressedImage) -> list[Event]:
        """Takes a jpeg or png."""
        if not len(message.data):
            raise ValueError("a compressed image of 0 bytes")
        self._check_size(len(message.data))
        return self._frame(message.header, lambda: decompress(message))

    def audio_info(self, message: AudioInfo) -> list[Event]:
        """Takes what the bytes of sound mean."""
        check_info(message)
        self._info = message
        return []

    def audio(self, message: AudioDataStamped) -> list[Event]:
        """Takes bytes of sound."""
        self._check_audio()
        if self._info is None:
            raise ValueError("nothing came on the audio_info topic yet, so the sound's format is unknown")
        samples = to_samples(message, self._info)
        return self.segmenter.push_sound(
            self._stamp(message.header), samples, self._info.sample_rate, self._passed("sound")
        )

    def audio_stamped(self, message: AudioStamped) -> list[Event]:
        """Takes sound that carries its format."""
        self._check_audio()
        samples, rate = from_arrays(message)
        return self.segmenter.push_sound(self._stamp(message.header), samples, rate, self._passed("sound"))

    def query(self, message: String) -> list[Event]:
        """Takes a typed question."""
        if len(message.data) > self._max_query_length:
            raise ValueError(f"a query of {len(message.data)} characters; at most {self._max_query_length} are read")
        return self.segmenter.push_text(self.newest, message.data)

    def _check_size(self, size: int) -> None:
        if size > self._max_image_bytes:
            raise ValueError(f"an image of {size} bytes; at most {self._max_image_bytes} are read")

    def _check_audio(self) -> None:
        if not self._audio:
            raise ValueError("the node was started without audio")

    def _frame(self, header: Header, picture: Picture) -> list[Event]:
        events = self.segmenter.push_frame(self._stamp(header), picture, self._passed("frames"))
        self.frame_id = header.frame_id
        return events

    def _passed(self, source: str) -> int:
        """Time since a source was last heard, ns: a camera that comes back after minutes has no new clock."""
        now = self.clock()
        before, self._heard[source] = self._heard.get(source, now), now
        return nanoseconds(now - before)

    def _stamp(self, header: Header) -> int:
        if header.stamp.nanosec >= NANOSECONDS or header.stamp.sec < 0:
            raise ValueError(f"a stamp of {header.stamp.sec} s and {header.stamp.nanosec} ns")
        stamp = header.stamp.ns or time.time_ns()  # drivers that do not stamp send zero
        self.newest = max(self.newest, stamp)
        return stamp
