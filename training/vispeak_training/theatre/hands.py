"""Hands with five fingers that bend, and the shapes that they form.

In a hand's own frame the fingers point along -z, the palm faces +y, and the thumb lies towards the body.
"""

from __future__ import annotations

FINGERS = ("index", "middle", "ring", "pinky")
_PLACES = {"index": -0.03, "middle": -0.01, "ring": 0.01, "pinky": 0.03}  # m across the palm, thumb side negative
_LENGTHS = {"index": 0.044, "middle": 0.049, "ring": 0.045, "pinky": 0.036}  # m of each of two segments
_FANS = {"index": 1.0, "middle": 0.33, "ring": -0.33, "pinky": -1.0}

_STRAIGHT, _FOLDED = (0.0, 5.0), (88.0, 115.0)  # degrees at the knuckle and in the middle
_TUCKED = (62.0, -28.0, 0.0)  # a thumb across the palm: flexed, fanned, bent at its tip
_OUT = (5.0, 62.0, -5.0)

# shape -> fingers that are straight, degrees between outer fingers and the palm's axis, thumb
_SHAPES: dict[str, tuple[tuple[str, ...], float, tuple[float, float, float]]] = {
    "five": (FINGERS, 17.0, _OUT),
    "flat": (FINGERS, 0.0, (5.0, 14.0, 0.0)),
    "four": (FINGERS, 12.0, _TUCKED),
    "three": (("index", "middle", "ring"), 14.0, _TUCKED),
    "victory": (("index", "middle"), 22.0, _TUCKED),
    "one": (("index",), 0.0, _TUCKED),
    "fist": ((), 0.0, _TUCKED),
    "thumb": ((), 0.0, (0.0, 92.0, -4.0)),
    "call_me": (("pinky",), 24.0, (0.0, 78.0, -5.0)),
    "horns": (("index", "pinky"), 14.0, _TUCKED),
    "ok": (("middle", "ring", "pinky"), 18.0, (48.0, 30.0, 20.0)),
    "relaxed": (FINGERS, 3.0, (20.0, 25.0, 10.0)),
    "cupped": (FINGERS, 0.0, (15.0, 75.0, 20.0)),
}


def shape_pose(side: str, shape: str) -> dict[str, float]:
    """Joint angles, in degrees, of one hand in one shape.

    Raises:
        KeyError: there is no such shape.
    """
    straight, fan, thumb = _SHAPES[shape]
    pose = {}
    for finger in FINGERS:
        flex, middle = _STRAIGHT if finger in straight else _FOLDED
        if shape == "ok" and finger == "index":
            flex, middle = 48.0, 68.0
        if shape == "relaxed":
            flex, middle = 14.0, 22.0
        if shape == "cupped":
            flex, middle = 48.0, 32.0
        pose[f"{side}_{finger}_fan"] = _FANS[finger] * fan if finger in straight else 0.0
        pose[f"{side}_{finger}_flex"] = flex
        pose[f"{side}_{finger}_bend"] = middle
    flexed, fanned, tip = thumb
    return pose | {f"{side}_thumb_flex": flexed, f"{side}_thumb_fan": fanned, f"{side}_thumb_bend": tip}


def hand_xml(prefix: str, side: str, sign: float, scale: float, skin: str) -> str:
    """A hand's geoms and fingers as MJCF, to stand inside the hand's body.

    Args:
        prefix: of all names, so that a room can hold several people.
        side: "left" or "right".
        sign: +1 for the left hand, whose thumb lies towards -x when the arm hangs.
        scale: of all lengths.
        skin: "r g b a".
    """
    name, s = f"{prefix}{side}", scale
    fingers = "".join(_finger_xml(name, finger, sign, s, skin) for finger in FINGERS)
    return f"""
      <geom type="box" size="{0.04 * s:.4f} {0.015 * s:.4f} {0.046 * s:.4f}" pos="0 0 {-0.055 * s:.4f}" rgba="{skin}"/>
      <geom type="capsule" size="{0.021 * s:.4f}" fromto="0 0 .01 0 0 {-0.03 * s:.4f}" rgba="{skin}"/>
      {fingers}
      <body name="{name}_thumb" pos="{-sign * 0.036 * s:.4f} {0.006 * s:.4f} {-0.035 * s:.4f}">
        <joint name="{name}_thumb_flex" axis="1 0 0"/><joint name="{name}_thumb_fan" axis="0 {sign} 0"/>
        <geom type="capsule" size="{0.0135 * s:.4f}" fromto="0 0 0 0 0 {-0.042 * s:.4f}" rgba="{skin}"/>
        <body name="{name}_thumb_tip" pos="0 0 {-0.042 * s:.4f}">
          <joint name="{name}_thumb_bend" axis="0 {-sign} 0"/>
          <geom type="capsule" size="{0.0125 * s:.4f}" fromto="0 0 0 0 0 {-0.033 * s:.4f}" rgba="{skin}"/>
        </body>
      </body>"""


def mitten_xml(sign: float, scale: float, skin: str) -> str:
    """A hand of one piece with a thumb, for people in the background and for physics."""
    s = scale
    return (
        f'<geom type="ellipsoid" size="{0.045 * s:.4f} {0.02 * s:.4f} {0.09 * s:.4f}" pos="0 0 {-0.09 * s:.4f}" '
        f'rgba="{skin}"/><geom type="capsule" size="{0.013 * s:.4f}" '
        f'fromto="{-sign * 0.03 * s:.4f} 0 {-0.04 * s:.4f} {-sign * 0.07 * s:.4f} 0 {-0.09 * s:.4f}" rgba="{skin}"/>'
    )


def _finger_xml(name: str, finger: str, sign: float, s: float, skin: str) -> str:
    length = _LENGTHS[finger] * s
    return f"""
      <body name="{name}_{finger}" pos="{sign * _PLACES[finger] * s:.4f} 0 {-0.1 * s:.4f}">
        <joint name="{name}_{finger}_fan" axis="0 {sign} 0"/><joint name="{name}_{finger}_flex" axis="1 0 0"/>
        <geom type="capsule" size="{0.0115 * s:.4f}" fromto="0 0 0 0 0 {-length:.4f}" rgba="{skin}"/>
        <body name="{name}_{finger}_tip" pos="0 0 {-length:.4f}">
          <joint name="{name}_{finger}_bend" axis="1 0 0"/>
          <geom type="capsule" size="{0.0105 * s:.4f}" fromto="0 0 0 0 0 {-0.85 * length:.4f}" rgba="{skin}"/>
        </body>
      </body>"""
