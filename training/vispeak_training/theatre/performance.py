"""One performance of an act: a pose as a function of time, and the things that it needs on the stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

PoseAt = Callable[[float], dict[str, float]]  # seconds since the act began -> joint angles in degrees, shifts in metres


@dataclass(frozen=True)
class Performance:
    """What an act does; call it with the seconds since it began."""

    pose: PoseAt
    dressing: Mapping[str, float] = field(default_factory=dict)  # where its things stand before it begins
    costume: str = ""  # a head that the person must have
    hat: bool = False  # the person wears a hat
    things: tuple[str, ...] = ()  # names of THINGS that it moves

    def __call__(self, time: float) -> dict[str, float]:
        """The pose at a time."""
        return self.pose(time)


@dataclass(frozen=True)
class Part:
    """One act within a clip."""

    act: str
    start: float  # s
    end: float  # s
    pose: Performance


def place(thing: str, x: float, y: float, z: float, turn: float = 0.0, tumble: float = 0.0) -> dict[str, float]:
    """Where a thing stands: metres from the stage's middle, degrees about z and about its own x."""
    return {f"{thing}/x": x, f"{thing}/y": y, f"{thing}/z": z, f"{thing}/turn": turn, f"{thing}/tumble": tumble}


def is_thing(joint: str) -> bool:
    """Whether a joint belongs to a thing and not to the person."""
    return "/" in joint or joint.startswith("hat_")
