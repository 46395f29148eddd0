"""A clip's script: which acts follow each other, and what of it calls for words.

Times in seconds from the clip's start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vispeak_training.theatre.acts import ABSENT, EVENTS, IDLE, Part, PoseAt, make_act, rest

BLEND = 0.4  # s from one act's pose to the next
SUDDEN = ("fall", ABSENT)  # acts that begin without a blend


@dataclass(frozen=True)
class Script:
    """What happens in one clip."""

    parts: tuple[Part, ...]
    rest: PoseAt
    duration: float

    def part_at(self, time: float) -> Part:
        """The act under way."""
        return next((part for part in reversed(self.parts) if part.start <= time), self.parts[0])

    def settled(self, time: float) -> bool:
        """Whether the picture at this time shows one act and not a change between two."""
        part = self.part_at(time)
        return time - part.start >= (0.7 if part.act == "fall" else BLEND * 0.8) or part is self.parts[0]

    def pose(self, time: float) -> dict[str, float]:
        """Joint values at a time, blended smoothly where acts change."""
        part = self.part_at(time)
        pose = self.rest(time) | part.pose(time - part.start)
        index = self.parts.index(part)
        share = (time - part.start) / BLEND
        if index == 0 or share >= 1 or part.act in SUDDEN or self.parts[index - 1].act == ABSENT:
            return pose
        before = self.parts[index - 1]
        old = self.rest(time) | before.pose(time - before.start)
        weight = share * share * (3 - 2 * share)
        return {k: weight * pose.get(k, 0.0) + (1 - weight) * old.get(k, 0.0) for k in pose.keys() | old.keys()}

    def events(self) -> list[Part]:
        """The acts that call for words, in order."""
        return [part for part in self.parts if part.act in EVENTS]


def make_script(rng: np.random.Generator, duration: float) -> Script:
    """A random clip: everyday acts, and in most clips one or two events among them."""
    parts: list[Part] = []
    time, fallen = 0.0, False
    wanted = int(rng.choice([0, 1, 2], p=[0.25, 0.6, 0.15]))
    while time < duration:
        room = duration - time
        event = wanted and rng.random() < (0.25 if time == 0 else 0.5)
        if fallen:
            break  # whoever has fallen stays down
        if event:
            act = str(rng.choice(EVENTS, p=[0.65, 0.35]))
            wanted -= 1
            fallen = act == "fall"
            length = room if fallen else rng.uniform(2.0, 4.5)
        else:
            act = str(rng.choice([*IDLE, ABSENT], p=_IDLE_SHARES))
            length = rng.uniform(1.5, 4.5)
        parts.append(Part(act, time, min(time + length, duration), make_act(act, rng)))
        time += length
    return Script(tuple(parts), rest(rng), duration)


def fixed_script(rng: np.random.Generator, acts: list[tuple[str, float]]) -> Script:
    """A clip with given acts, each with its length in seconds."""
    parts, time = [], 0.0
    for act, length in acts:
        parts.append(Part(act, time, time + length, make_act(act, rng)))
        time += length
    return Script(tuple(parts), rest(rng), time)


_IDLE_SHARES = [0.28, 0.1, *[0.06] * 9, 0.08]
assert len(_IDLE_SHARES) == len(IDLE) + 1 and abs(sum(_IDLE_SHARES) - 1) < 1e-9
