"""Things on the stage as MJCF: objects to point at, furniture, what falls and flies, flames and smoke.

A thing's origin is at the middle of its underside, but for those that fly, whose origin is their middle. Metres.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vispeak_training.theatre.figure import colour

OBJECTS = ("ball", "box", "cup", "bottle", "lamp", "plant", "book")  # what people point at
TABLE_TOP = 0.74
SHOT_RADIUS, LOOSE_RADIUS = 0.13, 0.1
FLAMES, PUFFS = 9, 12

_HUES = {"ball": 0.0, "box": 0.09, "cup": 0.58, "bottle": 0.36, "lamp": 0.14, "plant": 0.33, "book": 0.78}


def thing_xml(thing: str, rng: np.random.Generator) -> str:
    """A thing's body: slides x, y, z and hinges turn and tumble, which a pose sets; hidden until it does.

    Raises:
        KeyError: there is no such thing.
    """
    kind = thing.rstrip("0123456789")
    hue = (_HUES.get(kind, rng.random()) + rng.uniform(-0.05, 0.05)) % 1.0
    paint = _rgba(hue, rng.uniform(0.6, 1.0), rng.uniform(0.6, 1.0))
    joints = "".join(
        f'<joint name="{thing}/{name}" type="slide" axis="{axis}"/>'
        for name, axis in (("x", "1 0 0"), ("y", "0 1 0"), ("z", "0 0 1"))
    )
    return f"""
  <body name="{thing}">{joints}
    <joint name="{thing}/turn" axis="0 0 1"/><joint name="{thing}/tumble" axis="1 0 0"/>
    {_SHAPES[kind](paint, rng)}
  </body>"""


def _rgba(hue: float, saturation: float, value: float, alpha: float = 1.0) -> str:
    return " ".join(f"{v:.3f}" for v in colour(hue, saturation, value)) + f" {alpha:g}"


def _geom(kind: str, size: str, place: str, paint: str, more: str = "") -> str:
    return f'<geom type="{kind}" size="{size}" pos="{place}" rgba="{paint}" {more}/>'


def _bottle(paint: str, rng: np.random.Generator) -> str:
    return (
        _geom("cylinder", ".045 .085", "0 0 .085", paint)
        + _geom("capsule", ".018 .05", "0 0 .2", paint)
        + _geom("cylinder", ".022 .012", "0 0 .26", ".95 .95 .95 1")
    )


def _cup(paint: str, rng: np.random.Generator) -> str:
    handle = '<geom type="capsule" size=".011" fromto=".06 0 {0} .09 0 .06" rgba="{1}"/>'
    return _geom("cylinder", ".055 .06", "0 0 .06", paint) + handle.format(".03", paint) + handle.format(".095", paint)


def _lamp(paint: str, rng: np.random.Generator) -> str:
    return (
        _geom("cylinder", ".06 .01", "0 0 .01", ".3 .3 .3 1")
        + _geom("cylinder", ".012 .1", "0 0 .11", ".3 .3 .3 1")
        + _geom("ellipsoid", ".1 .1 .075", "0 0 .25", "1 .95 .6 1", 'material="glow"')
    )


def _plant(paint: str, rng: np.random.Generator) -> str:
    leaves = "".join(
        _geom("ellipsoid", ".03 .012 .085", f"{0.05 * x} 0 .2", paint, f'euler="0 {28 * x} 0"')
        for x in (-1.3, -0.6, 0, 0.6, 1.3)
    )
    return _geom("cylinder", ".05 .05", "0 0 .05", ".6 .3 .2 1") + leaves


def _book(paint: str, rng: np.random.Generator) -> str:
    return _geom("box", ".095 .025 .125", "0 0 .13", paint, 'euler="-12 0 0"') + _geom(
        "box", ".065 .003 .02", "0 -.032 .17", ".95 .95 .9 1", 'euler="-12 0 0"'
    )


def _chair(paint: str, rng: np.random.Generator) -> str:
    legs = "".join(_geom("cylinder", ".02 .22", f"{x} {y} .22", paint) for x in (-0.2, 0.2) for y in (-0.2, 0.2))
    return legs + _geom("box", ".23 .23 .02", "0 0 .44", paint) + _geom("box", ".23 .02 .25", "0 .22 .7", paint)


def _table(paint: str, rng: np.random.Generator) -> str:
    wood = _rgba(0.08, 0.5, float(rng.uniform(0.3, 0.75)))
    legs = "".join(_geom("box", ".03 .03 .35", f"{x} 0 .35", wood) for x in (-0.85, 0.85))
    return legs + _geom("box", "1 .22 .02", f"0 0 {TABLE_TOP - 0.02}", wood)


def _pedestal(paint: str, rng: np.random.Generator) -> str:
    grey = _rgba(0.6, 0.05, float(rng.uniform(0.5, 0.9)))
    return _geom("cylinder", ".13 .43", "0 0 -.43", grey)


def _carton(paint: str, rng: np.random.Generator) -> str:
    """A box that is open at its underside and fits over a head."""
    brown = _rgba(0.09, 0.5, float(rng.uniform(0.5, 0.8)))
    return _geom("box", ".19 .17 .16", "0 0 .16", brown) + _geom("box", ".04 .175 .161", "0 0 .161", ".85 .75 .5 1")


def _flame(paint: str, rng: np.random.Generator) -> str:
    size, hue = rng.uniform(0.08, 0.16), rng.uniform(0.0, 0.07)
    outer = _geom(
        "ellipsoid", f"{size:.3f} {size:.3f} {2.4 * size:.3f}", "0 0 0", _rgba(hue, 0.95, 1, 0.85), 'material="glow"'
    )
    inner = _rgba(0.14, 0.7, 1)
    flat = f"{0.5 * size:.3f} {0.5 * size:.3f} {1.3 * size:.3f}"
    return outer + _geom("ellipsoid", flat, f"0 {-0.6 * size:.3f} -.05", inner, 'material="glow"')


def _puff(paint: str, rng: np.random.Generator) -> str:
    grey = _rgba(0.6, 0.03, float(rng.uniform(0.35, 0.65)), float(rng.uniform(0.35, 0.6)))
    return _geom("sphere", f"{rng.uniform(0.22, 0.42):.3f}", "0 0 0", grey)


_SHAPES: dict[str, Callable[[str, np.random.Generator], str]] = {
    "ball": lambda paint, rng: _geom("sphere", ".095", "0 0 .095", paint),
    "box": lambda paint, rng: _geom("box", ".1 .08 .09", "0 0 .09", paint),
    "cup": _cup,
    "mug": _cup,
    "bottle": _bottle,
    "lamp": _lamp,
    "plant": _plant,
    "book": _book,
    "chair": _chair,
    "table": _table,
    "pedestal": _pedestal,
    "parcel": lambda paint, rng: _geom("box", ".17 .12 .11", "0 0 0", paint),
    "carton": _carton,
    "shot": lambda paint, rng: _geom("sphere", str(SHOT_RADIUS), "0 0 0", paint),
    "bounce": lambda paint, rng: (
        _geom("sphere", ".12", "0 0 0", paint) + _geom("cylinder", ".122 .012", "0 0 0", "1 1 1 1")
    ),
    "loose": lambda paint, rng: (
        _geom("box", ".14 .1 .11", "0 0 0", paint) + _geom("box", ".04 .102 .112", "0 0 0", "1 1 1 1")
    ),
    "flame": _flame,
    "puff": _puff,
}
