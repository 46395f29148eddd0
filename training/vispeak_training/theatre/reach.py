"""Where an arm's joints must stand for its hand to be at a place, turned a given way.

The frame is the body's: origin at the hips, x to the person's left, y to the back, z up; metres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vispeak_training.theatre.figure import FOREARM, SHOULDER, SIDES, UPPER_ARM, Look

Vector = Sequence[float]


def aim(
    side: str, wrist: Vector, fingers: Vector, palm: Vector, look: Look, elbow_out: float = 0.5, elbow_up: float = -1.0
) -> dict[str, float]:
    """Joint angles, in degrees, that bring a hand to a place.

    The elbow is found by the law of cosines, the three wrist joints turn the hand.

    Args:
        side: "left" or "right".
        wrist: where the wrist is wanted; brought nearer if the arm is too short.
        fingers: where straight fingers shall point.
        palm: where the palm shall face; made square to `fingers`.
        look: whose arm.
        elbow_out: how far the elbow is drawn away from the body.
        elbow_up: how far it is drawn up; negative is down.
    """
    sign = SIDES[side]
    upper, fore = UPPER_ARM * look.height, FOREARM * look.height
    shoulder = np.array([sign * SHOULDER[0] * look.girth, 0.0, SHOULDER[1] * look.height])
    way = np.asarray(wrist, float) - shoulder
    distance = float(np.clip(np.linalg.norm(way), 0.15 * look.height, upper + fore - 1e-3))
    way = _unit(way)
    along = (upper**2 - fore**2 + distance**2) / (2 * distance)
    pole = np.array([sign * elbow_out, 0.25, elbow_up])
    pole = _unit(pole - (pole @ way) * way)
    elbow = along * way + math.sqrt(max(upper**2 - along**2, 0.0)) * pole
    forward, raise_, upper_frame = _swing(_unit(elbow), sign)
    curl, bent, lower_frame = _swing(upper_frame.T @ _unit(distance * way - elbow), sign)
    twist, tilt, lean = euler((upper_frame @ lower_frame).T @ _hand_frame(fingers, palm))
    return {
        f"{side}_forward": forward,
        f"{side}_raise": raise_,
        f"{side}_curl": curl,
        f"{side}_elbow": bent,
        f"{side}_twist": twist,
        f"{side}_tilt": tilt,
        f"{side}_lean": lean,
    }


def euler(turn: NDArray[np.float64]) -> tuple[float, float, float]:
    """A rotation matrix as degrees about z, then the new x, then the new y."""
    across = math.asin(float(np.clip(turn[2, 1], -1, 1)))
    return (
        math.degrees(math.atan2(-turn[0, 1], turn[1, 1])),
        math.degrees(across),
        math.degrees(math.atan2(-turn[2, 0], turn[2, 2])),
    )


def _swing(way: NDArray[np.float64], sign: float) -> tuple[float, float, NDArray[np.float64]]:
    """Angles about x and then (0, -sign, 0) that point a limb some way, and the frame they make; the smaller pair."""
    first = math.asin(float(np.clip(-way[0], -1, 1)))
    choices = (
        (math.atan2(way[1], -way[2]), first),
        (math.atan2(-way[1], way[2]), math.remainder(math.pi - first, math.tau)),
    )
    about_x, about_y = min(choices, key=lambda pair: abs(pair[0]) + abs(pair[1]))
    cx, sx, cy, sy = math.cos(about_x), math.sin(about_x), math.cos(about_y), math.sin(about_y)
    frame = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return math.degrees(about_x), -sign * math.degrees(about_y), frame


def _hand_frame(fingers: Vector, palm: Vector) -> NDArray[np.float64]:
    back = -_unit(np.asarray(fingers, float))
    face = np.asarray(palm, float)
    face = _unit(face - (face @ back) * back)
    return np.stack([np.cross(face, back), face, back], axis=1)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
