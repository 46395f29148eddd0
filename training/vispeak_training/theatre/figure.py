"""An articulated person as MJCF: what it is made of, and the names of its joints.

Lengths in metres, angles in degrees; the person stands at the origin, z up, facing -y.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from vispeak_training.theatre.hands import hand_xml, mitten_xml

SIDES = {"left": 1.0, "right": -1.0}  # the person's left is +x when it faces -y
HIPS, NECK, SHOULDER = 0.93, 0.58, (0.2, 0.42)  # m: hips over the floor; over the hips: neck, shoulder across and up
UPPER_ARM, FOREARM = 0.28, 0.25  # m

HEADS = ("short_hair", "long_hair", "bald", "cap", "ponytail", "mohawk", "party_hat", "pigtails")  # of training figures
HELD_OUT_HEADS = ("bun", "beanie", "curls")
ROBOT = "robot"  # a costume, in both

# Joint name -> angle or shift. Arms: `raise` 0 hangs, 90 points sideways, 180 up; `elbow` bends in the same plane, so
# that raise + elbow is the forearm's direction; `forward` swings the whole arm to the front. `twist`, `tilt` and `lean`
# turn the hand. Names with a slash belong to things and to other people.
Pose = Mapping[str, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """What one person looks like."""

    height: float = 1.0  # scale of all lengths, 1 is 1.75 m
    girth: float = 1.0  # scale of all thicknesses
    hand: float = 1.15  # scale of the hands
    head: str = "short_hair"  # of HEADS, HELD_OUT_HEADS or ROBOT
    skin: Colour = (0.8, 0.6, 0.5)  # red, green, blue, 0 to 1
    hair: Colour = (0.2, 0.15, 0.1)
    shirt: Colour = (0.2, 0.4, 0.7)
    trousers: Colour = (0.2, 0.2, 0.3)
    sleeves: bool = True  # long sleeves hide the forearm's skin
    hat: bool = False  # a hat of its own body, which can fly off

    @classmethod
    def random(cls, rng: np.random.Generator, held_out: bool) -> Look:
        """A figure; held-out ones have heads, wear colours and have proportions that no training figure has."""
        hue = rng.uniform(0.0, 0.5) + (0.5 if held_out else 0.0)
        height = rng.uniform(0.98, 1.02) if held_out else rng.choice([rng.uniform(0.8, 0.97), rng.uniform(1.03, 1.15)])
        tone, girth, dark = rng.uniform(0.35, 1.0), rng.uniform(0.8, 1.25), rng.uniform(0.02, 0.5)
        return cls(
            height=float(height),
            girth=float(girth),
            hand=float(rng.uniform(1.05, 1.35)),
            head=str(rng.choice(HELD_OUT_HEADS if held_out else HEADS)),
            skin=(0.95 * tone, 0.75 * tone, 0.6 * tone),
            hair=(dark, dark * rng.uniform(0.5, 1), dark * rng.uniform(0.2, 1)),
            shirt=colour(hue, rng.uniform(0.2, 1.0), rng.uniform(0.2, 1.0)),
            trousers=colour(rng.uniform(0.0, 1.0), rng.uniform(0.0, 0.6), rng.uniform(0.1, 0.7)),
            sleeves=bool(rng.random() < 0.7),
            hat=bool(rng.random() < 0.1),
        )

    def as_robot(self) -> Look:
        """The same body in a robot's costume."""
        skin, shirt, trousers = (0.62, 0.65, 0.7), (0.5, 0.53, 0.58), (0.4, 0.42, 0.46)
        return replace(self, head=ROBOT, hat=False, skin=skin, shirt=shirt, trousers=trousers)


def colour(hue: float, saturation: float, value: float) -> Colour:
    """Hue, saturation and value in 0..1 to red, green and blue."""
    wheel = np.clip(np.abs(((hue + np.array([0, 2 / 3, 1 / 3])) % 1.0) * 6 - 3) - 1, 0, 1)
    red, green, blue = value * (1 - saturation * (1 - wheel))
    return float(red), float(green), float(blue)


def figure_xml(look: Look, prefix: str = "", fingers: bool = True, free: bool = False) -> str:
    """The person's body tree, for a worldbody.

    Args:
        look: what the person looks like.
        prefix: of all names, so that a room can hold several people.
        fingers: hands with fingers, or mittens.
        free: physics moves the body; else six joints do, which a pose sets.
    """
    h, g = look.height, look.girth
    shirt, trousers = rgba(look.shirt), rgba(look.trousers)
    root = f'<freejoint name="{prefix}root"/>'
    if not free:
        slides = "".join(
            f'<joint name="{prefix}{n}" type="slide" axis="{a}"/>' for n, a in zip("xyz", _AXES, strict=True)
        )
        hinges = (("yaw", "0 0 1"), ("pitch", "1 0 0"), ("roll", "0 1 0"))
        root = slides + "".join(_hinge(prefix, name, axis) for name, axis in hinges)
    arms = "".join(_arm(side, look, prefix, fingers) for side in SIDES)
    legs = "".join(_leg(side, look, prefix) for side in SIDES)
    wide = 0.12 * g
    return f"""
  <body name="{prefix}person" pos="0 0 {HIPS * h}">
    {root}
    <geom type="ellipsoid" size="{0.17 * g} {0.12 * g} {0.12 * h}" rgba="{trousers}"/>
    <body name="{prefix}torso">
      {_hinge(prefix, "bend", "1 0 0", -20, 80)}
      <geom type="ellipsoid" size="{0.17 * g} {0.11 * g} {0.2 * h}" pos="0 0 {0.2 * h}" rgba="{shirt}"/>
      <geom type="capsule" size="{0.1 * g}" fromto="{-wide} 0 {0.38 * h} {wide} 0 {0.38 * h}" rgba="{shirt}"/>
      {_head(look, prefix)}{arms}
    </body>
    {legs}
  </body>"""


def rgba(colours: Colour, alpha: float = 1.0) -> str:
    """As MJCF wants it."""
    return " ".join(f"{value:.3f}" for value in colours) + f" {alpha:g}"


def _head(look: Look, prefix: str) -> str:
    h, g = look.height, look.girth
    skin, hair = rgba(look.skin), rgba(look.hair)
    shape = f'<geom type="ellipsoid" size=".085 .1 .125" pos="0 0 .11" rgba="{skin}"/>'
    if look.head == ROBOT:
        shape = f'<geom type="box" size=".1 .1 .115" pos="0 0 .11" rgba="{skin}"/>'
    return f"""
    <body name="{prefix}head" pos="0 0 {NECK * h}">
      {_hinge(prefix, "nod", "1 0 0", -40, 50)}{_hinge(prefix, "turn", "0 0 1", -75, 75)}
      {_hinge(prefix, "tip", "0 1 0", -40, 40)}
      <geom type="capsule" size="{0.05 * g}" fromto="0 0 {-0.08 * h} 0 0 0" rgba="{skin}"/>
      {shape}
      <geom type="sphere" size=".016" pos=".033 -.09 .125" rgba=".05 .05 .05 1"/>
      <geom type="sphere" size=".016" pos="-.033 -.09 .125" rgba=".05 .05 .05 1"/>
      <geom type="ellipsoid" size=".03 .012 .009" pos="0 -.093 .055" rgba=".6 .2 .2 1"/>
      <geom type="ellipsoid" size=".013 .025 .02" pos="0 -.1 .095" rgba="{skin}"/>
      {_HAIR.get(look.head, "").format(hair=hair, shirt=rgba(look.shirt), low=-0.25 * h, thick=0.07 * g)}
      {_hat(prefix, look) if look.hat else ""}
    </body>"""


def _hat(prefix: str, look: Look) -> str:
    slides = "".join(
        f'<joint name="{prefix}hat_{n}" type="slide" axis="{a}"/>' for n, a in zip("xyz", _AXES, strict=True)
    )
    paint = rgba((look.trousers[2], look.trousers[0], 0.15))
    return f"""
      <body name="{prefix}hat" pos="0 .01 .19">
        {slides}{_hinge(prefix, "hat_turn", "0 1 0")}
        <geom type="cylinder" size=".17 .012" rgba="{paint}"/>
        <geom type="cylinder" size=".1 .06" pos="0 0 .06" rgba="{paint}"/>
        <geom type="cylinder" size=".103 .015" pos="0 0 .025" rgba=".9 .85 .7 1"/>
      </body>"""


def _arm(side: str, look: Look, prefix: str, fingers: bool) -> str:
    h, g, sign, name = look.height, look.girth, SIDES[side], f"{prefix}{side}"
    skin, shirt = rgba(look.skin), rgba(look.shirt)
    axis = f"0 {-sign} 0"  # both arms go outward with a positive angle
    size = look.hand * (0.6 + 0.4 * h)
    hand = hand_xml(prefix, side, sign, size, skin) if fingers else mitten_xml(sign, size, skin)
    return f"""
      <body name="{name}_arm" pos="{sign * SHOULDER[0] * g} 0 {SHOULDER[1] * h}">
        {_hinge(name, "_forward", "1 0 0", -120, 60)}{_hinge(name, "_raise", axis, -30, 170)}
        <geom type="capsule" size="{0.05 * g}" fromto="0 0 0 0 0 {-UPPER_ARM * h}" rgba="{shirt}"/>
        <body name="{name}_forearm" pos="0 0 {-UPPER_ARM * h}">
          {_hinge(name, "_curl", "1 0 0", -130, 0)}{_hinge(name, "_elbow", axis, -60, 60)}
          <geom type="capsule" size="{0.038 * g}" fromto="0 0 0 0 0 {0.02 - FOREARM * h}"
            rgba="{shirt if look.sleeves else skin}"/>
          <body name="{name}_hand" pos="0 0 {-FOREARM * h}">
            {_hinge(name, "_twist", "0 0 1", -5, 5)}{_hinge(name, "_tilt", "1 0 0", -40, 40)}
            {_hinge(name, "_lean", "0 1 0", -20, 20)}
            {hand}
          </body>
        </body>
      </body>"""


def _leg(side: str, look: Look, prefix: str) -> str:
    h, g, sign, name = look.height, look.girth, SIDES[side], f"{prefix}{side}"
    trousers = rgba(look.trousers)
    return f"""
    <body name="{name}_leg" pos="{sign * 0.1 * g} 0 {-0.05 * h}">
      {_hinge(name, "_hip", "1 0 0", -110, 25)}{_hinge(name, "_spread", f"0 {-sign} 0", -10, 40)}
      <geom type="capsule" size="{0.075 * g}" fromto="0 0 0 0 0 {-0.42 * h}" rgba="{trousers}"/>
      <body name="{name}_shin" pos="0 0 {-0.42 * h}">
        {_hinge(name, "_knee", "1 0 0", 0, 140)}
        <geom type="capsule" size="{0.055 * g}" fromto="0 0 0 0 0 {-0.4 * h}" rgba="{trousers}"/>
        <geom type="ellipsoid" size=".05 .12 .04" pos="0 -.07 {-0.43 * h}" rgba=".1 .08 .07 1"/>
      </body>
    </body>"""


def _hinge(prefix: str, name: str, axis: str, low: float = 0, high: float = 0) -> str:
    reach = f' range="{low} {high}"' if high > low else ""
    return f'<joint name="{prefix}{name}" type="hinge" axis="{axis}"{reach}/>'


_AXES = ("1 0 0", "0 1 0", "0 0 1")
_CROWN = '<geom type="ellipsoid" size=".093 .1 .1" pos="0 .022 .155" rgba="{hair}"/>'
_TAIL = '<geom type="capsule" size="{thick:.3f}" fromto="0 .06 .05 0 .09 {low:.3f}" rgba="{hair}"/>'
_HAIR = {  # what sits on each kind of head
    "short_hair": _CROWN,
    "long_hair": _CROWN + _TAIL,
    "bald": "",
    "cap": '<geom type="ellipsoid" size=".095 .105 .07" pos="0 .01 .185" rgba="{shirt}"/>'
    '<geom type="box" size=".07 .06 .007" pos="0 -.13 .175" rgba="{shirt}"/>',
    "ponytail": _CROWN + '<geom type="capsule" size=".035" fromto="0 .12 .19 0 .18 -.02" rgba="{hair}"/>',
    "mohawk": '<geom type="ellipsoid" size=".022 .1 .11" pos="0 .02 .21" rgba="{hair}"/>',
    "party_hat": _CROWN + '<geom type="cylinder" size=".06 .04" pos="0 .01 .27" rgba="{shirt}"/>'
    '<geom type="capsule" size=".025 .05" pos="0 .01 .34" rgba=".9 .8 .3 1"/>',
    "pigtails": _CROWN + '<geom type="sphere" size=".05" pos=".12 .04 .17" rgba="{hair}"/>'
    '<geom type="sphere" size=".05" pos="-.12 .04 .17" rgba="{hair}"/>',
    "bun": _CROWN + '<geom type="sphere" size=".055" pos="0 .05 .27" rgba="{hair}"/>',
    "beanie": '<geom type="ellipsoid" size=".097 .107 .1" pos="0 .012 .175" rgba="{shirt}"/>'
    '<geom type="sphere" size=".03" pos="0 .02 .285" rgba=".9 .9 .9 1"/>',
    "curls": '<geom type="sphere" size=".14" pos="0 .06 .15" rgba="{hair}"/>',
    ROBOT: '<geom type="cylinder" size=".008 .05" pos="0 0 .27" rgba=".3 .3 .3 1"/>'
    '<geom type="sphere" size=".025" pos="0 0 .33" rgba=".9 .1 .1 1"/>',
}
