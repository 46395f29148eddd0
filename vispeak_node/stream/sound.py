"""A stream of samples at any rate, cut into whole seconds of 16 kHz mono at given boundaries."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from vispeak_node.stream.counters import StreamCounters
from vispeak_node.stream.events import NANOSECONDS, SAMPLE_RATE, SoundEvent

MIN_RATE, MAX_RATE = 8_000, 192_000  # Hz
JITTER = 50_000_000  # ns by which a chunk's stamp may differ from what counting samples says
MAX_LEAD = NANOSECONDS // 4  # a second that begins this late is still kept, with silence before it
MAX_CHUNK = 60  # s


class SoundCutter:
    """Resamples and cuts; boundaries lie at origin + whole seconds.

    Counting samples wins over stamps while they agree within the jitter, because a chunk's stamp is when the driver
    delivered it and not when it was heard. A hole is filled with silence, or, where it is longer than `max_gap`,
    costs the seconds that it touches.

    Args:
        origin: ns, a boundary.
        max_gap: ns.
        counters: where losses are counted.
    """

    def __init__(self, origin: int, max_gap: int, counters: StreamCounters) -> None:
        self._origin = origin
        self._max_gap = max_gap
        self._counters = counters
        self._resampler: soxr.ResampleStream | None = None
        self._rate = 0  # Hz; 0 until the next chunk says
        self._expected = origin  # ns, stamp that the next chunk should have
        self._next = 0  # index of the second that the buffer begins with
        self._buffer = np.zeros(0, np.float32)
        self._skip = 0  # samples to drop before the buffer goes on

    @property
    def next_second(self) -> int:
        """ns, when the next second that can come out begins; earlier ones never will."""
        return self._origin + self._next * NANOSECONDS

    def push(self, stamp: int, samples: NDArray[np.float32], rate: int) -> list[SoundEvent]:
        """Takes mono float32 samples from `stamp` (ns) on; returns the seconds that became whole."""
        if not self._rate and stamp + len(samples) * NANOSECONDS // rate <= self.next_second:
            self._counters.lose("sound_late", "sound came before its stream began, or after it was given up")
            return []
        events = self._restart(stamp, rate) if rate != self._rate else []
        offset = stamp - self._expected
        if offset > JITTER:
            self._counters.lose("sound_gaps", f"sound has a hole of {offset / NANOSECONDS:.3f} s")
            if offset <= self._max_gap:
                silence = np.zeros(round(offset * rate / NANOSECONDS), np.float32)
                samples = np.concatenate([silence, samples])
            else:
                events += self._restart(stamp, rate)
        elif offset < -JITTER:
            # what was heard already is cut off; a chunk that holds nothing new is late
            known = round(-offset * rate / NANOSECONDS)
            if known >= len(samples):
                self._counters.lose("sound_late", "a chunk of sound came after the ones that follow it")
                return events
            samples = samples[known:]
        self._expected += round(len(samples) * NANOSECONDS / rate)
        return events + self._take(self._resample(samples))

    def give_up_before(self, stamp: int) -> list[SoundEvent]:
        """Lets go of every second that ends before a stamp which sound did not reach."""
        reached = self._rate and self._expected >= stamp  # then only the resampler keeps them back
        if reached or stamp - self.next_second < NANOSECONDS:
            return []
        events = self.flush()
        lost = (stamp - self.next_second) // NANOSECONDS
        if lost > 0:
            self._lose(lost)
            self._buffer, self._skip = np.zeros(0, np.float32), 0
        return events

    def flush(self) -> list[SoundEvent]:
        """The stream ends or pauses: what the resampler holds comes out, a part of a second stays."""
        if not self._rate:
            return []
        self._rate = 0  # a resampler that was emptied takes no more
        return self._take(self._resample(np.zeros(0, np.float32), last=True))

    def _restart(self, stamp: int, rate: int) -> list[SoundEvent]:
        """Goes on with a fresh resampler: right after what is buffered, or at the next boundary that can be served."""
        events = self.flush()
        self._rate, self._expected = rate, stamp
        self._resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
        held = len(self._buffer)
        lead = round((stamp - self.next_second) * SAMPLE_RATE / NANOSECONDS)
        room = round((self._max_gap if held else MAX_LEAD) * SAMPLE_RATE / NANOSECONDS)
        if lead - held > room:
            whole, lead = divmod(lead, SAMPLE_RATE)
            self._buffer, held = np.zeros(0, np.float32), 0
            if lead > MAX_LEAD * SAMPLE_RATE / NANOSECONDS:
                whole, lead = whole + 1, lead - SAMPLE_RATE
            self._lose(whole)
        self._skip = max(0, held - lead)
        self._buffer = np.concatenate([self._buffer, np.zeros(max(0, lead - held), np.float32)])
        return events

    def _lose(self, number: int) -> None:
        self._counters.lose("sound_missing", f"no sound at {self.next_second / NANOSECONDS:.3f} s", number)
        self._next += number

    def _resample(self, samples: NDArray[np.float32], last: bool = False) -> NDArray[np.float32]:
        return samples if self._resampler is None else self._resampler.resample_chunk(samples, last=last)

    def _take(self, samples: NDArray[np.float32]) -> list[SoundEvent]:
        dropped = min(self._skip, len(samples))
        self._skip -= dropped
        self._buffer = np.concatenate([self._buffer, samples[dropped:]])
        events = []
        while len(self._buffer) >= SAMPLE_RATE:
            second, self._buffer = self._buffer[:SAMPLE_RATE], self._buffer[SAMPLE_RATE:]
            events.append(SoundEvent(self.next_second, np.clip(second, -1.0, 1.0)))
            self._next += 1
        return events


def to_mono(samples: NDArray[np.float32] | NDArray[np.int16], sample_rate: int) -> NDArray[np.float32]:
    """Samples of any usual form as float32 mono in [-1, 1].

    Args:
        samples: float32 in [-1, 1] or int16, [n] or [n, channels].
        sample_rate: Hz.

    Raises:
        ValueError: the rate, the type or the shape is out of the question, or values are not finite.
    """
    if not isinstance(sample_rate, int | np.integer) or isinstance(sample_rate, bool):
        raise ValueError(f"a sample rate must be whole Hz, not {type(sample_rate).__name__}")
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise ValueError(f"sound at {sample_rate} Hz: the rate must lie between {MIN_RATE} and {MAX_RATE}")
    if not isinstance(samples, np.ndarray) or samples.ndim not in (1, 2) or samples.dtype not in (np.float32, np.int16):
        raise ValueError("sound must be a float32 or int16 array of shape [n] or [n, channels]")
    if len(samples) > MAX_CHUNK * sample_rate:
        raise ValueError(f"a chunk of sound of {len(samples) / sample_rate:.0f} s: at most {MAX_CHUNK} s at a time")
    if not samples.size:
        raise ValueError("a chunk of sound is empty")
    mono = samples if samples.ndim == 1 else samples.astype(np.float32).mean(axis=1)
    mono = mono.astype(np.float32) / (32768.0 if samples.dtype == np.int16 else 1.0)
    if not np.isfinite(mono).all():
        raise ValueError("sound holds values that are not finite")
    # full scale is 1: louder values come from broken drivers, and the largest would overflow in the resampler
    return np.clip(mono, -1.0, 1.0).astype(np.float32)
