"""What is remembered of the frames that were seen: nothing, the window's, or a pyramid of all of them.

Shape legend: N tokens of a frame, F width of a projector input.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from vispeak_node.runtime.memory.bank import DEFAULT, Level, PyramidBank, Rules, level_sizes
from vispeak_node.runtime.memory.frame import Frame, frame_bytes

POLICIES = ("none", "window", "pyramid")
_SHARES = (1, 1, 6)  # frames of the levels, as published (2, 2, 12)


@dataclass(frozen=True)
class Sizes:
    """What a policy is built for."""

    side: int  # tokens along one side of a frame as the model reads it
    width: int  # of a projector input
    dtype: torch.dtype  # of projector inputs
    window_frames: int  # frames that the context's window can hold
    recall_positions: int  # positions that may be read at a question
    frame_overhead: int  # positions around a remembered frame: its time, its end marker
    budget: int  # bytes, of everything that is remembered


class FeatureMemory(Protocol):
    """Remembers frames within a budget in bytes."""

    def add(self, stamp: int, features_NF: Tensor) -> None:
        """Takes a frame; one that is not newer than the last is ignored."""
        ...

    def recent(self) -> list[Frame]:
        """The newest frames in full resolution, in order of time: what a context is rebuilt from."""
        ...

    def past(self, before: int) -> list[Frame]:
        """Frames from before a stamp, in order of time: what a question is answered from."""
        ...

    def clear(self) -> None:
        """Forgets everything."""
        ...

    def groups(self) -> dict[str, list[Frame]]:
        """All frames by where they lie, for a snapshot."""
        ...

    def capacities(self) -> dict[str, tuple[int, int]]:
        """Of each group: the most frames, and the most tokens of one."""
        ...

    def restore(self, groups: Mapping[str, Sequence[Frame]], origin: int, num_offered: int) -> None:
        """Takes over the groups of another memory.

        Raises:
            ValueError: they do not fit.
        """
        ...

    @property
    def origin(self) -> int:
        """ns, where the remembered past begins."""
        ...

    @property
    def num_offered(self) -> int:
        """Frames seen so far."""
        ...

    @property
    def num_bytes(self) -> int:
        """Of all that is remembered."""
        ...

    @property
    def num_recall_positions(self) -> int:
        """The most positions that `past` can take."""
        ...


class NoMemory:
    """Remembers nothing."""

    def __init__(self) -> None:
        self.origin = self.num_offered = self.num_bytes = self.num_recall_positions = 0

    def add(self, stamp: int, features_NF: Tensor) -> None:
        """See `FeatureMemory.add`."""

    def recent(self) -> list[Frame]:
        """See `FeatureMemory.recent`."""
        return []

    def past(self, before: int) -> list[Frame]:
        """See `FeatureMemory.past`."""
        return []

    def clear(self) -> None:
        """See `FeatureMemory.clear`."""

    def groups(self) -> dict[str, list[Frame]]:
        """See `FeatureMemory.groups`."""
        return {}

    def capacities(self) -> dict[str, tuple[int, int]]:
        """See `FeatureMemory.capacities`."""
        return {}

    def restore(self, groups: Mapping[str, Sequence[Frame]], origin: int, num_offered: int) -> None:
        """See `FeatureMemory.restore`."""


class WindowMemory:
    """Remembers the frames of the window.

    Raises:
        ValueError: the budget holds not one frame.
    """

    def __init__(self, sizes: Sizes) -> None:
        self._tokens = sizes.side**2
        most = sizes.budget // frame_bytes(self._tokens, sizes.width, sizes.dtype.itemsize)
        if most < 1:
            raise ValueError(f"memory_bytes {sizes.budget} holds not one frame; use more, or memory none")
        self._frames: deque[Frame] = deque(maxlen=min(most, sizes.window_frames))
        self.num_offered = 0
        self.origin = 0
        self.num_recall_positions = 0

    def add(self, stamp: int, features_NF: Tensor) -> None:
        """See `FeatureMemory.add`."""
        if self._frames and stamp <= self._frames[-1].stamp:
            return
        self.origin = self.origin if self.num_offered else stamp
        self._frames.append(Frame(stamp, self.num_offered, features_NF))
        self.num_offered += 1

    def recent(self) -> list[Frame]:
        """See `FeatureMemory.recent`."""
        return list(self._frames)

    def past(self, before: int) -> list[Frame]:
        """Nothing: what this remembers, the context holds."""
        return []

    def clear(self) -> None:
        """See `FeatureMemory.clear`."""
        self._frames.clear()
        self.num_offered = self.origin = 0

    def groups(self) -> dict[str, list[Frame]]:
        """See `FeatureMemory.groups`."""
        return {"recent": self.recent()}

    def capacities(self) -> dict[str, tuple[int, int]]:
        """See `FeatureMemory.capacities`."""
        assert self._frames.maxlen is not None
        return {"recent": (self._frames.maxlen, self._tokens)}

    def restore(self, groups: Mapping[str, Sequence[Frame]], origin: int, num_offered: int) -> None:
        """See `FeatureMemory.restore`."""
        frames = groups.get("recent", ())
        if len(frames) > self.capacities()["recent"][0] or any(frame.num_tokens != self._tokens for frame in frames):
            raise ValueError("the remembered frames do not fit the window")
        self.clear()
        self._frames.extend(frames)
        self.origin, self.num_offered = origin, num_offered

    @property
    def num_bytes(self) -> int:
        """See `FeatureMemory.num_bytes`."""
        return sum(frame.num_bytes for frame in self._frames)


class PyramidMemory:
    """Remembers the window's frames, and a pyramid of all that were seen.

    Raises:
        ValueError: the budget is too small for both.
    """

    def __init__(self, sizes: Sizes, rules: Rules = DEFAULT) -> None:
        levels = fitting_levels(sizes)
        left = sizes.budget - level_sizes(levels, sizes.width, sizes.dtype.itemsize)[1]
        self._window = WindowMemory(replace(sizes, budget=left))
        self._bank = PyramidBank(levels, rules)
        self.num_recall_positions = _positions(levels, sizes)

    def add(self, stamp: int, features_NF: Tensor) -> None:
        """See `FeatureMemory.add`."""
        self._window.add(stamp, features_NF)
        self._bank.push(stamp, features_NF)

    def recent(self) -> list[Frame]:
        """See `FeatureMemory.recent`."""
        return self._window.recent()

    def past(self, before: int) -> list[Frame]:
        """See `FeatureMemory.past`."""
        return [frame for frame in self._bank.frames() if frame.stamp < before]

    def clear(self) -> None:
        """See `FeatureMemory.clear`."""
        self._window.clear()
        self._bank.clear()

    def groups(self) -> dict[str, list[Frame]]:
        """See `FeatureMemory.groups`."""
        return self._window.groups() | {f"level{number}": self._bank.level(number) for number in range(3)}

    def capacities(self) -> dict[str, tuple[int, int]]:
        """See `FeatureMemory.capacities`."""
        levels = {f"level{n}": (level.capacity, level.side**2) for n, level in enumerate(self._bank.levels)}
        return self._window.capacities() | levels

    def restore(self, groups: Mapping[str, Sequence[Frame]], origin: int, num_offered: int) -> None:
        """See `FeatureMemory.restore`."""
        self._bank.restore([groups.get(f"level{number}", ()) for number in range(3)], origin, num_offered)
        self._window.restore(groups, origin, num_offered)

    @property
    def origin(self) -> int:
        """See `FeatureMemory.origin`."""
        return self._bank.origin

    @property
    def num_offered(self) -> int:
        """See `FeatureMemory.num_offered`."""
        return self._window.num_offered

    @property
    def num_bytes(self) -> int:
        """See `FeatureMemory.num_bytes`."""
        return self._window.num_bytes + self._bank.num_bytes


def fitting_levels(sizes: Sizes) -> tuple[Level, ...]:
    """The largest pyramid in the published shares whose bytes fit half the budget, and its reading the positions.

    Raises:
        ValueError: not even the smallest one fits.
    """
    unit = _levels(sizes, 1)
    one_bytes = level_sizes(unit, sizes.width, sizes.dtype.itemsize)[1]
    by_bytes, by_positions = sizes.budget // 2 // one_bytes, sizes.recall_positions // _positions(unit, sizes)
    if by_bytes < 1:
        raise ValueError(f"memory_bytes {sizes.budget} is too small for a pyramid: use at least {2 * one_bytes}")
    if by_positions < 1:
        raise ValueError(
            f"a question may read {sizes.recall_positions} positions of memory and a pyramid needs "
            f"{_positions(unit, sizes)}: raise max_positions, or use memory window"
        )
    return _levels(sizes, min(by_bytes, by_positions))


def _levels(sizes: Sizes, times: int) -> tuple[Level, ...]:
    return tuple(Level(max(1, sizes.side >> number), times * share) for number, share in enumerate(_SHARES))


def _positions(levels: Sequence[Level], sizes: Sizes) -> int:
    return sum(level.capacity * (level.side**2 + sizes.frame_overhead) for level in levels)


def build_memory(policy: str, sizes: Sizes) -> FeatureMemory:
    """The policy of that name.

    Raises:
        ValueError: the name is unknown, or the budget is too small.
    """
    if policy == "none":
        return NoMemory()
    if policy == "window":
        return WindowMemory(sizes)
    if policy == "pyramid":
        return PyramidMemory(sizes)
    raise ValueError(f"memory {policy!r} is unknown; use one of {', '.join(POLICIES)}")
