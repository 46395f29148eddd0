"""Messages in, events out: the checks, the stamps and the segmenter of one camera."""

from __future__ import annotations

import time

from vispeak_node.ros.images import check_image, decompress, to_rgb
from vispeak_node.ros.sound import check_info, from_arrays, to_samples
from vispeak_node.ros.standard import AudioDataStamped, AudioInfo, AudioStamped, CompressedImage, Header, Image, String
from vispeak_node.stream.events import NANOSECONDS, Event
from vispeak_node.stream.items import Picture
from vispeak_node.stream.segmenter import Segmenter, SegmenterConfig

MAX_IMAGE_BYTES = 64 * 2**20
DIALECTS = ("ros-drivers", "mgonzs13")


class Intake:
    """Not thread-safe. Every method returns the events that a message completes.

    Args:
        frames_per_second: that the model reads, 1 or 2.
        audio: whether sound is listened to: frames then wait for their second of it.
        max_query_length: characters.

    Raises:
        ValueError: (from the methods) says why a message is refused.
    """

    def __init__(self, frames_per_second: int, audio: bool, max_query_length: int) -> None:
        self.segmenter = Segmenter(SegmenterConfig(frames_per_second, has_sound=audio))
        self._audio, self._max_query_length = audio, max_query_length
        self._info: AudioInfo | None = None
        self.frame_id = ""
        self.newest = 0  # ns, stamp of the newest input

    def reset(self) -> list[Event]:
        """Forgets the stream."""
        return self.segmenter.push_reset()

    def image(self, message: Image) -> list[Event]:
        """Takes a frame; its pixels are looked at only if the model is to see it."""
        check_image(message)
        return self._frame(message.header, lambda: to_rgb(message))

    def compressed(self, message: CompressedImage) -> list[Event]:
        """Takes a jpeg or png."""
        if not 0 < len(message.data) <= MAX_IMAGE_BYTES:
            raise ValueError(f"a compressed image of {len(message.data)} bytes")
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
        return self.segmenter.push_sound(self._stamp(message.header), samples, self._info.sample_rate)

    def audio_stamped(self, message: AudioStamped) -> list[Event]:
        """Takes sound that carries its format."""
        self._check_audio()
        samples, rate = from_arrays(message)
        return self.segmenter.push_sound(self._stamp(message.header), samples, rate)

    def query(self, message: String) -> list[Event]:
        """Takes a typed question."""
        if len(message.data) > self._max_query_length:
            raise ValueError(f"a query of {len(message.data)} characters; at most {self._max_query_length} are read")
        return self.segmenter.push_text(self.newest, message.data)

    def _check_audio(self) -> None:
        if not self._audio:
            raise ValueError("the node was started without audio")

    def _frame(self, header: Header, picture: Picture) -> list[Event]:
        events = self.segmenter.push_frame(self._stamp(header), picture)
        self.frame_id = header.frame_id
        return events

    def _stamp(self, header: Header) -> int:
        if header.stamp.nanosec >= NANOSECONDS or header.stamp.sec < 0:
            raise ValueError(f"a stamp of {header.stamp.sec} s and {header.stamp.nanosec} ns")
        stamp = header.stamp.ns or time.time_ns()  # drivers that do not stamp send zero
        self.newest = max(self.newest, stamp)
        return stamp
