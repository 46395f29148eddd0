"""Puts frames, sound and text in the order in which the model was trained to read them.

An image event stands for a tick, origin + k / frames_per_second, and carries the newest frame at or before it. A
second of sound [t, t+1) follows the image at t (published order: its key is t + 0.1 s), a text lies at its own time.
Events come out when no earlier one can come any more, so the same data give the same events however they are chopped
up and interleaved, as long as neither source runs ahead of the other by more than `max_skew`.

Nothing is looked at twice: what cannot be read is refused, counted and forgotten. Which stamps are believed is said
in `clock`; when a source's clock begins anew the stream does too, after a ResetEvent.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vispeak_node.stream.clock import MAX_AHEAD, StampCheck, Verdict, check_stamp
from vispeak_node.stream.counters import StreamCounters
from vispeak_node.stream.events import (
    NANOSECONDS,
    Event,
    ImageEvent,
    ResetEvent,
    SoundEvent,
    TextEvent,
    nanoseconds,
    seconds,
)
from vispeak_node.stream.items import FrameItem, Item, Picture, SoundItem
from vispeak_node.stream.sound import SoundCutter, to_mono
from vispeak_node.stream.ticks import TickCutter, check_picture

logger = logging.getLogger(__name__)

SOUND_DELAY = NANOSECONDS // 10  # published: the i-th second after a frame is sorted 0.1 s later
_MAX_WAITING_TEXTS = 64
_MAX_HELD_SOUND = 4096  # chunks that wait for the first frame
_NEVER = -(2**63)  # ns, before every stamp


@dataclass(frozen=True)
class SegmenterConfig:
    """How time is cut."""

    frames_per_second: int = 1  # 1 as in training, or 2
    has_video: bool = True  # whether frames are expected: sound and text wait for them
    has_sound: bool = False  # whether sound is expected: frames and text wait for it
    max_skew: float = 2.0  # s by which one of them may run ahead before the other is given up
    max_gap: float = 1.0  # s, the longest hole in sound that is filled with silence; a longer one costs its seconds
    origin: int | None = None  # ns, of tick 0; none is the first frame's stamp, or the first sound's without video

    def __post_init__(self) -> None:
        if self.frames_per_second not in (1, 2):
            raise ValueError(f"frames_per_second must be 1 or 2, not {self.frames_per_second}")
        if not (self.has_video or self.has_sound):
            raise ValueError("a stream needs video or sound")
        if not 1.0 <= self.max_skew <= 60.0:
            raise ValueError(f"max_skew must lie between 1 and 60 s, not {self.max_skew}")
        if not 0.0 <= self.max_gap <= 60.0:
            raise ValueError(f"max_gap must lie between 0 and 60 s, not {self.max_gap}")
        if self.origin is not None:
            check_stamp(self.origin)


class Segmenter:
    """Cuts one stream. Every `push_*` returns the events that are certain now.

    Malformed input raises ValueError with one line that says why, is counted, and changes nothing else.
    """

    def __init__(self, config: SegmenterConfig | None = None) -> None:
        self.config = config or SegmenterConfig()
        self.counters = StreamCounters()
        self._max_skew = nanoseconds(self.config.max_skew)
        self._frame_clock = StampCheck()
        self._sound_clock = StampCheck(self._frame_clock if self.config.has_video else None)
        self._begin_anew()
        if self.config.origin is not None:
            self._set_origin(check_stamp(self.config.origin))

    def push_frame(self, stamp: int, image: Picture, passed: int = 0) -> list[Event]:
        """Takes a frame.

        Args:
            stamp: ns.
            image: RGB uint8 [height, width, 3], or a function that makes it, called only if the frame is used.
            passed: ns since the last frame by the receiver's own clock: after a pause a stamp may lie as far ahead.

        Raises:
            ValueError: no picture, no video expected, or a stamp that cannot be.
        """
        self.counters.frames_in += 1
        try:
            self._expect(self.config.has_video, "frames")
            stamp = check_stamp(stamp)
            if not callable(image):
                check_picture(image)
            verdict = self._judge(self._frame_clock, self._sound_clock, stamp, "frame", passed)
        except ValueError:
            self.counters.frames_refused += 1
            raise
        if verdict is Verdict.LATE:
            self.counters.lose("frames_late", "a frame came after one that follows it")
            return []
        events = self._restart(stamp, self._sound_clock) if verdict is Verdict.NEW_CLOCK else []
        if self._origin is None:
            # sound that began much earlier is part of the stream, as it is without a camera
            first = self._held[0][0] if self._held else stamp
            self._set_origin(first if stamp - first > self._max_skew else stamp)
        if self._ticks is not None:
            self._wait_all(self._ticks.push(stamp, image))
        if self._cutter is not None:
            self._wait_all(self._cutter.give_up_before(stamp - self._max_skew))
        return events + self._certain()

    def push_sound(
        self, stamp: int, samples: NDArray[np.float32] | NDArray[np.int16], sample_rate: int, passed: int = 0
    ) -> list[Event]:
        """Takes samples.

        Args:
            stamp: ns, of the first sample.
            samples: float32 in [-1, 1] or int16, [n] or [n, channels].
            sample_rate: Hz.
            passed: as for frames.

        Raises:
            ValueError: malformed, no sound expected, or a stamp that cannot be.
        """
        self.counters.sound_in += 1
        try:
            self._expect(self.config.has_sound, "sound")
            stamp = check_stamp(stamp)
            mono = to_mono(samples, sample_rate)
            verdict = self._judge(self._sound_clock, self._frame_clock, stamp, "sound", passed)
        except ValueError:
            self.counters.sound_refused += 1
            raise
        events = self._restart(stamp, self._frame_clock) if verdict is Verdict.NEW_CLOCK else []
        self._hear(stamp, mono, int(sample_rate))
        if self._ticks is not None:
            # by the chunk's beginning: how long chunks are must not decide what is given up
            self._wait_all(self._ticks.give_up_before(stamp - self._max_skew))
        return events + self._certain()

    def push_text(self, stamp: int | None, text: str) -> list[Event]:
        """Takes a text; one that is older than what came out already is taken as said now.

        Args:
            stamp: ns; none is now, the newest stamp of a frame or of sound.
            text: what was typed.

        Raises:
            ValueError: not a text, a stamp far ahead of the stream, or too many wait.
        """
        try:
            self._check_text(text)
            now = self._now()
            stamp = now if stamp is None else check_stamp(stamp)
            if stamp is not None and now is not None and stamp - now > MAX_AHEAD:
                raise ValueError(f"a text's stamp lies {seconds(stamp - now):.0f} s ahead of the stream")
        except ValueError:
            self.counters.texts_refused += 1
            raise
        self.counters.texts += 1
        if stamp is None:
            self._early_texts.append(text)
            return []
        if stamp < self._newest:
            self.counters.lose("texts_late", "a text came after events that follow it")
            stamp = self._newest
        self._wait(stamp, 2, TextEvent(stamp, text))
        return self._certain()

    def push_reset(self, stamp: int | None = None) -> list[Event]:
        """Everything that waits comes out, then a ResetEvent; the next frame or sound begins a new stream.

        Args:
            stamp: ns; none is now, the newest stamp of a frame or of sound.

        Raises:
            ValueError: not a stamp.
        """
        stamp = (self._now() or 0) if stamp is None else check_stamp(stamp)
        return self._reset(max(stamp, self._newest))

    def push(self, item: Item) -> list[Event]:
        """Takes whatever a source delivers; see the method for its kind."""
        if isinstance(item, FrameItem):
            return self.push_frame(item.stamp, item.image)
        if isinstance(item, SoundItem):
            return self.push_sound(item.stamp, item.samples, item.sample_rate)
        return self.push_text(item.stamp, item.text)

    def push_many(self, items: Iterable[Item]) -> list[Event]:
        """Takes items in the order of their stamps, whatever order they are in; those that are refused are counted."""
        events: list[Event] = []
        for item in sorted(items, key=lambda item: item.stamp):
            try:
                events += self.push(item)
            except ValueError as error:
                logger.warning("refused: %s", error)
        return events

    def flush(self) -> list[Event]:
        """The stream ends: everything that waits comes out; a part of a second of sound is dropped."""
        if self._origin is None and self._held:
            self._set_origin(self._held[0][0])
        if self._cutter is not None:
            self._wait_all(self._cutter.flush())
        return self._release(None)

    def _begin_anew(self) -> None:
        self._origin: int | None = None
        self._ticks: TickCutter | None = None
        self._cutter: SoundCutter | None = None
        self._held: list[tuple[int, NDArray[np.float32], int]] = []  # sound that waits for the first frame
        self._early_texts: list[str] = []  # texts that are older than every clock
        self._waiting: list[tuple[int, int, int, Event]] = []  # heap of key, kind, sequence, event
        self._sequence = itertools.count()
        self._newest = _NEVER  # ns, key of the newest event that came out

    def _restart(self, stamp: int, other: StampCheck) -> list[Event]:
        """A source's clock began anew; the other one's has to follow."""
        logger.warning("a source's clock began anew at %.3f s", seconds(stamp))
        other.forget()
        return self._reset(stamp)

    def _reset(self, stamp: int) -> list[Event]:
        self.counters.resets += 1
        events = self.flush()
        self._begin_anew()
        return [*events, ResetEvent(stamp)]

    def _expect(self, expected: bool, what: str) -> None:
        if not expected:
            raise ValueError(f"this stream was set up without {what}")

    def _judge(self, clock: StampCheck, other: StampCheck, stamp: int, what: str, passed: int) -> Verdict:
        verdict = clock.judge(stamp, other.last, passed)
        if verdict is Verdict.WRONG:
            raise ValueError(f"the stamp of a {what}, {seconds(stamp):.3f} s, is far from the ones before it")
        return verdict

    def _check_text(self, text: object) -> None:
        if not isinstance(text, str) or not text.strip():
            raise ValueError("a text is empty")
        waiting = len(self._early_texts) + sum(isinstance(event, TextEvent) for *_, event in self._waiting)
        if waiting >= _MAX_WAITING_TEXTS:
            raise ValueError(f"more than {_MAX_WAITING_TEXTS} texts wait to be read")

    def _now(self) -> int | None:
        stamps = [clock.last for clock in (self._frame_clock, self._sound_clock) if clock.last is not None]
        return max(stamps, default=None)

    def _set_origin(self, stamp: int) -> None:
        self._origin = stamp
        if self.config.has_video:
            self._ticks = TickCutter(stamp, NANOSECONDS // self.config.frames_per_second, self.counters)
        if self.config.has_sound:
            self._cutter = SoundCutter(stamp, nanoseconds(self.config.max_gap), self.counters)
        held, self._held = self._held, []
        for chunk in held:
            self._hear(*chunk)
        texts, self._early_texts = self._early_texts, []
        for text in texts:
            self._wait(stamp, 2, TextEvent(stamp, text))

    def _hear(self, stamp: int, mono: NDArray[np.float32], rate: int) -> None:
        """Cuts a chunk, or keeps it until it is known where to cut."""
        if self._origin is None and not self.config.has_video:
            self._set_origin(stamp)
        if self._cutter is not None:
            self._wait_all(self._cutter.push(stamp, mono, rate))
            return
        self._held.append((stamp, mono, rate))
        if len(self._held) > _MAX_HELD_SOUND:
            self._held.pop(0)
            self.counters.lose("sound_late", "too much sound waits for the first frame")
        # a frame within the skew of the first sound would be here by now, even one that is late by as much
        if stamp - self._held[0][0] > 2 * self._max_skew:
            self._set_origin(self._held[0][0])

    def _wait_all(self, events: Sequence[ImageEvent | SoundEvent]) -> None:
        for event in events:
            heard = isinstance(event, SoundEvent)
            key = event.stamp + SOUND_DELAY * heard
            if key < self._newest:  # a flush in the middle of a stream let out what follows it
                self.counters.lose(
                    "sound_missing" if heard else "ticks_missing", "a second was over before it was whole"
                )
                continue
            self.counters.sound_seconds += heard
            self._wait(key, 1 if heard else 0, event)

    def _wait(self, key: int, kind: int, event: Event) -> None:
        heapq.heappush(self._waiting, (key, kind, next(self._sequence), event))

    def _certain(self) -> list[Event]:
        """What comes before anything that may still arrive."""
        limits = [self._ticks.next_tick] if self._ticks is not None else []
        if self._cutter is not None:
            limits.append(self._cutter.next_second + SOUND_DELAY)
        return self._release(min(limits)) if limits else []

    def _release(self, before: int | None) -> list[Event]:
        events = []
        while self._waiting and (before is None or self._waiting[0][0] < before):
            key, _, _, event = heapq.heappop(self._waiting)
            self._newest = max(self._newest, key)
            events.append(event)
        return events
