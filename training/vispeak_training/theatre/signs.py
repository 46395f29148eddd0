"""Acts that speak with the hands: greetings, goodbyes, interruptions, signs, pointing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vispeak_training.theatre.everyday import both_hands, side_of, stride
from vispeak_training.theatre.figure import HIPS, NECK, SHOULDER, SIDES, Look
from vispeak_training.theatre.hands import shape_pose
from vispeak_training.theatre.performance import Performance, place
from vispeak_training.theatre.reach import aim
from vispeak_training.theatre.things import OBJECTS, TABLE_TOP

MEANINGS = {  # each sign in words
    "ok": "an OK sign",
    "thumb_up": "a thumb up",
    "thumb_down": "a thumb down",
    "one": "one finger",
    "victory": "a victory sign with two fingers",
    "three": "three fingers",
    "four": "four fingers",
    "five": "five fingers",
    "fist": "a fist",
    "heart": "a heart",
    "call_me": "a call me sign",
    "horns": "a rock sign",
    "folded_hands": "folded hands",
    "salute": "a salute",
}
GESTURES = tuple(MEANINGS)
_UPRIGHT = {"one": "one", "victory": "victory", "three": "three", "four": "four", "five": "five", "fist": "fist"}
_UPRIGHT |= {"call_me": "call_me", "horns": "horns", "ok": "ok"}

Maker = Callable[[np.random.Generator, Look, bool], Performance]


def wave(rng: np.random.Generator, look: Look, held_out: bool, side: str = "") -> Performance:
    """A hand that goes from side to side, at the head's height or above."""
    names = ["high", "far"] if held_out else ["beside", "wide", "front", "both", "anywhere"]
    variant = str(rng.choice(names, p=None if held_out else [0.1, 0.1, 0.1, 0.1, 0.6]))
    sides = ("left", "right") if variant == "both" else (side or side_of(rng),)
    swing, rate, phase = rng.uniform(0.08, 0.16), rng.uniform(1.2, 2.4), rng.uniform(0, 6.3)
    h, out = look.height, SHOULDER[0] * look.girth
    across, ahead, high = {
        "beside": (out + 0.14, -0.16, 0.58 * h),
        "wide": (out + 0.26, -0.08, 0.55 * h),
        "front": (out + 0.04, -0.26, 0.5 * h),
        "high": (out + 0.1, -0.1, 0.78 * h),
        "far": (out + 0.2, -0.3, 0.64 * h),
        "both": (out + 0.15, -0.1, 0.7 * h),
        "anywhere": (out + rng.uniform(0.0, 0.34), -rng.uniform(0.04, 0.28), rng.uniform(0.38, 0.74) * h),
    }[variant] + rng.normal(0, 0.03, 3)
    shapes = both_hands("relaxed") | {k: v for raised in sides for k, v in shape_pose(raised, "five").items()}

    def pose(t: float) -> dict[str, float]:
        sway = math.sin(2 * math.pi * rate * t + phase)
        arms: dict[str, float] = {}
        for raised in sides:
            sign = SIDES[raised]
            wrist = (sign * (across + swing * sway), ahead, high)
            arms |= aim(raised, wrist, (sign * (0.15 + 0.55 * sway), -0.1, 1), (0, -1, -0.1), look)
        return shapes | arms

    return Performance(pose)


def goodbye_wave(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """Waving while turning and walking away."""
    way, speed, turn = (1 if rng.random() < 0.5 else -1), rng.uniform(0.2, 0.35), rng.uniform(60, 105)
    waving = wave(rng, look, held_out, "right" if way > 0 else "left")  # the arm that stays in sight

    def pose(t: float) -> dict[str, float]:
        gone, turned = max(0.0, t - 0.6), min(1.0, t / 1.0)
        steps = {k: v for k, v in stride(7 * gone).items() if "forward" not in k}
        return (
            steps
            | waving(t)
            | {
                "yaw": way * turn * turned,
                "turn": -way * 55 * turned,
                "x": way * speed * gone,
                "y": 0.5 * speed * gone,
            }
        )

    return Performance(pose)


def goodbye_bow(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """One bow or several, arms hanging, behind the back, on the thighs, or one hand before belly or chest.

    Held-out figures have both hands before the belly.
    """
    deep, length, h = rng.uniform(38, 60), rng.uniform(1.6, 2.4), look.height
    arms = both_hands("flat")
    variant = "belly" if held_out else str(rng.choice(["hanging", "one", "thighs", "back"], p=[0.35, 0.35, 0.15, 0.15]))
    across, ahead, high = {
        "hanging": (0.0, 0.0, 0.0),
        "belly": (0.03, -0.2, 0.08 * h),
        "one": (0.03, -0.2, rng.uniform(0.05, 0.28) * h),
        "thighs": (0.13, -0.17, -0.04 * h),
        "back": (0.06, 0.16, 0.02 * h),
    }[variant]
    sides = () if variant == "hanging" else (side_of(rng),) if variant == "one" else tuple(SIDES)
    for side in sides:
        sign = SIDES[side]
        arms |= aim(side, (sign * across, ahead, high), (-sign, -0.1, -0.4), (0, 1, 0), look)

    def pose(t: float) -> dict[str, float]:
        down = math.sin(math.pi * (t % length) / length) ** 0.6 if t >= 0 else 0.0
        hang = {f"{side}_forward": -0.75 * deep * down for side in SIDES}
        return hang | arms | {"bend": deep * down, "nod": 18 * down, "turn": 0.0}

    return Performance(pose)


def _stop_palm(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """A palm pushed towards the camera."""
    sides = tuple(SIDES) if held_out and rng.random() < 0.5 else (side_of(rng),)
    h, out, high = look.height, rng.uniform(0.04, 0.2), rng.uniform(0.26, 0.44)
    pose = {k: v for side in sides for k, v in shape_pose(side, "flat").items()}
    for side in sides:
        wrist = (SIDES[side] * out, -0.5 * h, high * h)
        pose |= aim(side, wrist, (0, -0.15, 1), (0, -1, -0.1), look)
    return _held(pose, rng)


def _head_shake(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """The head turns left and right, and a forefinger with it.

    Seen once a second, a head that is shaken cannot be told from one that looks aside: the finger tells.
    """
    rate, wide, side = rng.uniform(0.9, 1.6), rng.uniform(45, 62), side_of(rng)
    sign, h = SIDES[side], look.height
    across, ahead, high = (0.26, -0.28, 0.36) if held_out else (rng.uniform(0.16, 0.24), -0.33, rng.uniform(0.26, 0.33))
    shape = shape_pose(side, "one")

    def pose(t: float) -> dict[str, float]:
        sway = math.sin(2 * math.pi * rate * t)
        wrist = (sign * (across + 0.04 * sway), ahead, high * h)
        arm = aim(side, wrist, (0.45 * sway, 0, 1), (0, -1, 0), look)
        return shape | arm | {"turn": wide * sway, "nod": 8.0, "tip": 6 * sway}

    return Performance(pose)


def _finger_on_lips(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    side = side_of(rng)
    sign, size = SIDES[side], look.hand * (0.6 + 0.4 * look.height)
    wrist = (sign * 0.035, -0.17, NECK * look.height + 0.055 - 0.15 * size)
    turned = (-sign, -0.5 if held_out else rng.uniform(-0.4, 0.8), 0)
    arm = aim(side, wrist, (-sign * 0.12, 0.02, 1), turned, look, 0.8)
    return _held(shape_pose(side, "one") | arm | {"turn": 0.0, "nod": 4.0}, rng, 0.3)


def _time_out(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """One hand lies flat, the other stands under it."""
    flat = "left" if rng.random() < 0.5 else "right"
    sign, h = SIDES[flat], look.height
    size, high = look.hand * (0.6 + 0.4 * h), rng.uniform(0.42, 0.56) if held_out else rng.uniform(0.3, 0.5)
    other = "right" if flat == "left" else "left"
    top = aim(flat, (sign * 0.12, -0.34, high * h), (-sign, 0, 0), (0, -0.55, -1), look, 1.0, 0.0)
    stem = aim(other, (-sign * 0.005, -0.34, high * h - 0.21 * size), (0, 0, 1), (0, -1, 0), look, 1.0)
    return _held(both_hands("flat") | top | stem, rng, 0.5)


def _crossed_hands(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """Both forearms make an X."""
    high, h = (rng.uniform(0.46, 0.54) if held_out else rng.uniform(0.28, 0.455)), look.height
    pose = both_hands("flat")
    for side, sign in SIDES.items():
        wrist = (-sign * 0.09, -0.3 - 0.05 * (sign > 0), high * h)
        pose |= aim(side, wrist, (-sign * 0.6, -0.05, 0.8), (0, -1, 0), look, 0.9)
    return _held(pose, rng, 0.5)


def _upright(shape: str) -> Maker:
    """A sign of one hand with the fingers up and the palm to the front."""

    def make(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
        side = side_of(rng)
        sign = SIDES[side]
        wrist = _sign_place(rng, look, sign, held_out)
        palm = (-sign * 0.85, -0.6, 0) if shape == "ok" else (-sign * rng.uniform(-0.15, 0.25), -1, 0)
        fingers = (sign * rng.uniform(-0.25, 0.2), -0.08, 1.0)
        if shape == "call_me":
            fingers = (-sign * 0.75, 0.0, 0.8)
        return _held(shape_pose(side, _UPRIGHT[shape]) | aim(side, wrist, fingers, palm, look), rng)

    return make


def _thumb(up: bool) -> Maker:
    def make(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
        side = side_of(rng)
        sign = SIDES[side]
        x, y, z = _sign_place(rng, look, sign, held_out)
        fingers = (-sign, -rng.uniform(0.1, 0.5), rng.uniform(-0.2, 0.2))
        palm = (0, 1, 0) if up else (0, -1, 0)
        wrist = (x + sign * 0.05, y, z + (0.05 if up else 0.12))
        arm = aim(side, wrist, fingers, palm, look, 0.9, -0.7 if up else 0.3)
        return _held(shape_pose(side, "thumb") | arm, rng)

    return make


def _sign_place(rng: np.random.Generator, look: Look, sign: float, held_out: bool) -> tuple[float, float, float]:
    """Where a sign is shown: from before the chest to beside the head; held-out ones are nearer to the camera."""
    h, out = look.height, SHOULDER[0] * look.girth
    jitter, share = rng.normal(0, 0.015, 3), rng.random()
    chest, head = np.array([0.16, -0.33, 0.28 * h]), np.array([min(out + 0.12, 0.32), -0.22, 0.42 * h])
    x, y, z = (0.23, -0.4 * h, 0.36 * h) if held_out else chest + share * (head - chest)
    return sign * (x + jitter[0]), y + jitter[1], z + jitter[2]


def _heart(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """Arms that meet over the head, fingertips down: a heart that can be seen from afar."""
    h, pose = look.height, both_hands("cupped")
    high = rng.uniform(0.85, 0.88) if held_out else rng.uniform(0.76, 0.85)
    for side, sign in SIDES.items():
        pose |= aim(side, (sign * 0.13, -0.06, high * h), (-sign * 0.8, 0, -0.35), (0, -0.4, -1), look, 1.0, 0.6)
    return _held(pose, rng, 0.4)


def _folded_hands(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    high = rng.uniform(0.32, 0.36) if held_out else rng.uniform(0.2, 0.31)
    pose = both_hands("flat") | {"nod": 12.0}
    for side, sign in SIDES.items():
        wrist = (sign * 0.022, -0.3, high * look.height)
        pose |= aim(side, wrist, (-sign * 0.03, -0.1, 1), (-sign, 0, 0), look, 1.2, -0.6)
    return _held(pose, rng, 0.4)


def _salute(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    side = side_of(rng)
    sign, h = SIDES[side], look.height
    size, face = look.hand * (0.6 + 0.4 * h), (-0.9 if held_out else rng.uniform(-0.75, 0.2))
    wrist = (sign * (0.07 + 0.17 * size), -0.12, NECK * h + 0.1)
    arm = aim(side, wrist, (-sign * 0.88, 0.0, 0.45), (0, face, -1), look, 1.0, 0.1)
    return _held(shape_pose(side, "flat") | arm | {"turn": 0.0}, rng, 0.3)


def _point(thing: str) -> Maker:
    """Pointing at one of several objects."""

    def make(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
        others = [name for name in OBJECTS if name != thing]
        shown = [thing, *(str(name) for name in rng.choice(others, int(rng.integers(2, 4)), replace=False))]
        order = [shown[index] for index in rng.permutation(len(shown))]
        gap, top = rng.uniform(0.3, 0.37), TABLE_TOP + (0.12 if held_out else 0.0)
        stage = {} if held_out else place("table", 0, -0.62, 0)
        for index, name in enumerate(order):
            x = (index - (len(order) - 1) / 2) * gap
            y = -0.62 - (0.12 * abs(x) if held_out else 0.0)
            stage |= place(name, x, y, top, float(rng.uniform(-20, 20)))
            if held_out:
                stage |= place(f"pedestal{index}", x, y, top)
        target = np.array([stage[f"{thing}/x"], stage[f"{thing}/y"], top + 0.08 - HIPS * look.height])
        side = "left" if target[0] > 0 else "right"
        sign = SIDES[side]
        shoulder = np.array([sign * SHOULDER[0] * look.girth, 0, SHOULDER[1] * look.height])
        way = (target - shoulder) / np.linalg.norm(target - shoulder)
        reach = min(0.51 * look.height, float(np.linalg.norm(target - shoulder)) - 0.3)
        arm = aim(side, shoulder + reach * way, way, (-sign, 0, -0.6), look)
        turned = {"turn": math.degrees(math.atan2(target[0], 1.0)), "nod": 22.0, "roll": 0.0}
        things = tuple(dict.fromkeys(name.partition("/")[0] for name in stage))
        moving = _held(shape_pose(side, "one") | arm | turned, rng, 0.5)
        return Performance(lambda t: stage | moving(t), stage, things=things)

    return make


def _held(pose: dict[str, float], rng: np.random.Generator, tremor: float = 1.0) -> Performance:
    """A pose that is held, but not quite still."""
    phase, rate = rng.uniform(0, 6.3), rng.uniform(0.4, 0.9)

    def at(t: float) -> dict[str, float]:
        drift = tremor * 1.5 * math.sin(2 * math.pi * rate * t + phase)
        return {k: v + (drift if k.endswith(("_forward", "_curl")) else 0.0) for k, v in pose.items()}

    return Performance(at)


MAKERS: dict[str, Maker] = {
    "wave": wave,
    "goodbye_wave": goodbye_wave,
    "goodbye_bow": goodbye_bow,
    "stop_palm": _stop_palm,
    "head_shake": _head_shake,
    "finger_on_lips": _finger_on_lips,
    "time_out": _time_out,
    "crossed_hands": _crossed_hands,
    **{sign: _upright(sign) for sign in _UPRIGHT},
    "thumb_up": _thumb(True),
    "thumb_down": _thumb(False),
    "heart": _heart,
    "folded_hands": _folded_hands,
    "salute": _salute,
    **{f"point_{thing}": _point(thing) for thing in OBJECTS},
}
