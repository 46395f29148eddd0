"""A room as MJCF, and what its surfaces look like.

Training rooms and held-out rooms have different surfaces and different furniture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vispeak_training.theatre.figure import colour

SURFACES = ("checker", "flat", "speckled", "planks", "stripes", "clouds")  # of training rooms
HELD_OUT_SURFACES = ("bricks", "gradient", "dots")
FURNITURE = ("box", "cylinder", "lamp")
HELD_OUT_FURNITURE = ("ellipsoid", "capsule")
_TEXTURE = 96  # pixels
_PHOTO = (256, 192)  # pixels
_PICTURE_TYPES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


def photographs(folder: Path | None) -> tuple[Path, ...]:
    """The pictures in a folder and in the folders below it.

    Raises:
        ValueError: there are none.
    """
    if folder is None:
        return ()
    found = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURE_TYPES))
    if not found:
        raise ValueError(f"{folder}: no photographs ({', '.join(sorted(_PICTURE_TYPES))}) for backgrounds in it")
    return found


def room_xml(
    rng: np.random.Generator, people: str, things: str, held_out: bool, photo: bool, size: tuple[int, int]
) -> str:
    """The whole model.

    Args:
        rng: everything is drawn from it.
        people: bodies of figures.
        things: bodies of things.
        held_out: furniture that no training room has.
        photo: leave place for a photograph as background.
        size: pictures' width and height in pixels.
    """
    bright = rng.uniform(0.8, 1.5)
    shadow = "true" if rng.random() < 0.12 else "false"
    kinds = HELD_OUT_FURNITURE if held_out else FURNITURE
    back = rng.uniform(1.3, 3.0)
    clutter = rng.integers(0, 3) if photo else rng.integers(0, 7)
    furniture = "".join(_furniture(rng, str(rng.choice(kinds)), back) for _ in range(clutter))
    backdrop = ""
    if photo:
        wide = back + rng.uniform(2.2, 3.2)
        backdrop = (
            f'<geom type="plane" size="{wide:.2f} {0.75 * wide:.2f} .1" pos="0 {back - 0.1:.2f} 1.1" '
            f'euler="90 0 0" material="photo"/>'
        )
    floor = "" if photo and rng.random() < 0.4 else '<geom type="plane" size="8 8 .1" material="floor"/>'

    def grey(share: float) -> str:
        tint = 1 + 0.12 * rng.uniform(-1, 1, 3)
        return " ".join(f"{bright * share * part:.2f}" for part in tint)

    return f"""<mujoco>
  <compiler angle="degree"/>
  <visual>
    <global offwidth="{size[0]}" offheight="{size[1]}" fovy="{rng.uniform(36, 58):.1f}"/>
    <quality shadowsize="512" offsamples="0" numslices="10" numstacks="6" numquads="2"/>
    <headlight ambient="{grey(0.5)}" diffuse="{grey(rng.uniform(0.2, 0.5))}" specular="0 0 0"/>
    <map znear=".02"/>
  </visual>
  <default><geom contype="0" conaffinity="0"/></default>
  <asset>
    {_texture("floor", rng, _TEXTURE, _TEXTURE)}{_texture("wall", rng, _TEXTURE, _TEXTURE)}
    {_texture("photo", rng, *_PHOTO) if photo else ""}
    <material name="glow" emission=".8" specular="0"/>
  </asset>
  <worldbody>
    <light pos="{rng.uniform(-2.5, 2.5):.2f} {rng.uniform(-3, -0.5):.2f} {rng.uniform(2, 3.5):.2f}" cutoff="80"
      dir="{rng.uniform(-0.5, 0.5):.2f} {rng.uniform(0.2, 0.7):.2f} -1" diffuse="{grey(rng.uniform(0.5, 1.0))}"
      castshadow="{shadow}"/>
    {floor}
    <geom type="box" size="8 .05 4" pos="0 {back:.2f} 1" material="wall"/>
    {backdrop}
    {furniture}
    {things}
    {people}
  </worldbody>
</mujoco>"""


def paint_surfaces(model: object, rng: np.random.Generator, held_out: bool, photo: Path | None) -> None:
    """Fills the model's textures; they are made of pixels, so they must not wait for a file to be written.

    Raises:
        ValueError: the photograph cannot be read.
    """
    kinds = HELD_OUT_SURFACES if held_out else SURFACES
    for name in ("floor", "wall"):
        _fill(model, name, surface(str(rng.choice(kinds)), rng))
    if photo is not None:
        try:
            with Image.open(photo) as picture:
                picture.draft("RGB", (2 * _PHOTO[0], 2 * _PHOTO[1]))
                small = picture.convert("RGB").resize(_PHOTO, Image.Resampling.BILINEAR)
        except OSError as error:
            raise ValueError(f"{photo}: cannot be read as a picture ({error}); take it out of the folder") from error
        _fill(model, "photo", np.asarray(small)[:, :: 1 if rng.random() < 0.5 else -1])


def surface(kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A surface's pixels, uint8 [_TEXTURE, _TEXTURE, 3].

    Raises:
        KeyError: there is no such kind.
    """
    down, right = np.mgrid[:_TEXTURE, :_TEXTURE]
    cell = int(rng.choice([8, 12, 16, 24]))
    rows = down // cell
    share = {
        "checker": lambda: ((rows + right // cell) % 2).astype(float),
        "flat": lambda: np.zeros(down.shape),
        "speckled": lambda: rng.uniform(0, 1, down.shape) ** 3,
        "planks": lambda: rng.uniform(0, 0.7, _TEXTURE)[rows] + 0.3 * (down % cell == 0),
        "stripes": lambda: (np.cumsum(rng.random(_TEXTURE) < 0.08) % 2)[right].astype(float),
        "clouds": lambda: _clouds(rng, _TEXTURE // cell),
        "bricks": lambda: ((down % cell < 2) | ((right + cell * (rows % 2)) % (2 * cell) < 2)).astype(float),
        "gradient": lambda: down / _TEXTURE,
        "dots": lambda: ((down % cell - cell / 2) ** 2 + (right % cell - cell / 2) ** 2 < (cell / 4) ** 2).astype(
            float
        ),
    }[kind]()
    first, second = (_paint(rng) for _ in range(2))
    mixed = first + share[..., None] * (second - first) + rng.normal(0, 0.02, (*share.shape, 1))
    return (255 * np.clip(mixed, 0, 1)).astype(np.uint8)


def _clouds(rng: np.random.Generator, cells: int) -> NDArray[np.float64]:
    """Patches that run into each other, float64 [_TEXTURE, _TEXTURE] from 0 to 1."""
    coarse = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((_TEXTURE, _TEXTURE), Image.Resampling.BICUBIC), np.float64).clip(0, 1)


def _paint(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.array(colour(rng.random(), rng.uniform(0, 0.6), rng.uniform(0.25, 1.0)))


def _fill(model: object, name: str, pixels: NDArray[np.uint8]) -> None:
    texture = model.texture(name)  # type: ignore[attr-defined]
    start = int(texture.adr[0])
    model.tex_data[start : start + pixels.size] = np.ascontiguousarray(pixels).ravel()  # type: ignore[attr-defined]


def _texture(name: str, rng: np.random.Generator, width: int, height: int) -> str:
    times = "1 1" if name == "photo" else f"{rng.integers(1, 9)} {rng.integers(1, 9)}"
    glow = ' emission=".5"' if name == "photo" else ""
    return (
        f'<texture name="{name}" type="2d" builtin="flat" width="{width}" height="{height}"/>'
        f'<material name="{name}" texture="{name}" texrepeat="{times}" specular="0"{glow}/>'
    )


def _furniture(rng: np.random.Generator, kind: str, back: float) -> str:
    size = rng.uniform(0.08, 0.4, 3)
    x = rng.choice([-1, 1]) * rng.uniform(0.75, 2.2)
    z = size[2] if rng.random() < 0.7 else rng.uniform(0.8, 1.8)
    paint = " ".join(f"{value:.3f}" for value in _paint(rng))
    if kind == "lamp":
        deep, shade = rng.uniform(0.3, back), rng.uniform(0.1, 0.22)
        return (
            f'<geom type="cylinder" size=".03 {z / 2:.2f}" pos="{x:.2f} {deep:.2f} {z / 2:.2f}" rgba=".3 .3 .3 1"/>'
            f'<geom type="sphere" size="{shade:.2f}" pos="{x:.2f} {deep:.2f} {z:.2f}" rgba="{paint} 1"/>'
        )
    return (
        f'<geom type="{kind}" size="{size[0]:.2f} {size[1]:.2f} {size[2]:.2f}" '
        f'pos="{x:.2f} {rng.uniform(0.3, back):.2f} {z:.2f}" rgba="{paint} 1"/>'
    )


def choose_photo(rng: np.random.Generator, photos: Sequence[Path]) -> Path | None:
    """A photograph for about half of the rooms, if there are any."""
    if not photos or rng.random() < 0.4:
        return None
    return photos[int(rng.integers(len(photos)))]
