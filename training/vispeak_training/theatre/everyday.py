"""Everyday acts, which call for no words, whatever the arms do."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vispeak_training.theatre.figure import HIPS, NECK, Look
from vispeak_training.theatre.hands import shape_pose
from vispeak_training.theatre.performance import Performance, PoseAt, place
from vispeak_training.theatre.reach import aim

SEAT = 0.46  # m


def both_hands(shape: str) -> dict[str, float]:
    """Joint angles of two hands in the same shape."""
    return shape_pose("left", shape) | shape_pose("right", shape)


def side_of(rng: np.random.Generator) -> str:
    """The left or, more often, the right."""
    return "left" if rng.random() < 0.4 else "right"


def walk(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """Walking across the room."""
    way, speed, phase = (1 if rng.random() < 0.5 else -1), rng.uniform(0.4, 1.0), rng.uniform(0, 6.3)
    start, deep = -way * rng.uniform(0.3, 1.4), rng.uniform(0, 0.5)

    def pose(t: float) -> dict[str, float]:
        return stride(2 * math.pi * speed * 1.4 * t + phase) | {
            "x": start + way * speed * t,
            "y": deep,
            "yaw": 75.0 * way,
        }

    return Performance(pose)


def stride(phase: float, reach: float = 28.0) -> dict[str, float]:
    """Legs and arms of somebody who walks; one step a half turn of the phase."""
    swing = math.sin(phase)
    return {
        "left_hip": reach * swing,
        "right_hip": -reach * swing,
        "left_knee": 15 + 15 * swing,
        "right_knee": 15 - 15 * swing,
        "left_forward": -25 * swing,
        "right_forward": 25 * swing,
    }


def _scratch(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """Fingers at the head: at its side, its top or its back."""
    side, rate = side_of(rng), rng.uniform(1.5, 3)
    sign, high = (1 if side == "left" else -1), rng.uniform(0.06, 0.25)
    shape, back = shape_pose(side, "cupped"), rng.uniform(-0.06, 0.08)

    def pose(t: float) -> dict[str, float]:
        rub = 0.015 * math.sin(2 * math.pi * rate * t)
        wrist = (sign * 0.22, back + rub, NECK * look.height + high + rub)
        arm = aim(side, wrist, (-sign, 0, 0.1), (0, 0.2, -1), look, 1.0, 0.0)
        return shape | arm | {"nod": 10.0, "tip": 4.0 * sign}

    return Performance(pose)


def _phone(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """A hand at the ear."""
    side, out = side_of(rng), rng.uniform(0.4, 1.0)
    sign = 1 if side == "left" else -1
    wrist = (sign * 0.13, rng.uniform(-0.12, -0.04), NECK * look.height + 0.02)
    hand = shape_pose(side, "cupped") | aim(side, wrist, (-sign * 0.1, 0.25, 1), (-sign, 0, 0), look, out)
    return Performance(lambda t: hand | {"tip": 3 * sign + math.sin(t)})


def _stretch(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    raised, bent = rng.uniform(150, 178), rng.uniform(0, 25)
    return _still({f"{s}_{j}": v for s in ("left", "right") for j, v in (("raise", raised), ("elbow", bent))})


def _reach(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    side, raised, forward = side_of(rng), rng.uniform(55, 105), rng.uniform(0, 70)
    return _still({f"{side}_raise": raised, f"{side}_elbow": 5.0, f"{side}_forward": -forward})


def _reach_up(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    side, raised = side_of(rng), rng.uniform(152, 178)
    return _still({f"{side}_raise": raised, f"{side}_elbow": 4.0, "roll": 4.0})


def _cross_arms(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    high, h = rng.uniform(0.2, 0.28), look.height
    left = aim("left", (-0.12, -0.2, high * h), (-1, 0.3, 0.1), (0, 1, 0), look, 1.0)
    right = aim("right", (0.12, -0.25, (high + 0.04) * h), (1, 0.3, 0.1), (0, 1, 0), look, 1.0)
    return _still(left | right)


def _hips(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    out = rng.uniform(35, 55)
    return _still({"left_raise": out, "right_raise": out, "left_elbow": -2 * out, "right_elbow": -2 * out})


def _bend(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    return _still(_bent(rng.uniform(45, 85)))


def _squat(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    deep = rng.uniform(70, 100)
    legs = {f"{s}_{j}": way * deep for s in ("left", "right") for j, way in (("hip", -1.0), ("knee", 1.6))}
    return _still(legs | {"z": -0.42 * deep / 85, "bend": 20.0})


def _talk(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """Hands that go with words: low, half open, never held up to be read."""
    h, rates, phase = look.height, rng.uniform(0.4, 0.9, 2), rng.uniform(0, 6.3, 2)
    hands, both = both_hands("relaxed"), rng.random() < 0.6

    def pose(t: float) -> dict[str, float]:
        arms: dict[str, float] = {}
        for side, sign, rate, start in (("left", 1, rates[0], phase[0]), ("right", -1, rates[1], phase[1])):
            beat = math.sin(2 * math.pi * rate * t + start)
            wrist = (sign * (0.2 + 0.04 * beat), -0.3, (0.1 + 0.05 * beat) * h)
            if both or side == "right":
                arms |= aim(side, wrist, (-sign * 0.4, -0.9, 0.1 + 0.2 * beat), (-sign * 0.5, 0, 1), look)
        return hands | arms | {"nod": 5 * math.sin(2 * t)}

    return Performance(pose)


def _jacks(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    rate, phase = rng.uniform(0.6, 1.1), rng.uniform(0, 6.3)

    def pose(t: float) -> dict[str, float]:
        up = 0.5 - 0.5 * math.cos(2 * math.pi * rate * t + phase)
        arms = {f"{s}_{j}": v for s in ("left", "right") for j, v in (("raise", 15 + 150 * up), ("elbow", 5.0))}
        return arms | {"left_spread": 4 + 22 * up, "right_spread": 4 + 22 * up, "z": 0.05 * math.sin(math.pi * up)}

    return Performance(pose)


def _box(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    rate, h, hands, turn = rng.uniform(0.7, 1.3), look.height, both_hands("fist"), rng.uniform(-40, 40)

    def pose(t: float) -> dict[str, float]:
        arms: dict[str, float] = {}
        for side, sign in (("left", 1), ("right", -1)):
            out = max(0.0, sign * math.sin(2 * math.pi * rate * t))
            wrist = (sign * (0.14 - 0.05 * out), -0.2 - 0.3 * out, (0.4 + 0.02 * out) * h)
            arms |= aim(side, wrist, (0, -0.6 - out, 0.7 - 0.7 * out), (-sign, 0, -out), look)
        return hands | arms | {"yaw": turn, "left_knee": 12.0, "right_knee": 12.0}

    return Performance(pose)


def _carry(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    h, way, speed = look.height, (1 if rng.random() < 0.5 else -1), rng.uniform(0.1, 0.6)
    start, yaw = -way * rng.uniform(0.0, 0.8), way * rng.uniform(10, 70)
    hands = both_hands("flat")
    for side, sign in (("left", 1), ("right", -1)):
        hands |= aim(side, (sign * 0.17, -0.3, 0.12 * h), (-sign * 0.3, -1, 0), (-sign, 0, 0.2), look)

    def pose(t: float) -> dict[str, float]:
        x, angle = start + way * speed * t, math.radians(yaw)
        parcel = place("parcel", x + 0.42 * math.sin(angle), -0.42 * math.cos(angle), (HIPS + 0.14) * h, yaw)
        return stride(9 * speed * t, 40 * speed) | hands | {"x": x, "yaw": yaw} | parcel

    return Performance(pose, pose(0), things=("parcel",))


def _sit(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    yaw, x = rng.uniform(-40, 40), rng.uniform(-0.3, 0.3)
    chair = place("chair", x, 0.05, 0.0, yaw)
    seated = sitting(look, SEAT) | {"x": x, "yaw": yaw}

    def pose(t: float) -> dict[str, float]:
        down = min(t / 0.8, 1.0)
        return {k: v if k in ("x", "yaw") else down * v for k, v in seated.items()} | chair

    return Performance(pose, chair, things=("chair",))


def sitting(look: Look, seat: float) -> dict[str, float]:
    """Hips, knees, arms and height of somebody who sits `seat` m over the floor."""
    bent = 88.0 if seat > 0.3 else 8.0
    legs = {f"{s}_{j}": v for s in ("left", "right") for j, v in (("hip", -86.0), ("knee", bent), ("forward", -35.0))}
    return legs | {"z": seat + 0.1 - HIPS * look.height}


def _pick_up(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    deep, x, length = rng.uniform(60, 80), rng.uniform(-0.25, 0.25), rng.uniform(1.5, 2.5)
    parcel = place("parcel", x, -0.5, 0.09)

    def pose(t: float) -> dict[str, float]:
        down = math.sin(math.pi * min(max(t / length, 0.0), 2.0) / 2)
        return _bent(deep * max(down, 0.0)) | parcel

    return Performance(pose, parcel, things=("parcel",))


def _drink(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    side, h = side_of(rng), look.height
    sign = 1 if side == "left" else -1
    hand = shape_pose(side, "cupped") | aim(
        side, (sign * 0.13, -0.24, NECK * h - 0.02), (-sign * 0.8, 0.1, 0.4), (0, 1, -0.1), look, 0.9
    )
    mug = place("mug", sign * 0.02, -0.2, (HIPS + NECK) * h + 0.06, 0, 35)
    return Performance(lambda t: hand | mug | {"nod": -8.0}, things=("mug",))


def _bent(deep: float) -> dict[str, float]:
    return {"bend": deep, "left_forward": -deep, "right_forward": -deep, "left_knee": 20.0, "right_knee": 20.0}


def _still(pose: dict[str, float]) -> Performance:
    held: PoseAt = lambda t: dict(pose)  # noqa: E731 - the annotation is what it is for
    return Performance(held)


MAKERS: dict[str, Callable[[np.random.Generator, Look, bool], Performance]] = {
    "stand": lambda rng, look, held_out: Performance(lambda t: {}),
    "walk": walk,
    "scratch": _scratch,
    "stretch": _stretch,
    "reach": _reach,
    "reach_up": _reach_up,
    "cross_arms": _cross_arms,
    "hips": _hips,
    "bend": _bend,
    "squat": _squat,
    "phone": _phone,
    "talk": _talk,
    "jacks": _jacks,
    "box": _box,
    "carry": _carry,
    "sit": _sit,
    "pick_up": _pick_up,
    "drink": _drink,
}
