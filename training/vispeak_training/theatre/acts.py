"""The acts that a person can perform: their names, what they mean, and how one performance is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vispeak_training.theatre import everyday, mishaps, signs
from vispeak_training.theatre.figure import Look
from vispeak_training.theatre.performance import Part, Performance, PoseAt
from vispeak_training.theatre.things import OBJECTS

__all__ = ["ABSENT", "ACTS", "EVENTS", "EVENT_LABELS", "IDLE", "SENTENCES", "Part", "PoseAt", "make_act", "rest"]

WAKE_UP = ("wave",)
TERMINATION = ("goodbye_wave", "goodbye_bow")
INTERRUPTION = ("stop_palm", "head_shake", "finger_on_lips", "time_out", "crossed_hands")
GESTURES = tuple(signs.GESTURES)
ANOMALIES = ("fall", "slip", "drop", "hit", "fire", "smoke")
HUMOUR = ("box_on_head", "ball_on_head", "hat_off", "chair_pulled", "robot_dance")
REFERENCES = tuple(f"point_{thing}" for thing in OBJECTS)

BY_SUBTASK = {
    "visual_wake_up": WAKE_UP,
    "anomaly_warning": ANOMALIES,
    "gesture_understanding": GESTURES,
    "visual_reference": REFERENCES,
    "visual_interruption": INTERRUPTION,
    "humor_reaction": HUMOUR,
    "visual_termination": TERMINATION,
}
# acts that call for words; pointing is answered when somebody asks
EVENTS = (*WAKE_UP, *ANOMALIES, *GESTURES, *INTERRUPTION, *HUMOUR, *TERMINATION)
EVENT_LABELS = {  # classes of the event head
    act: f"{subtask}/{act}" for subtask, acts in BY_SUBTASK.items() if subtask != "visual_reference" for act in acts
}
REFERENCE_LABELS = {act: f"visual_reference/{act.removeprefix('point_')}" for act in REFERENCES}
IDLE = tuple(everyday.MAKERS)
ABSENT = "nobody"
ACTS = (*EVENTS, *REFERENCES, *IDLE, ABSENT)
DOWN = ("fall", "slip", "hit")  # whoever has fallen stays down
LASTING = (*DOWN, "fire", "smoke")  # go on until the clip ends

SENTENCES = {  # how each act is told when a user asks
    "wave": "A person is waving.",
    "goodbye_wave": "A person is leaving and waves goodbye.",
    "goodbye_bow": "A person is bowing.",
    "stop_palm": "A person holds out a palm to say stop.",
    "head_shake": "A person is shaking their head.",
    "finger_on_lips": "A person has put a finger on the lips.",
    "time_out": "A person shows a T with both hands.",
    "crossed_hands": "A person has crossed both hands in front.",
    "fall": "A person has fallen down.",
    "slip": "A person has slipped.",
    "drop": "A person has dropped something.",
    "hit": "A person was hit by a flying thing.",
    "fire": "A fire is burning in the room.",
    "smoke": "The room is filling with smoke.",
    "box_on_head": "A box has landed on a person's head.",
    "ball_on_head": "A ball is bouncing on a person's head.",
    "hat_off": "A person's hat is flying off.",
    "chair_pulled": "A person sat down beside the chair.",
    "robot_dance": "A robot is dancing.",
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
    "talk": "A person is talking.",
    "jacks": "A person is doing jumping jacks.",
    "box": "A person is boxing in the air.",
    "carry": "A person is carrying a parcel.",
    "sit": "A person is sitting on a chair.",
    "pick_up": "A person is picking something up.",
    "drink": "A person is drinking.",
    "nobody": "Nobody is there.",
    **{act: f"A person is showing {signs.MEANINGS[act]}." for act in GESTURES},
    **{f"point_{thing}": f"A person is pointing at the {thing}." for thing in OBJECTS},
}
assert set(SENTENCES) == set(ACTS)

_MAKERS: dict[str, Callable[[np.random.Generator, Look, bool], Performance]] = {
    **everyday.MAKERS,
    **signs.MAKERS,
    **mishaps.MAKERS,
    ABSENT: lambda rng, look, held_out: Performance(lambda t: {"y": 50.0, "z": -5.0}),
}
assert set(_MAKERS) == set(ACTS)
_RARE = 0.35  # share of performances in training in one of the ways that held-out clips have


def make_act(act: str, rng: np.random.Generator, look: Look | None = None, held_out: bool = False) -> Performance:
    """One performance of an act.

    Args:
        act: one of ACTS.
        rng: everything random is drawn from it.
        look: who performs; an average person by default.
        held_out: one of the ways to perform it that held-out clips have, for acts that have several; training clips
            have these now and then, and mostly others.

    Raises:
        KeyError: there is no such act.
    """
    return _MAKERS[act](rng, look or Look(), held_out or rng.random() < _RARE)


def label_of(act: str) -> str:
    """`subtask/label` of an event or a pointing, "none" for all else."""
    return EVENT_LABELS.get(act) or REFERENCE_LABELS.get(act) or "none"


def rest(rng: np.random.Generator) -> PoseAt:
    """Standing and breathing: what every other act is laid over."""
    lean, look, spread = rng.normal(0, 3), rng.normal(0, 12), rng.uniform(4, 14)
    phase, sway = rng.uniform(0, 6.3), rng.uniform(0.5, 2.0)
    hands = everyday.both_hands("relaxed")

    def pose(t: float) -> dict[str, float]:
        breath = math.sin(1.5 * t + phase)
        return {
            **hands,
            "roll": lean + sway * math.sin(0.7 * t + phase),
            "turn": look + 8 * math.sin(0.4 * t + phase),
            "left_raise": spread + breath,
            "right_raise": spread - breath,
            "left_elbow": -4.0,
            "right_elbow": -4.0,
            "left_twist": -60.0,
            "right_twist": 60.0,
            "left_spread": 4.0,
            "right_spread": 4.0,
        }

    return pose
