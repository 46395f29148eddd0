"""An articulated person as MJCF: what it is made of, and the names of its joints.

Lengths in metres, angles in degrees; the person stands at the origin, z up, facing -y.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SIDES = {"left": 1.0, "right": -1.0}  # the person's left is +x when it faces -y

# Joint name -> angle or shift. Arms: `raise` 0 hangs, 90 points sideways, 180 up; `elbow` bends in the same plane, so
# that raise + elbow is the forearm's direction; `forward` swings the whole arm to the front.
Pose = Mapping[str, float]


@dataclass(frozen=True)
class Look:
    """What one person looks like."""

    height: float  # scale of all lengths, 1 is 1.75 m
    girth: float  # scale of all thicknesses
    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    shirt: tuple[float, float, float]
    trousers: tuple[float, float, float]
    sleeves: bool  # long sleeves hide the forearm's skin
    long_hair: bool

    @classmethod
    def random(cls, rng: np.random.Generator, held_out: bool) -> Look:
        """A figure; held-out ones wear colours and have proportions that no training figure has."""
        hue = rng.uniform(0.0, 0.5) + (0.5 if held_out else 0.0)
        height = rng.uniform(0.98, 1.02) if held_out else rng.choice([rng.uniform(0.8, 0.97), rng.uniform(1.03, 1.15)])
        tone, girth, dark = rng.uniform(0.25, 1.0), rng.uniform(0.8, 1.3), rng.uniform(0.02, 0.5)
        return cls(
            height=float(height),
            girth=float(girth),
            skin=(0.95 * tone, 0.75 * tone, 0.6 * tone),
            hair=(dark, dark * rng.uniform(0.5, 1), dark * rng.uniform(0.2, 1)),
            shirt=colour(hue, rng.uniform(0.2, 1.0), rng.uniform(0.2, 1.0)),
            trousers=colour(rng.uniform(0.0, 1.0), rng.uniform(0.0, 0.6), rng.uniform(0.1, 0.7)),
            sleeves=bool(rng.random() < 0.6),
            long_hair=bool(rng.random() < 0.4),
        )


def colour(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """Hue, saturation and value in 0..1 to red, green and blue."""
    wheel = np.clip(np.abs(((hue + np.array([0, 2 / 3, 1 / 3])) % 1.0) * 6 - 3) - 1, 0, 1)
    red, green, blue = value * (1 - saturation * (1 - wheel))
    return float(red), float(green), float(blue)


def figure_xml(look: Look) -> str:
    """The person's body tree, for a worldbody."""
    h, g = look.height, look.girth
    skin, shirt, trousers, hair = (_rgba(c) for c in (look.skin, look.shirt, look.trousers, look.hair))
    tail = f'<geom type="capsule" size="{0.07 * g}" fromto="0 .06 .05 0 .09 {-0.25 * h}" rgba="{hair}"/>'
    head = f"""
    <body name="head" pos="0 0 {0.58 * h}">
      {_hinge("nod", "1 0 0")}{_hinge("turn", "0 0 1")}
      <geom type="capsule" size="{0.05 * g}" fromto="0 0 {-0.08 * h} 0 0 0" rgba="{skin}"/>
      <geom type="ellipsoid" size=".085 .1 .125" pos="0 0 .11" rgba="{skin}"/>
      <geom type="ellipsoid" size=".093 .1 .1" pos="0 .022 .155" rgba="{hair}"/>
      <geom type="sphere" size=".014" pos=".033 -.09 .125" rgba=".05 .05 .05 1"/>
      <geom type="sphere" size=".014" pos="-.033 -.09 .125" rgba=".05 .05 .05 1"/>
      <geom type="ellipsoid" size=".03 .01 .008" pos="0 -.093 .055" rgba=".6 .2 .2 1"/>
      <geom type="ellipsoid" size=".012 .02 .018" pos="0 -.1 .095" rgba="{skin}"/>
      {tail if look.long_hair else ""}
    </body>"""
    arms = "".join(_arm(side, look, skin, shirt) for side in SIDES)
    legs = "".join(_leg(side, look, trousers) for side in SIDES)
    return f"""
  <body name="person" pos="0 0 {0.93 * h}">
    <joint name="x" type="slide" axis="1 0 0"/><joint name="y" type="slide" axis="0 1 0"/>
    <joint name="z" type="slide" axis="0 0 1"/>
    {_hinge("yaw", "0 0 1")}{_hinge("pitch", "1 0 0")}{_hinge("roll", "0 1 0")}
    <geom type="ellipsoid" size="{0.17 * g} {0.12 * g} {0.12 * h}" rgba="{trousers}"/>
    <body name="torso">
      {_hinge("bend", "1 0 0")}
      <geom type="ellipsoid" size="{0.17 * g} {0.11 * g} {0.2 * h}" pos="0 0 {0.2 * h}" rgba="{shirt}"/>
      <geom type="capsule" size="{0.1 * g}" fromto="{-0.12 * g} 0 {0.38 * h} {0.12 * g} 0 {0.38 * h}" rgba="{shirt}"/>
      {head}{arms}
    </body>
    {legs}
  </body>"""


def _arm(side: str, look: Look, skin: str, shirt: str) -> str:
    h, g, sign = look.height, look.girth, SIDES[side]
    fingers = "".join(
        f'<geom type="capsule" size=".011" fromto="{x} 0 -.09 {x * 1.5} 0 -.18" rgba="{skin}"/>'
        for x in (-0.036, -0.012, 0.012, 0.036)
    )
    sleeve = shirt if look.sleeves else skin
    axis = f"0 {-sign} 0"  # both arms go outward with a positive angle
    return f"""
      <body name="{side}_arm" pos="{sign * 0.2 * g} 0 {0.42 * h}">
        {_hinge(f"{side}_forward", "1 0 0")}{_hinge(f"{side}_raise", axis)}
        <geom type="capsule" size="{0.05 * g}" fromto="0 0 0 0 0 {-0.28 * h}" rgba="{shirt}"/>
        <body name="{side}_forearm" pos="0 0 {-0.28 * h}">
          {_hinge(f"{side}_curl", "1 0 0")}{_hinge(f"{side}_elbow", axis)}
          <geom type="capsule" size="{0.04 * g}" fromto="0 0 0 0 0 {-0.23 * h}" rgba="{sleeve}"/>
          <body name="{side}_hand" pos="0 0 {-0.25 * h}">
            <geom type="ellipsoid" size=".048 .02 .062" pos="0 0 -.05" rgba="{skin}"/>
            {fingers}
            <geom type="capsule" size=".013" fromto="{-sign * 0.04} 0 -.04 {-sign * 0.09} 0 -.09" rgba="{skin}"/>
          </body>
        </body>
      </body>"""


def _leg(side: str, look: Look, trousers: str) -> str:
    h, g, sign = look.height, look.girth, SIDES[side]
    return f"""
    <body name="{side}_leg" pos="{sign * 0.1 * g} 0 {-0.05 * h}">
      {_hinge(f"{side}_hip", "1 0 0")}{_hinge(f"{side}_spread", f"0 {-sign} 0")}
      <geom type="capsule" size="{0.075 * g}" fromto="0 0 0 0 0 {-0.42 * h}" rgba="{trousers}"/>
      <body name="{side}_shin" pos="0 0 {-0.42 * h}">
        {_hinge(f"{side}_knee", "1 0 0")}
        <geom type="capsule" size="{0.055 * g}" fromto="0 0 0 0 0 {-0.4 * h}" rgba="{trousers}"/>
        <geom type="ellipsoid" size=".05 .12 .04" pos="0 -.07 {-0.43 * h}" rgba=".1 .08 .07 1"/>
      </body>
    </body>"""


def _hinge(name: str, axis: str) -> str:
    return f'<joint name="{name}" type="hinge" axis="{axis}"/>'


def _rgba(rgb: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.3f}" for value in rgb) + " 1"
