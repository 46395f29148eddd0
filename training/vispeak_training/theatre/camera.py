"""Where the camera stands, and what a cheap one does to its pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

# framing -> height of what is seen at the person's distance (m), height of its middle (m at a person of 1.75 m)
_VIEWS = {
    "close": ((0.98, 1.25), (1.33, 1.42)),
    "upper": ((1.45, 1.95), (1.10, 1.30)),
    "full": ((2.3, 3.1), (0.86, 1.05)),
    "table": ((1.85, 2.15), (0.98, 1.1)),
    "floor": ((2.5, 3.2), (0.66, 0.86)),
}


@dataclass
class Camera:
    """A camera that looks at a point; it can be rolled and it shakes."""

    lookat: NDArray[np.float64]  # m
    distance: float  # m
    azimuth: float  # degrees; 90 looks at the person's front
    elevation: float  # degrees; negative looks down
    roll: float  # degrees
    fovy: float  # degrees
    shake: float  # degrees from picture to picture

    @classmethod
    def random(cls, rng: np.random.Generator, framing: str, fovy: float, tall: float, clean: bool = False) -> Camera:
        """A view of somebody `tall` times 1.75 m; a framing is "close", "upper", "table", "full" or "floor"."""
        view, middle = _VIEWS[framing]
        wide = 22 if framing in ("close", "table") else 32
        return cls(
            lookat=np.array(
                [rng.uniform(-0.08, 0.08), -0.1 if framing == "close" else 0.0, rng.uniform(*middle) * tall]
            ),
            distance=float(rng.uniform(*view) * tall / 2 / np.tan(np.radians(fovy) / 2)),
            azimuth=90.0 + float(rng.uniform(-wide, wide)),
            elevation=float(rng.uniform(-14, 6) if framing == "close" else rng.uniform(-20, 3)),
            roll=0.0 if clean else float(rng.normal(0, 2.5)),
            fovy=fovy,
            shake=0.0 if clean else float(max(0.0, rng.uniform(-0.3, 0.6))),
        )

    def jolt(self, rng: np.random.Generator) -> None:
        """Shakes once."""
        self.azimuth += float(rng.normal(0, 1)) * self.shake
        self.elevation += float(rng.normal(0, 1)) * self.shake / 2
        self.roll += float(rng.normal(0, 1)) * self.shake / 2

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Unit vectors ahead, to the picture's right, and up."""
        turn, tilt, roll = np.radians([self.azimuth, self.elevation, self.roll])
        ahead = np.array([np.cos(tilt) * np.cos(turn), np.cos(tilt) * np.sin(turn), np.sin(tilt)])
        right = np.array([np.sin(turn), -np.cos(turn), 0.0])
        up = np.cross(right, ahead)
        return ahead, np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right

    def project(self, points: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
        """Points [n, 3] in metres to pixels [n, 2], right and down, maybe outside the picture."""
        ahead, right, up = self.axes()
        away = points - (self.lookat - self.distance * ahead)
        focal = height / 2 / np.tan(np.radians(self.fovy) / 2)
        depth = np.maximum(away @ ahead, 0.1)
        return np.stack([width / 2 + focal * (away @ right) / depth, height / 2 - focal * (away @ up) / depth], axis=-1)


@dataclass(frozen=True)
class Lens:
    """What a cheap camera does to a picture."""

    gamma: float = 1.0  # exposure: values are raised to it
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)  # white balance
    noise: float = 0.0  # standard deviation in 0..255
    blur: float = 0.0  # pixels
    quality: int = 0  # of JPEG; 0 is no compression

    @classmethod
    def random(cls, rng: np.random.Generator) -> Lens:
        """Some camera."""
        red, green, blue = 1 + 0.1 * rng.uniform(-1, 1, 3)
        return cls(
            gamma=float(rng.uniform(0.6, 1.2)),
            gain=(float(red), float(green), float(blue)),
            noise=float(rng.uniform(0, 8)),
            blur=float(max(0.0, rng.uniform(-0.8, 0.6))),
            quality=int(rng.integers(45, 96)) if rng.random() < 0.8 else 0,
        )

    def spoil(self, picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Exposure, noise, blur and compression, in this order; uint8 [height, width, 3]."""
        if self == Lens():
            return picture
        levels = np.arange(256)[:, None] / 255.0
        table = 255.0 * (levels**self.gamma) * np.array(self.gain)
        values = table[picture, np.arange(3)].astype(np.float32)
        if self.noise:
            values += np.float32(self.noise) * rng.standard_normal(picture.shape, dtype=np.float32)
        spoilt = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
        if self.blur > 0:
            spoilt = spoilt.filter(ImageFilter.GaussianBlur(self.blur))
        if self.quality:
            buffer = io.BytesIO()
            spoilt.save(buffer, "JPEG", quality=self.quality)
            spoilt = Image.open(buffer)
        return np.asarray(spoilt)
