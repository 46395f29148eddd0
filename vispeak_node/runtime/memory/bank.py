"""The pyramid of VideoChat-Online (arXiv 2501.00584): levels of falling resolution and rising rate.

A level that is full hands its most redundant frame down, smaller; the last level drops one. Two sets of rules: `COMPAT`
does as the published code does, `DEFAULT` mends it (docs/memory.md says how and why).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vispeak_node.runtime.memory.frame import Frame, frame_bytes, likeness
from vispeak_node.stream.events import NANOSECONDS


@dataclass(frozen=True)
class Level:
    """One level of the pyramid."""

    side: int  # tokens along one side of a frame
    capacity: int  # frames; 0 switches the level off


@dataclass(frozen=True)
class Rules:
    """How frames arrive, move down and leave.

    Raises:
        ValueError: a number is out of its range.
    """

    by_time: bool = True  # arrival by the clock; else by number: every 8th at the top, every 4th at the middle
    period: float = 8.0  # s between arrivals at the first level
    cascade: bool = True  # a frame handed down may push another one further; else that one is lost
    in_order: bool = True  # neighbours are neighbours in time; else in order of arrival at the level
    coverage: float = 2.0  # holes are at most so many times as long as an even spread's; 0 looks at likeness alone

    def __post_init__(self) -> None:
        if not 0 < self.period < 1e6:
            raise ValueError(f"period must be between 0 and 1e6 s, not {self.period}")
        if not 0 <= self.coverage < 1e6:
            raise ValueError(f"coverage must not be negative, not {self.coverage}")


DEFAULT = Rules()
COMPAT = Rules(by_time=False, cascade=False, in_order=False, coverage=0.0)


class PyramidBank:
    """Keeps frames within a number of tokens that never grows.

    Args:
        levels: three, the finest first.
        rules: see `Rules`.

    Raises:
        ValueError: the published rules with a level of less than two frames, for which they are not defined.
    """

    def __init__(self, levels: Sequence[Level], rules: Rules = DEFAULT) -> None:
        if len(levels) != 3 or any(level.capacity < 0 or level.side < 1 for level in levels):
            raise ValueError("a pyramid has three levels with a side of at least 1 and no negative capacity")
        if not rules.in_order and min(level.capacity for level in levels) < 2:
            raise ValueError("the published rules need at least two frames a level; use others for fewer")
        self.levels = tuple(levels)
        self.rules = rules
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._entries: list[list[Frame]] = [[] for _ in self.levels]
        self._origin: int | None = None  # ns, the first frame that was offered
        self._newest = 0
        self._slot = -1  # the eighth of a period that the last frame arrived in
        self._num_offered = 0

    def level(self, number: int) -> list[Frame]:
        """Frames of one level, in its own order."""
        return list(self._entries[number])

    def frames(self) -> list[Frame]:
        """All frames in order of time."""
        return sorted((frame for level in self._entries for frame in level), key=_time)

    @property
    def num_tokens(self) -> int:
        """Rows that all frames take when they are read."""
        return sum(frame.num_tokens for level in self._entries for frame in level)

    @property
    def num_bytes(self) -> int:
        """Of all frames."""
        return sum(frame.num_bytes for level in self._entries for frame in level)

    def push(self, stamp: int, features_NF: Tensor) -> bool:
        """Takes one frame, if its time has come.

        Args:
            stamp: ns, after the last one's.
            features_NF: projector inputs, a square of tokens.

        Returns:
            Whether it was kept.
        """
        number = self._arrival(stamp)
        self._num_offered += 1
        if number is None:
            return False
        self._newest = stamp
        self._place(number, Frame(stamp, self._num_offered - 1, features_NF), cascade=True)
        return True

    def restore(self, levels: Sequence[Sequence[Frame]], origin: int, num_offered: int) -> None:
        """Takes over what another bank of the same levels held.

        Raises:
            ValueError: it does not fit.
        """
        for level, frames in zip(self.levels, levels, strict=True):
            if len(frames) > level.capacity or any(frame.side > level.side for frame in frames):
                raise ValueError("the remembered frames do not fit the pyramid's levels")
        self.clear()
        self._entries = [list(frames) for frames in levels]
        self._origin, self._num_offered = origin, num_offered
        self._newest = max((frame.stamp for frames in levels for frame in frames), default=origin)
        self._slot = (self._newest - origin) // self._slot_length

    @property
    def origin(self) -> int:
        """ns, where the past begins."""
        return self._origin or 0

    @property
    def num_offered(self) -> int:
        """Frames that were offered so far."""
        return self._num_offered

    @property
    def _slot_length(self) -> int:
        return max(1, round(self.rules.period * NANOSECONDS / 8))

    def _arrival(self, stamp: int) -> int | None:
        """The level that a frame arrives at, or none."""
        if self._origin is None:
            self._origin = stamp
        if not self.rules.by_time:
            return 0 if self._num_offered % 8 == 0 else 1 if self._num_offered % 4 == 0 else 2
        slot, before = (stamp - self._origin) // self._slot_length, self._slot
        if slot <= before:
            return None
        self._slot = slot
        if slot // 8 > before // 8:
            return 0
        # the first frame of a period's second half
        return 1 if slot % 8 >= 4 and before % 8 < 4 else 2

    def _place(self, number: int, frame: Frame, cascade: bool) -> None:
        level, entries = self.levels[number], self._entries[number]
        frame = frame.shrunk(level.side)
        if not self.rules.in_order:
            self._place_as_published(number, frame, cascade)
            return
        insort(entries, frame, key=_time)
        while len(entries) > level.capacity:
            victim = entries.pop(self._victim(number))
            if number + 1 < len(self.levels):
                self._place(number + 1, victim, cascade=True)

    def _place_as_published(self, number: int, frame: Frame, cascade: bool) -> None:
        entries = self._entries[number]
        if len(entries) >= self.levels[number].capacity:
            victim = entries[int(likeness(entries).argmax())]
            if cascade and number + 1 < len(self.levels):
                self._place(number + 1, victim, cascade=self.rules.cascade)
            entries.remove(victim)
        entries.append(frame)

    def _victim(self, number: int) -> int:
        """Place of the frame most like its successor, among those whose going leaves no hole."""
        entries = self._entries[number]
        if len(entries) < 2 or self.levels[number].capacity == 0:
            return 0
        similar = likeness(entries)
        if self.rules.coverage:
            # what moves down is still there; what leaves the last level leaves a hole in everything that is kept
            last = max(place for place, level in enumerate(self.levels) if level.capacity)
            kept = entries if number < last else self.frames()
            holes = torch.tensor(self._holes(entries[:-1], kept), dtype=torch.float64)
            limit = self.rules.coverage * (self._newest - self.origin) / len(kept)
            if not bool((holes <= limit).any()):
                return int(holes.argmin())
            similar = similar.masked_fill(holes > limit, -torch.inf)
        return int(similar.argmax())

    def _holes(self, candidates: list[Frame], kept: list[Frame]) -> list[int]:
        """ns without a frame that each one would leave behind."""
        stamps = [self.origin, *(frame.stamp for frame in kept)]
        around = {frame.index: (before, after) for frame, before, after in zip(kept, stamps, stamps[2:], strict=False)}
        return [after - before for before, after in (around[frame.index] for frame in candidates)]


def level_sizes(levels: Sequence[Level], width: int, element_size: int) -> tuple[int, int]:
    """Tokens and bytes of a full pyramid."""
    tokens = sum(level.capacity * level.side**2 for level in levels)
    return tokens, sum(level.capacity * frame_bytes(level.side**2, width, element_size) for level in levels)


def _time(frame: Frame) -> int:
    return frame.stamp
