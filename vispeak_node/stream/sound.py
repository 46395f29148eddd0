"""A stream of samples at any rate, cut into whole seconds of 16 kHz mono at given boundaries."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from vispeak_node.stream.counters import StreamCounters
from vispeak_node.stream.events import NANOSECONDS, SAMPLE_RATE, SoundEvent

MIN_RATE, MAX_RATE = 8_000, 192_000  # Hz
JITTER = 50_000_000  # ns by which a chunk's stamp may differ from what counting samples says
MAX_FILL = NANOSECONDS  # a longer hole is not filled with silence
MAX_LEAD = NANOSECONDS // 4  # a second that begins this late is still kept, with silence before it
MAX_CHUNK = 60  # s


class SoundCutter:
    """Resamples and cuts; boundaries lie at origin + whole seconds.

    Counting samples wins over stamps while they agree within the jitter, because a chunk's stamp is when the driver
    delivered it and not when it was heard.
    """

    def __init__(self, origin: int, counters: StreamCounters) -> None:
        self._origin = origin
        self._counters = counters
        self._resampler: soxr.ResampleStream | None = None
        self._rate = 0
        self._expected: int | None = None  # ns, stamp that the next chunk should have
        self._next = 0  # index of the second that the buffer begins with
        self._buffer = np.zeros(0, np.float32)
        self._skip = 0  # samples to drop before the buffer begins

    @property
    def next_second(self) -> int:
        """ns, when the next second that can come out begins; earlier ones never will."""
        return self._origin + self._next * NANOSECONDS

    def push(self, stamp: int, samples: NDArray[np.float32], rate: int) -> list[SoundEvent]:
        """Takes mono float32 samples; returns the seconds that became whole."""
        events: list[SoundEvent] = []
        if rate != self._rate:
            events += self._restart(stamp, rate)
        assert self._expected is not None
        offset = stamp - self._expected
        if offset > JITTER:
            self._counters.sound_gaps += 1
            if offset <= MAX_FILL:
                silence = np.zeros(round(offset * rate / NANOSECONDS), np.float32)
                samples = np.concatenate([silence, samples])
            else:
                events += self._restart(stamp, rate)
        elif offset < -JITTER:
            # what was heard already is cut off; a chunk that holds nothing new is late
            known = round(-offset * rate / NANOSECONDS)
            if known >= len(samples):
                self._counters.sound_late += 1
                return events
            samples = samples[known:]
        self._expected += round(len(samples) * NANOSECONDS / rate)
        return events + self._take(self._resample(samples))

    def give_up_until(self, stamp: int) -> int:
        """Lets go of every second that begins before a stamp; returns how many that were."""
        count = max(0, -(-(stamp - self.next_second) // NANOSECONDS))
        if count:
            self._next += count
            self._buffer, self._rate = np.zeros(0, np.float32), 0  # what comes next is aligned anew
        return count

    def flush(self) -> list[SoundEvent]:
        """The stream ends: what the resampler holds comes out, a part of a second is dropped."""
        if not self._rate:
            return []
        return self._take(self._resample(np.zeros(0, np.float32), last=True))

    def _restart(self, stamp: int, rate: int) -> list[SoundEvent]:
        """Aligns the buffer with the first boundary that this chunk can serve."""
        events = self.flush()
        self._rate = rate
        self._resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
        self._expected = stamp
        since = stamp - self.next_second
        whole, lead = divmod(since, NANOSECONDS) if since > 0 else (0, since)
        if lead > MAX_LEAD:
            whole, lead = whole + 1, lead - NANOSECONDS
        self._next += whole
        self._skip = max(0, round(-lead * SAMPLE_RATE / NANOSECONDS))
        self._buffer = np.zeros(max(0, round(lead * SAMPLE_RATE / NANOSECONDS)), np.float32)
        return events

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
    """Samples of any usual form as float32 mono.

    Args:
        samples: float32 in [-1, 1] or int16, [n] or [n, channels].
        sample_rate: Hz.

    Raises:
        ValueError: the rate, the type or the shape is out of the question, or values are not finite.
    """
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
    return mono.astype(np.float32)
