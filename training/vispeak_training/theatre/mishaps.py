"""Acts that go wrong: anomalies, which call for a warning, and funny mishaps."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vispeak_training.theatre.everyday import SEAT, both_hands, sitting, stride
from vispeak_training.theatre.figure import HIPS, NECK, ROBOT, SIDES, Look
from vispeak_training.theatre.performance import Performance, place
from vispeak_training.theatre.physics import Shot, drop, tumble
from vispeak_training.theatre.reach import aim
from vispeak_training.theatre.things import FLAMES, PUFFS, SHOT_RADIUS

_GRAVITY = 9.81


def _fall(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """Somebody faints; to the front or a side, held-out figures to the back."""
    way = (
        rng.uniform(60, 120)
        if held_out
        else rng.choice([rng.uniform(-110, -70), rng.uniform(-25, 25), rng.uniform(155, 205)])
    )
    push, angle = rng.uniform(0.5, 0.9), math.radians(float(way))
    stance = {"left_knee": rng.uniform(5, 20), "right_knee": rng.uniform(5, 20)}
    stance |= {"left_raise": rng.uniform(5, 40), "right_raise": rng.uniform(5, 40)}
    stance |= {"left_hip": -stance["left_knee"] / 2, "right_hip": -stance["right_knee"] / 2}
    linear = (push * math.cos(angle), push * math.sin(angle), 0.0)
    spin = (-1.6 * push * math.sin(angle), 1.6 * push * math.cos(angle), rng.uniform(-0.5, 0.5))
    return Performance(tumble(look, stance, linear, spin, grip=1.0))


def _slip(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """The feet shoot forward and the body lands on its back or its side."""
    side = rng.uniform(-0.8, 0.8) * (2.0 if held_out else 1.0)
    stance = {"left_hip": -30.0, "left_knee": 10.0, "right_hip": 10.0, "right_knee": 15.0}
    stance |= {f"{s}_{j}": v for s in SIDES for j, v in (("raise", rng.uniform(60, 130)), ("forward", -20.0))}
    recording = tumble(look, stance, (0.3 * side, -0.7, 1.6), (-4.2, side, 0.5), grip=0.35)
    return Performance(recording)


def _hit(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """A flying ball knocks somebody over."""
    angle = math.radians(
        rng.uniform(215, 325) if held_out else rng.choice([rng.uniform(-40, 0), rng.uniform(180, 220)])
    )
    speed, far = rng.uniform(5.5, 8.0), 2.6
    aimed = np.array([0.0, 0.0, (HIPS + rng.uniform(0.25, 0.5)) * look.height])
    start = np.array([far * math.cos(angle), far * math.sin(angle), aimed[2]])
    flight = (far - 0.25) / speed
    velocity = (aimed - start) / far * speed + [0, 0, _GRAVITY * flight / 2]
    push = 0.9
    linear = (-push * math.cos(angle), -push * math.sin(angle), 0.2)
    spin = (2.0 * math.sin(angle), -2.2 * math.cos(angle), 0.0)
    shot = Shot(tuple(start), tuple(velocity), SHOT_RADIUS, 2.0)
    recording = tumble(look, {}, linear, spin, seconds=3.5, grip=1.0, shot=shot)
    return Performance(recording, things=("shot",))


def _drop(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """Something slips out of both hands, and the person stares at it with empty hands."""
    h, held = look.height, rng.uniform(0.3, 0.6)
    start = (rng.uniform(-0.1, 0.1), -0.42, (HIPS + 0.2) * h)
    falling = drop(start, (rng.uniform(-0.5, 0.5), -rng.uniform(0.0, 0.3), 0.2))
    holding, startled = both_hands("flat"), both_hands("five")
    for side, sign in SIDES.items():
        holding |= aim(side, (sign * 0.12, -0.3, 0.16 * h), (0, -1, 0), (-sign, 0, 0.2), look)
        out = (0.42, -0.25, 0.3 * h) if held_out else (0.34, -0.34, 0.2 * h)
        startled |= aim(side, (sign * out[0], *out[1:]), (sign * 0.5, -0.5, 0.7), (-sign * 0.3, -0.5, 0.8), look)

    def pose(t: float) -> dict[str, float]:
        loose = falling(max(0.0, t - held))
        share = min(1.0, max(0.0, (t - held) / 0.25))
        arms = {k: (1 - share) * v + share * startled[k] for k, v in holding.items()}
        return arms | loose | {"nod": 28 * share, "bend": 16 * share}

    return Performance(pose, things=("loose",))


def _fire(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """Flames, and somebody who runs from them."""
    side, deep = (1 if rng.random() < 0.5 else -1), rng.uniform(-0.1, 0.6)
    spots = np.stack([side * rng.uniform(0.25, 1.1, FLAMES), deep + rng.uniform(-0.25, 0.25, FLAMES)], 1)
    phases, rates = rng.uniform(0, 6.3, FLAMES), rng.uniform(1.5, 3.0, FLAMES)
    flee = _flee(rng, look, -side, held_out)

    def pose(t: float) -> dict[str, float]:
        flames: dict[str, float] = {}
        grown = min(1.0, 0.35 + 0.4 * t)
        for index, (x, y) in enumerate(spots):
            lick = math.sin(2 * math.pi * rates[index] * t + phases[index])
            flames |= place(
                f"flame{index}", x + 0.03 * lick, y, grown * (0.3 + 0.1 * lick) * (1 + index % 3 * 0.6) - 0.05
            )
        return flee(t) | flames

    return Performance(pose, things=tuple(f"flame{index}" for index in range(FLAMES)))


def _smoke(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """Smoke that rises and spreads, and somebody who coughs or runs."""
    side = 1 if rng.random() < 0.5 else -1
    source, deep = side * rng.uniform(0.4, 0.9), rng.uniform(-0.2, 0.6)
    offsets, flee = rng.uniform(0, 1, (PUFFS, 3)), _flee(rng, look, -side, held_out)

    def pose(t: float) -> dict[str, float]:
        puffs: dict[str, float] = {}
        for index, (start, across, ahead) in enumerate(offsets):
            age = (0.3 * t + start) % 1.0 if t > 0.6 * start else 0.0
            spread = (across - 0.5) * (0.3 + 1.6 * age)
            puffs |= place(
                f"puff{index}", source + spread - side * 0.5 * age, deep + 0.5 * (ahead - 0.5), 0.1 + 2.1 * age
            )
        return flee(t) | puffs

    return Performance(pose, things=tuple(f"puff{index}" for index in range(PUFFS)))


def _flee(rng: np.random.Generator, look: Look, way: int, held_out: bool) -> Performance:
    """Runs off a little, then to and fro, arms up or before the face."""
    rate, reach = rng.uniform(0.25, 0.4), rng.uniform(0.2, 0.4)
    up = both_hands("five")
    for side, sign in SIDES.items():
        place_ = (sign * 0.1, -0.26, 0.5 * look.height) if held_out else (sign * 0.34, -0.1, 0.72 * look.height)
        up |= aim(side, place_, (sign * 0.3, -0.2, 1), (0, -1, 0), look)

    def pose(t: float) -> dict[str, float]:
        x = way * (0.15 + min(t, 1.0) * 0.15 + reach * abs(math.sin(2 * math.pi * rate * max(0.0, t - 0.5))))
        steps = {k: v for k, v in stride(9 * t, 40).items() if "forward" not in k}
        return up | steps | {"x": x, "yaw": way * 60 * math.cos(2 * math.pi * rate * t), "bend": 10.0}

    return Performance(pose)


def _box_on_head(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """A cardboard box lands over somebody's head and stays there."""
    h, turn = look.height, rng.uniform(-30, 30)
    rests, length = (HIPS + NECK) * h - 0.03, 0.35
    groping = both_hands("five")
    for side, sign in SIDES.items():
        out = (0.42, -0.2, 0.5 * h) if held_out else (0.3, -0.12, 0.62 * h)
        groping |= aim(side, (sign * out[0], *out[1:]), (-sign * 0.1, -0.3, 1), (-sign, -0.2, 0), look)

    def pose(t: float) -> dict[str, float]:
        over = 0.5 * _GRAVITY * max(0.0, length**2 - t**2) if t < length else 0.0
        share, sway = min(1.0, max(0.0, (t - length) / 0.4)), math.sin(4 * t)
        arms = {k: share * v for k, v in groping.items()}
        x = 0.08 * share * sway
        step = {"left_knee": 10 * share * (1 + sway), "right_knee": 10 * share * (1 - sway)}
        return arms | step | place("carton", x, 0.0, rests + over, turn) | {"x": x, "roll": 0.0, "turn": 0.0}

    return Performance(pose, things=("carton",))


def _ball_on_head(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """A ball that bounces on the head again and again, and the person who looks up at it."""
    h, high = look.height, rng.uniform(0.15, 0.32)
    top = (HIPS + NECK) * h + 0.24 + 0.12
    period = 2 * math.sqrt(2 * high / _GRAVITY)
    arms = both_hands("five")
    for side, sign in SIDES.items():
        out = (0.45, -0.1, 0.3 * h) if held_out else (0.5, -0.05, 0.15 * h)
        arms |= aim(side, (sign * out[0], *out[1:]), (sign, -0.2, 0.4), (0, -0.3, 1), look)

    def pose(t: float) -> dict[str, float]:
        share = ((t + 0.5 * period) % period) / period
        ball = place("bounce", 0.05 * math.sin(2 * t), 0.0, top + high * 4 * share * (1 - share), 90 * t, 60 * t)
        dip = max(0.0, 1 - 8 * min(share, 1 - share))
        return arms | ball | {"nod": -12 + 14 * dip, "turn": 0.0, "z": -0.05 * dip, "roll": 0.0}

    return Performance(pose, things=("bounce",))


def _hat_off(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """A gust takes the hat; it dances over the head, out of the hands' reach."""
    way, rate = (1 if rng.random() < 0.5 else -1), rng.uniform(0.25, 0.4)
    h, wide = look.height, rng.uniform(0.25, 0.5)
    arms = both_hands("five")
    for side, sign in SIDES.items():
        out = (0.2, -0.1, 0.8 * h) if held_out or sign == way else (0.32, -0.2, 0.62 * h)
        arms |= aim(side, (sign * out[0], *out[1:]), (sign * 0.2, -0.2, 1), (0, -1, 0), look)

    def pose(t: float) -> dict[str, float]:
        gone = min(1.0, t / 0.8)
        swirl = 2 * math.pi * rate * t
        hat = {
            "hat_x": gone * way * wide * math.sin(swirl + 0.6),
            "hat_y": -0.1 * gone,
            "hat_z": gone * (0.25 + 0.1 * math.sin(2 * swirl)),
        }
        return (
            {k: v * gone for k, v in arms.items()}
            | hat
            | {"hat_turn": way * 40 * gone * math.sin(swirl), "nod": -18 * gone}
        )

    return Performance(pose, hat=True)


def _chair_pulled(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """Somebody sits down where the chair no longer is."""
    side, away = (1 if rng.random() < 0.5 else -1), rng.uniform(0.6, 0.85)
    yaw, begin, land = rng.uniform(-35, 35), 0.5, 0.9
    seat, floor = sitting(look, SEAT), sitting(look, 0.04)
    stage = place("chair", 0, 0.05, 0, yaw)

    def pose(t: float) -> dict[str, float]:
        slid = min(1.0, max(0.0, (t - 0.2) / 0.4))
        chair = place("chair", side * away * slid, 0.05 + 0.25 * slid, 0, yaw + side * 40 * slid)
        down, fallen = min(1.0, t / begin), min(1.0, max(0.0, (t - begin) / (land - begin))) ** 2
        body = {k: down * (1 - fallen) * v + fallen * floor[k] for k, v in seat.items()}
        flung = 70 * fallen * math.exp(-0.3 * max(0.0, t - land))
        return body | chair | {"left_raise": 10 + flung, "right_raise": 10 + flung, "yaw": yaw, "bend": -8 * fallen}

    return Performance(pose, stage, things=("chair",))


def _robot_dance(rng: np.random.Generator, look: Look, held_out: bool) -> Performance:
    """A figure with a box for a head whose arms go up and down at right angles, in steps."""
    beat, jerk = rng.uniform(1.2, 2.0), rng.permutation(4)

    def pose(t: float) -> dict[str, float]:
        step = int(jerk[int(t * beat) % 4])
        left, right = ((90, -90), (90, 90), (-90, 90), (-90, -90))[step]
        lean = (10, -10, 10, -10)[step]
        hands = both_hands("flat") | {"left_twist": 0.0, "right_twist": 0.0}
        body = {"left_raise": 90.0, "right_raise": 90.0, "left_elbow": left, "right_elbow": right, "roll": lean}
        legs = {"left_knee": 25.0 * (step % 2), "left_hip": -18.0 * (step % 2), "turn": 30.0 * (step - 1.5)}
        return hands | body | legs | {"yaw": 20.0 * (step % 2) if held_out else 0.0}

    return Performance(pose, costume=ROBOT)


MAKERS: dict[str, Callable[[np.random.Generator, Look, bool], Performance]] = {
    "fall": _fall,
    "slip": _slip,
    "hit": _hit,
    "drop": _drop,
    "fire": _fire,
    "smoke": _smoke,
    "box_on_head": _box_on_head,
    "ball_on_head": _ball_on_head,
    "hat_off": _hat_off,
    "chair_pulled": _chair_pulled,
    "robot_dance": _robot_dance,
}
