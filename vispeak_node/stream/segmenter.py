"""Puts frames, sound and text in the order in which the model was trained to read them.

An image event stands for a tick, origin + k / frames_per_second, and carries the newest frame at or before it. A
second of sound [t, t+1) follows the image at t (published order: its key is t + 0.1 s), a text lies at its own time.
Events come out when no earlier one can come any more, so the same data give the same events however they are chopped
up and interleaved.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vispeak_node.stream.clock import StampCheck, Verdict
from vispeak_node.stream.counters import StreamCounters
from vispeak_node.stream.events import NANOSECONDS, Event, ImageEvent, ResetEvent, SoundEvent, TextEvent, nanoseconds
from vispeak_node.stream.items import FrameItem, Item, Picture, SoundItem
from vispeak_node.stream.sound import SoundCutter, to_mono

logger = logging.getLogger(__name__)

SOUND_DELAY = NANOSECONDS // 10  # published: the i-th second after a frame is sorted 0.1 s later
MAX_SIDE = 16_384  # pixels
_MAX_WAITING_TEXTS = 64
_MAX_HELD_SOUND = 4096  # chunks that wait for the first frame


@dataclass(frozen=True)
class SegmenterConfig:
    """How time is cut."""

    frames_per_second: int = 1  # 1 as in training, or 2
    has_video: bool = True  # whether frames are expected: sound and text wait for them
    has_sound: bool = False  # whether sound is expected: frames and text wait for it
    max_skew: float = 2.0  # s by which one of them may run ahead before the other is given up

    def __post_init__(self) -> None:
        if self.frames_per_second not in (1, 2):
            raise ValueError(f"frames_per_second must be 1 or 2, not {self.frames_per_second}")
        if not (self.has_video or self.has_sound):
            raise ValueError("a stream needs video or sound")
        if not self.max_skew >= 1.0:
            raise ValueError(f"max_skew must be at least 1 s, not {self.max_skew}")


class Segmenter:
    """Cuts one stream. Every `push_*` returns the events that are certain now.

    Malformed input raises ValueError with one line that says why, is counted, and changes nothing else.
    """

    def __init__(self, config: SegmenterConfig | None = None) -> None:
        self.config = config or SegmenterConfig()
        self.counters = StreamCounters()
        self._period = NANOSECONDS // self.config.frames_per_second
        self._max_skew = nanoseconds(self.config.max_skew)
        self._frame_clock, self._sound_clock = StampCheck(), StampCheck()
        self._begin_anew()

    def push_frame(self, stamp: int, image: Picture) -> list[Event]:
        """Takes a frame.

        Args:
            stamp: ns.
            image: RGB uint8 [height, width, 3], or a function that makes it, called only if the frame is used.

        Raises:
            ValueError: no picture, no video expected, or a stamp that cannot be.
        """
        self.counters.frames_in += 1
        try:
            self._expect(self.config.has_video, "frames")
            if not callable(image):
                check_picture(image)
            verdict = self._judged(self._frame_clock.judge(stamp), stamp, "frame")
        except ValueError:
            self.counters.frames_refused += 1
            raise
        if verdict is Verdict.LATE:
            self.counters.frames_late += 1
            return []
        events: list[Event] = self._reset(stamp, self._sound_clock) if verdict is Verdict.NEW_CLOCK else []
        self._set_origin(stamp)
        self._close_ticks(stamp, image)
        if self._cutter is not None:
            self.counters.sound_missing += self._cutter.give_up_until(stamp - self._max_skew)
        return events + self._certain()

    def push_sound(self, stamp: int, samples: NDArray[np.float32] | NDArray[np.int16], sample_rate: int) -> list[Event]:
        """Takes samples.

        Args:
            stamp: ns, of the first sample.
            samples: float32 in [-1, 1] or int16, [n] or [n, channels].
            sample_rate: Hz.

        Raises:
            ValueError: malformed, no sound expected, or a stamp that cannot be.
        """
        self.counters.sound_in += 1
        try:
            self._expect(self.config.has_sound, "sound")
            mono = to_mono(samples, sample_rate)
            verdict = self._judged(self._sound_clock.judge(stamp), stamp, "sound")
        except ValueError:
            self.counters.sound_refused += 1
            raise
        events: list[Event] = self._reset(stamp, self._frame_clock) if verdict is Verdict.NEW_CLOCK else []
        if not self.config.has_video:
            self._set_origin(stamp)
        if self._cutter is None:
            self._held.append((stamp, mono, sample_rate))
            if len(self._held) > _MAX_HELD_SOUND:
                self._held.pop(0)
                self.counters.sound_late += 1
            return events
        self._cut(stamp, mono, sample_rate)
        end = stamp + len(mono) * NANOSECONDS // sample_rate
        if self.config.has_video:
            self._give_up_ticks(end - self._max_skew)
        return events + self._certain()

    def push_text(self, stamp: int, text: str) -> list[Event]:
        """Takes a text; one that is older than what came out already is taken as said now.

        Raises:
            ValueError: not a text, or too many wait.
        """
        if not isinstance(text, str) or not text.strip():
            self.counters.texts_refused += 1
            raise ValueError("a text is empty")
        if sum(isinstance(event, TextEvent) for *_, event in self._waiting) >= _MAX_WAITING_TEXTS:
            self.counters.texts_refused += 1
            raise ValueError(f"more than {_MAX_WAITING_TEXTS} texts wait to be read")
        self.counters.texts += 1
        stamp = max(stamp, self._newest)
        self._wait(stamp, 2, TextEvent(stamp, text))
        return self._certain()

    def push(self, item: Item) -> list[Event]:
        """Takes whatever a source delivers; see the method for its kind."""
        if isinstance(item, FrameItem):
            return self.push_frame(item.stamp, item.image)
        if isinstance(item, SoundItem):
            return self.push_sound(item.stamp, item.samples, item.sample_rate)
        return self.push_text(item.stamp, item.text)

    def push_many(self, items: Iterable[Item]) -> list[Event]:
        """Takes items in the order of their stamps, whatever order they are in."""
        events: list[Event] = []
        for item in sorted(items, key=lambda item: item.stamp):
            events += self.push(item)
        return events

    def flush(self) -> list[Event]:
        """The stream ends: everything that waits comes out; a part of a second of sound is dropped."""
        if self._cutter is not None:
            self._add_sound(self._cutter.flush())
        return self._release(None)

    def _begin_anew(self) -> None:
        self._origin: int | None = None
        self._next_tick = 0
        self._candidate: tuple[int, Picture] | None = None  # newest frame that no tick has shown
        self._cutter: SoundCutter | None = None
        self._held: list[tuple[int, NDArray[np.float32], int]] = []
        self._waiting: list[tuple[int, int, int, Event]] = []  # heap of key, kind, sequence, event
        self._sequence = itertools.count()
        self._newest = -(2**62)  # ns, key of the newest event that came out

    def _reset(self, stamp: int, other: StampCheck) -> list[Event]:
        logger.warning("a source's clock began anew at %d ns", stamp)
        self.counters.resets += 1
        events = self._release(None)
        self._begin_anew()
        other.forget()
        return [*events, ResetEvent(stamp)]

    def _expect(self, expected: bool, what: str) -> None:
        if not expected:
            raise ValueError(f"this stream was set up without {what}")

    def _judged(self, verdict: Verdict, stamp: int, what: str) -> Verdict:
        if verdict is Verdict.WRONG:
            raise ValueError(f"a {what}'s stamp {stamp / NANOSECONDS:.3f} s is far from the one before it")
        return verdict

    def _set_origin(self, stamp: int) -> None:
        if self._origin is not None:
            return
        self._origin = stamp
        if self.config.has_sound:
            self._cutter = SoundCutter(stamp, self.counters)
            held, self._held = self._held, []
            for chunk in held:
                self._cut(*chunk)

    def _cut(self, stamp: int, mono: NDArray[np.float32], rate: int) -> None:
        assert self._cutter is not None
        self._add_sound(self._cutter.push(stamp, mono, rate))

    def _add_sound(self, events: list[SoundEvent]) -> None:
        for event in events:
            self.counters.sound_seconds += 1
            self._wait(event.stamp + SOUND_DELAY, 1, event)

    def _tick(self) -> int:
        assert self._origin is not None
        return self._origin + self._next_tick * self._period

    def _close_ticks(self, stamp: int, image: Picture) -> None:
        """Every tick before this frame shows the frame before it; a tick right at it shows it."""
        while self._tick() <= stamp:
            if self._tick() == stamp:
                self._candidate = (stamp, image)
            self._close_tick()
            if self._candidate is None and self._tick() <= stamp:
                # a camera that was gone: all ticks until now are missing, however many
                gone = (stamp - self._tick()) // self._period
                self.counters.ticks_missing += gone
                self._next_tick += gone
        if self._tick() - self._period != stamp:
            self._candidate = (stamp, image)

    def _close_tick(self) -> None:
        tick = self._tick()
        self._next_tick += 1
        if self._candidate is None:
            self.counters.ticks_missing += 1
            return
        (frame_stamp, picture), self._candidate = self._candidate, None
        try:
            image = picture() if callable(picture) else picture
            check_picture(image)
        except ValueError as error:
            self.counters.frames_refused += 1
            self.counters.ticks_missing += 1
            logger.warning("a frame could not be used: %s", error)
            return
        self.counters.frames_used += 1
        self._wait(tick, 0, ImageEvent(tick, image, frame_stamp))

    def _give_up_ticks(self, stamp: int) -> None:
        """Sound runs ahead: ticks before a stamp that no frame closed will not be waited for."""
        while self._tick() < stamp:
            if self._candidate is None:
                gone = -(-(stamp - self._tick()) // self._period)
                self.counters.ticks_missing += gone
                self._next_tick += gone
            else:
                self._close_tick()

    def _wait(self, key: int, kind: int, event: Event) -> None:
        heapq.heappush(self._waiting, (key, kind, next(self._sequence), event))

    def _certain(self) -> list[Event]:
        """What comes before anything that may still arrive."""
        if self._origin is None:
            return []
        limits = [self._tick()] if self.config.has_video else []
        if self._cutter is not None:
            limits.append(self._cutter.next_second + SOUND_DELAY)
        return self._release(min(limits))

    def _release(self, before: int | None) -> list[Event]:
        events = []
        while self._waiting and (before is None or self._waiting[0][0] < before):
            key, _, _, event = heapq.heappop(self._waiting)
            self._newest = key
            events.append(event)
        return events


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
