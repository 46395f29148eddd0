"""A cache with a bound: `[pinned | window of segments | replies]` in buffers that are allocated once.

Every position takes one row of the buffers; a row that was freed is used again. Rows remember their position, and
attention sees a row if its position is not behind the query's, so rows need no order. Positions never start again: keys
stay as they were stored, rotated by float64 angles (exact for positions up to 2^53). Only pinned rows are rotated anew,
from float32 copies of their unrotated keys, so that they stay just before the oldest position kept.

What says where things lie is kept on the host; the device gets it with a pass, so that no pass waits for the device.

Shape legend: B batch (1), K key-value heads, T positions of a call, S rows in use, C rows of a buffer, E head width.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from vispeak_node.model.config import LanguageConfig
from vispeak_node.model.language import Angles, rotary_angles, rotate
from vispeak_node.runtime.transfer import send

_FREE = 2**62  # position of a row that holds nothing: behind every query
_ALIGNMENT = 16  # rows of a buffer are a multiple, as attention kernels want their masks


class Part(Enum):
    """Where a unit belongs, which says how long it stays."""

    PINNED = "pinned"  # until the cache is cleared
    WINDOW = "window"  # until newer segments need its room
    REPLY = "reply"  # until newer replies need its room, or it lies too far back
    TEMPORARY = "temporary"  # until it is discarded


@dataclass(frozen=True)
class Budget:
    """How many positions each part may hold.

    Raises:
        ValueError: a part has no room, or the parts are longer than the span.
    """

    pinned: int  # the system prompt
    window: int  # segments, a pinned question among them
    replies: int  # positions at which the agent spoke
    temporary: int  # for what is discarded again: forks, remembered frames
    span: int  # from the first kept position to the newest: what the model was trained on

    def __post_init__(self) -> None:
        for name in ("pinned", "window", "replies", "span"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"the context has {getattr(self, name)} positions for {name}; raise max_positions ({self.span}), "
                    "or lower window_positions or reply_positions"
                )
        if self.pinned + self.window + self.replies > self.span:
            raise ValueError(
                f"prompt, window and replies need {self.pinned + self.window + self.replies} positions, more than "
                f"max_positions {self.span}: lower window_positions or reply_positions"
            )

    @property
    def rows(self) -> int:
        """Of each buffer."""
        return self.pinned + self.window + self.replies + self.temporary


@dataclass(eq=False)
class Unit:
    """Positions that leave together: a segment, a reply, a prompt."""

    part: Part
    stamp: int = 0  # ns, of the event
    first: int = -1  # position of its first row
    rows: list[int] = field(default_factory=list)
    held: bool = False  # becomes pinned instead of leaving
    raw_LKTE: Tensor | None = None  # unrotated keys, float32, once it was rotated anew


class RingCache:
    """Keys and values of one stream; implements `model.language.KeyValueCache` and `MaskedCache`.

    A pass goes like this: `place` says which units its positions belong to and makes room, then every layer appends.

    Args:
        config: of the language model.
        budget: positions for each part.
        dtype: of keys and values.
        device: of keys and values.
    """

    def __init__(
        self,
        config: LanguageConfig,
        budget: Budget,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        self.budget = budget
        self._config = config
        self._device = torch.device(device)
        self.scratch = budget.rows  # a row for what nobody reads: nothing is ever visible there
        capacity = (budget.rows // _ALIGNMENT + 1) * _ALIGNMENT
        shape = (config.num_layers, config.num_kv_heads, capacity, config.head_dim)
        # zeros, not empty: a masked row has no weight, but 0 times NaN is NaN
        self._keys_LKCE = torch.zeros(shape, dtype=dtype, device=device)  # one tensor: pins are turned in all at once
        self._values_LKCE = torch.zeros_like(self._keys_LKCE)
        self._keys, self._values = list(self._keys_LKCE[:, None]), list(self._values_LKCE[:, None])
        self._positions_C = torch.full((capacity,), _FREE, dtype=torch.long)  # on the host
        self.num_left = 0  # segments and replies that had to leave
        self.clear()

    def clear(self, start: int = 0) -> None:
        """Forgets everything and keeps the buffers; positions go on from `start`."""
        self._units: dict[Part, deque[Unit]] = {part: deque() for part in Part}
        self._free = list(range(self.budget.rows))  # a heap
        self._positions_C.fill_(_FREE)
        self._pins_lie_well = True  # pinned units end just before the oldest position kept
        self._in_order = True  # rows 0..high-1 are all in use, in order of position
        self._high = 0  # rows that were ever in use
        self.next_position = start
        self._placed_T = torch.empty(0, dtype=torch.long)
        self._on_device: Tensor | None = None  # the same, once a layer asked for it
        self._mask_TS: Tensor | None = None

    def __len__(self) -> int:
        """Positions stored."""
        return self.budget.rows - len(self._free)

    @property
    def num_bytes(self) -> int:
        """Of keys and values; the same at any age."""
        return self._keys_LKCE.nbytes + self._values_LKCE.nbytes

    @property
    def positions(self) -> Tensor:
        """Position of every row, int64 [C] on the host; what is free lies behind all that will ever be asked for."""
        return self._positions_C

    @property
    def placed(self) -> Tensor:
        """Rows of the present pass, int64 [T] on the host."""
        return self._placed_T

    def buffers(self, layer: int) -> tuple[Tensor, Tensor]:
        """All rows of a layer's keys and values, [1, K, C, E] each."""
        return self._keys[layer], self._values[layer]

    @property
    def oldest_stamp(self) -> int | None:
        """ns, of the oldest segment in the window."""
        window = self._units[Part.WINDOW]
        return window[0].stamp if window else None

    def count(self, part: Part) -> int:
        """Positions that a part holds."""
        return sum(len(unit.rows) for unit in self._units[part])

    def place(self, plan: Iterable[tuple[Unit, int]], evict: bool = True) -> int:
        """Takes rows for the positions of the next pass, in order.

        Args:
            plan: units and how many of the positions belong to each; a unit goes on where it ended.
            evict: whether others may leave for it; without, there must be room.

        Returns:
            Position of the first one.
        """
        plan = [(unit, count) for unit, count in plan if count]
        if evict:
            self._make_room(plan)
        if not self._pins_lie_well:
            self._move_pins()
        assert len(self._free) >= sum(count for _, count in plan), "a pass is larger than the budget"
        start, taken = self.next_position, []
        for unit, count in plan:
            units = self._units[unit.part]
            if not units or units[-1] is not unit:
                unit.rows = []
                units.append(unit)
            if not unit.rows:
                unit.first = self.next_position
            rows = [heapq.heappop(self._free) for _ in range(count)]
            unit.rows += rows
            taken += rows
            self.next_position += count
        self._high = max(self._high, max(taken) + 1)
        self._placed_T = torch.tensor(taken, dtype=torch.long)
        self._positions_C[self._placed_T] = torch.arange(start, self.next_position)
        self._on_device = self._mask_TS = None
        return start

    def append(self, layer: int, keys_BKTE: Tensor, values_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """See `KeyValueCache.append`; rows in use and free ones, [1, K, S, E] each, told apart by `visible`."""
        if self._on_device is None:
            self._on_device = send(self._placed_T, self._device)
        self._keys[layer].index_copy_(2, self._on_device, keys_BKTE)
        self._values[layer].index_copy_(2, self._on_device, values_BKTE)
        return self._keys[layer][:, :, : self._high], self._values[layer][:, :, : self._high]

    def visible(self, wanted: int) -> Tensor | None:
        """See `MaskedCache.visible`."""
        if self._in_order:
            return None
        if self._mask_TS is None:
            positions_S = send(self._positions_C[: self._high], self._device)
            self._mask_TS = positions_S <= send(self._positions_C[self._placed_T], self._device)[:, None]
        return self._mask_TS[-wanted:]

    def reserve(self, num_positions: int) -> None:
        """Lets segments leave now, so that a whole one of this length fits."""
        self._make_room([(Unit(Part.WINDOW), num_positions)])

    def discard(self, unit: Unit) -> None:
        """Lets a temporary unit go, if it is still there."""
        if unit in self._units[Part.TEMPORARY]:
            self._units[Part.TEMPORARY].remove(unit)
            self._release(unit)

    def rewind(self, position: int) -> None:
        """Positions go on from here again, after what lay behind was discarded."""
        assert position <= self.next_position
        self.next_position = position

    def _make_room(self, plan: list[tuple[Unit, int]]) -> None:
        busy = [unit for unit, _ in plan]
        new = {part: sum(count for unit, count in plan if unit.part is part) for part in Part}
        total = sum(new.values())
        left = self.num_left
        while self.count(Part.WINDOW) + self._num_held + new[Part.WINDOW] > self.budget.window:
            if not self._drop_oldest(Part.WINDOW, busy) and not self._drop_held():
                break
        while self.count(Part.REPLY) + new[Part.REPLY] > self.budget.replies:
            if not self._drop_oldest(Part.REPLY, busy) and not self._shorten(busy):
                break
        first = self.next_position + total - self.budget.span + self.count(Part.PINNED) + new[Part.PINNED]
        for part in (Part.WINDOW, Part.REPLY, Part.TEMPORARY):
            while self._units[part] and self._units[part][0].first < first and self._drop_oldest(part, busy):
                pass
        replies = self._units[Part.REPLY]
        while replies and replies[0].rows and replies[0].first < first and self._shorten(busy, least=0):
            pass  # one that goes on after a long while
        while len(self._free) < total and any(self._drop_oldest(part, busy) for part in (Part.WINDOW, Part.REPLY)):
            pass
        if self.num_left != left:
            self._pins_lie_well = False

    @property
    def _num_held(self) -> int:
        return sum(len(unit.rows) for unit in self._units[Part.PINNED] if unit.held)

    def _drop_oldest(self, part: Part, busy: list[Unit]) -> bool:
        """The oldest unit leaves, or is pinned if it is held; false if there is none that may."""
        units = self._units[part]
        if not units or units[0] in busy:
            return False
        unit = units.popleft()
        self.num_left += 1
        if unit.held:
            self._units[Part.PINNED].append(unit)
        else:
            self._release(unit)
        return True

    def _drop_held(self) -> bool:
        held = [unit for unit in self._units[Part.PINNED] if unit.held]
        for unit in held:
            self.unhold(unit)
        return bool(held)

    def unhold(self, unit: Unit) -> None:
        """A unit need not stay longer than others of its kind; if it was pinned for that, it leaves."""
        unit.held = False
        if unit.part is Part.WINDOW and unit in self._units[Part.PINNED]:
            self._units[Part.PINNED].remove(unit)
            self._release(unit)
            self._pins_lie_well = False

    def _shorten(self, busy: list[Unit], least: int = 1) -> bool:
        """A reply that alone is too long, or reaches too far back, loses its first position."""
        units = self._units[Part.REPLY]
        if not units or len(units[0].rows) <= least:
            return False
        unit = units[0]
        assert unit in busy
        self._free_rows(unit.rows[:1])
        del unit.rows[0]
        if unit.rows:
            unit.first = int(self._positions_C[unit.rows[0]])
        self.num_left += 1
        return True

    def _release(self, unit: Unit) -> None:
        self._free_rows(unit.rows)
        unit.rows, unit.raw_LKTE = [], None

    def _free_rows(self, rows: list[int]) -> None:
        if not rows:
            return
        if self._in_order and rows == list(range(self._high - len(rows), self._high)):
            self._high -= len(rows)  # the newest ones: what remains is in order
        else:
            self._in_order = False
        self._positions_C[torch.tensor(rows)] = _FREE
        for row in rows:
            heapq.heappush(self._free, row)

    def _move_pins(self) -> None:
        """Rotates pinned keys so that they end just before the oldest position kept; before a pass, once."""
        self._pins_lie_well = True
        others = [self._units[part][0].first for part in Part if part is not Part.PINNED and self._units[part]]
        end = min(others, default=self.next_position)
        start = end - self.count(Part.PINNED)
        for unit in self._units[Part.PINNED]:
            count = len(unit.rows)
            if unit.first != start and count:
                self._rotate_anew(unit, start)
            start += count

    def _rotate_anew(self, unit: Unit, first: int) -> None:
        count, host_rows = len(unit.rows), torch.tensor(unit.rows)
        rows = send(host_rows, self._device)
        if unit.raw_LKTE is None:
            stored_LKTE = self._keys_LKCE.index_select(2, rows).float()
            cosines, sines = self._angles(unit.first, count)
            unit.raw_LKTE = rotate(stored_LKTE, (cosines, -sines))
        turned_LKTE = rotate(unit.raw_LKTE, self._angles(first, count))
        self._keys_LKCE.index_copy_(2, rows, turned_LKTE.to(self._keys_LKCE.dtype))
        self._positions_C[host_rows] = torch.arange(first, first + count)
        unit.first = first

    def _angles(self, start: int, count: int) -> Angles:
        cosines, sines = rotary_angles(self._config, start, count, torch.empty(0))
        return send(cosines, self._device), send(sines, self._device)
