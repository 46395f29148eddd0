"""What a person does: each act is a pose as a function of time, with the randomness drawn once at its start."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PoseAt = Callable[[float], dict[str, float]]  # seconds since the act began -> joint angles in degrees, shifts in metres

EVENTS = ("wave", "fall")  # acts that call for words
EVENT_LABELS = {"wave": "visual_wake_up/wave", "fall": "anomaly_warning/fall"}  # classes of the event head
IDLE = ("stand", "walk", "scratch", "stretch", "reach", "reach_up", "cross_arms", "hips", "bend", "squat", "phone")
ABSENT = "nobody"
ACTS = (*EVENTS, *IDLE, ABSENT)

SENTENCES = {  # how each act is told when a user asks
    "wave": "A person is waving.",
    "fall": "A person has fallen down.",
    "stand": "A person is standing still.",
    "walk": "A person is walking.",
    "scratch": "A person is scratching their head.",
    "stretch": "A person is stretching.",
    "reach": "A person is reaching out.",
    "reach_up": "A person is reaching up.",
    "cross_arms": "A person has crossed their arms.",
    "hips": "A person has their hands on the hips.",
    "bend": "A person is bending down.",
    "squat": "A person is squatting.",
    "phone": "A person is on the phone.",
    "nobody": "Nobody is there.",
}


@dataclass(frozen=True)
class Part:
    """One act within a clip."""

    act: str
    start: float  # s
    end: float  # s
    pose: PoseAt


def make_act(act: str, rng: np.random.Generator) -> PoseAt:
    """One performance of an act.

    Raises:
        KeyError: there is no such act.
    """
    return _MAKERS[act](rng)


def rest(rng: np.random.Generator) -> PoseAt:
    """Standing and breathing: what every other act is laid over."""
    lean, look, spread = rng.normal(0, 3), rng.normal(0, 15), rng.uniform(4, 14)
    phase, sway = rng.uniform(0, 6.3), rng.uniform(0.5, 2.0)

    def pose(t: float) -> dict[str, float]:
        breath = math.sin(1.5 * t + phase)
        return {
            "roll": lean + sway * math.sin(0.7 * t + phase),
            "turn": look + 8 * math.sin(0.4 * t + phase),
            "left_raise": spread + breath,
            "right_raise": spread - breath,
            "left_elbow": -4.0,
            "right_elbow": -4.0,
            "left_spread": 4.0,
            "right_spread": 4.0,
        }

    return pose


def _side(rng: np.random.Generator) -> str:
    return "left" if rng.random() < 0.5 else "right"


def _wave(rng: np.random.Generator) -> PoseAt:
    side, upper = _side(rng), rng.uniform(45, 125)
    middle, swing = rng.uniform(168, 190), rng.uniform(14, 32)
    rate, phase, forward = rng.uniform(1.2, 2.6), rng.uniform(0, 6.3), rng.uniform(0, 25)

    def pose(t: float) -> dict[str, float]:
        direction = middle + swing * math.sin(2 * math.pi * rate * t + phase)
        return {f"{side}_raise": upper, f"{side}_elbow": direction - upper, f"{side}_forward": -forward}

    return pose


def _fall(rng: np.random.Generator) -> PoseAt:
    axis = "roll" if rng.random() < 0.6 else "pitch"
    way, length = (1 if rng.random() < 0.5 else -1), rng.uniform(0.5, 0.9)
    arms, knee = rng.uniform(30, 140, 2), rng.uniform(5, 60, 2)

    def pose(t: float) -> dict[str, float]:
        down = min(t / length, 1.0) ** 2  # a falling body gets faster
        return {
            axis: way * 88 * down,
            "z": -0.8 * down,
            "left_raise": arms[0] * down,
            "right_raise": arms[1] * down,
            "left_hip": -knee[0] * 0.6 * down,
            "right_hip": -knee[1] * 0.6 * down,
            "left_knee": knee[0] * down,
            "right_knee": knee[1] * down,
        }

    return pose


def _walk(rng: np.random.Generator) -> PoseAt:
    way, speed, phase = (1 if rng.random() < 0.5 else -1), rng.uniform(0.4, 1.0), rng.uniform(0, 6.3)
    start = -way * rng.uniform(0.3, 1.4)

    def pose(t: float) -> dict[str, float]:
        swing = math.sin(2 * math.pi * speed * 1.4 * t + phase)
        return {
            "x": start + way * speed * t,
            "yaw": 75.0 * way,
            "left_hip": 28 * swing,
            "right_hip": -28 * swing,
            "left_knee": 15 + 15 * swing,
            "right_knee": 15 - 15 * swing,
            "left_forward": -25 * swing,
            "right_forward": 25 * swing,
        }

    return pose


def _scratch(rng: np.random.Generator) -> PoseAt:
    side, upper, rate = _side(rng), rng.uniform(95, 135), rng.uniform(1.5, 3)

    def pose(t: float) -> dict[str, float]:
        return {
            f"{side}_raise": upper,
            f"{side}_elbow": 232 - upper + 6 * math.sin(2 * math.pi * rate * t),
            "nod": 10.0,
        }

    return pose


def _phone(rng: np.random.Generator) -> PoseAt:
    side, upper = _side(rng), rng.uniform(25, 60)
    return lambda t: {f"{side}_raise": upper, f"{side}_elbow": 205 - upper + math.sin(t), "roll": 3.0}


def _stretch(rng: np.random.Generator) -> PoseAt:
    raised, bent = rng.uniform(150, 178), rng.uniform(0, 25)
    pose = {
        f"{side}_{joint}": value for side in ("left", "right") for joint, value in (("raise", raised), ("elbow", bent))
    }
    return lambda t: dict(pose)


def _reach(rng: np.random.Generator) -> PoseAt:
    side, raised, forward = _side(rng), rng.uniform(55, 105), rng.uniform(0, 70)
    return lambda t: {f"{side}_raise": raised, f"{side}_elbow": 5.0, f"{side}_forward": -forward}


def _reach_up(rng: np.random.Generator) -> PoseAt:
    side, raised = _side(rng), rng.uniform(152, 178)
    return lambda t: {f"{side}_raise": raised, f"{side}_elbow": 4.0, "roll": 4.0}


def _cross_arms(rng: np.random.Generator) -> PoseAt:
    out = rng.uniform(10, 25)
    pose = {"left_raise": out, "right_raise": out, "left_forward": -25.0, "right_forward": -25.0}
    return lambda t: pose | {"left_elbow": -105.0, "right_elbow": -105.0, "left_curl": -20.0, "right_curl": -20.0}


def _hips(rng: np.random.Generator) -> PoseAt:
    out = rng.uniform(35, 55)
    return lambda t: {"left_raise": out, "right_raise": out, "left_elbow": -2 * out, "right_elbow": -2 * out}


def _bend(rng: np.random.Generator) -> PoseAt:
    deep = rng.uniform(45, 85)
    return lambda t: {
        "bend": deep,
        "left_forward": -deep,
        "right_forward": -deep,
        "left_knee": 20.0,
        "right_knee": 20.0,
    }


def _squat(rng: np.random.Generator) -> PoseAt:
    deep = rng.uniform(70, 100)
    legs = {
        f"{side}_{joint}": way * deep for side in ("left", "right") for joint, way in (("hip", -1.0), ("knee", 1.6))
    }
    return lambda t: legs | {"z": -0.42 * deep / 85, "bend": 20.0}


_MAKERS: dict[str, Callable[[np.random.Generator], PoseAt]] = {
    "wave": _wave,
    "fall": _fall,
    "stand": lambda rng: lambda t: {},
    "walk": _walk,
    "scratch": _scratch,
    "phone": _phone,
    "stretch": _stretch,
    "reach": _reach,
    "reach_up": _reach_up,
    "cross_arms": _cross_arms,
    "hips": _hips,
    "bend": _bend,
    "squat": _squat,
    ABSENT: lambda rng: lambda t: {"y": 50.0, "z": -5.0},
}
