"""A camera's frames, cut into ticks: the newest frame at or before each."""

from __future__ import annotations

import numpy as np

from vispeak_node.stream.counters import StreamCounters
from vispeak_node.stream.events import NANOSECONDS, ImageEvent
from vispeak_node.stream.items import Picture

MAX_SIDE = 16_384  # pixels


class TickCutter:
    """Ticks lie at origin + k periods; one is over as soon as a frame at or after it is there.

    A frame stands for one tick only: where a camera paused, ticks are missing rather than shown with an old frame.
    """

    def __init__(self, origin: int, period: int, counters: StreamCounters) -> None:
        self._period = period
        self._counters = counters
        self._candidate: tuple[int, Picture] | None = None  # newest frame since the last tick
        self.next_tick = origin  # ns, earlier ones never come out any more

    def push(self, stamp: int, image: Picture) -> list[ImageEvent]:
        """Takes a frame at `stamp` (ns); returns the ticks that it ends, of which none if it is too old for all."""
        if stamp <= self.next_tick - self._period:
            self._counters.lose("frames_late", "a frame came after its tick was over")
            return []
        events = self.give_up_before(stamp)
        self._candidate = (stamp, image)
        return events + self._close() if stamp == self.next_tick else events

    def give_up_before(self, stamp: int) -> list[ImageEvent]:
        """Ends every tick before a stamp; with what is there, or as missing, however many they are."""
        events = self._close() if self.next_tick < stamp and self._candidate is not None else []
        missing = max(0, -(-(stamp - self.next_tick) // self._period))
        self._miss(missing)
        self.next_tick += missing * self._period
        return events

    def _close(self) -> list[ImageEvent]:
        """The next tick with the candidate, which is there."""
        assert self._candidate is not None
        (frame_stamp, picture), self._candidate = self._candidate, None
        tick, self.next_tick = self.next_tick, self.next_tick + self._period
        try:
            image = picture() if callable(picture) else picture
            check_picture(image)
        except ValueError as error:
            self._counters.lose("frames_refused", f"a frame could not be used: {error}")
            self._miss(1)
            return []
        self._counters.frames_used += 1
        return [ImageEvent(tick, image, frame_stamp)]

    def _miss(self, number: int) -> None:
        self._counters.lose("ticks_missing", f"no picture at {self.next_tick / NANOSECONDS:.3f} s", number)


def check_picture(image: object) -> None:
    """Refuses what is not a picture.

    Raises:
        ValueError: says what it is instead.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"a frame must be uint8 [height, width, 3], not {kind}")
    if not image.size or max(image.shape) > MAX_SIDE:
        raise ValueError(f"a frame of {image.shape[1]}x{image.shape[0]} pixels: 1 to {MAX_SIDE} a side can be read")
