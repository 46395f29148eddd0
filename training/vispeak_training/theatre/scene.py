"""A room with a person, a camera and lights, drawn from a seed, and the pictures that the camera takes.

Rendering is headless: set MUJOCO_GL=egl (or osmesa); `render_backend_error` says whether it can work here.
"""

from __future__ import annotations

import io
import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from vispeak_training.theatre.figure import Look, colour, figure_xml

os.environ.setdefault("MUJOCO_GL", "egl")

KEYPOINTS = (  # body and a shift in metres
    ("head", np.array([0.0, 0.0, 0.1])),
    ("left_hand", np.zeros(3)),
    ("right_hand", np.zeros(3)),
    ("left_forearm", np.zeros(3)),
    ("right_forearm", np.zeros(3)),
    ("left_arm", np.zeros(3)),
    ("right_arm", np.zeros(3)),
    ("person", np.zeros(3)),
    ("left_shin", np.zeros(3)),
    ("right_shin", np.zeros(3)),
)
KEYPOINT_KINDS = (0, 1, 1, 2, 2, 3, 3, 4, 5, 5)  # head, hand, elbow, shoulder, hip, knee: left and right look alike


def render_backend_error() -> str | None:
    """Why nothing can be rendered on this machine, or None."""
    try:
        import mujoco  # noqa: PLC0415 - an optional extra, and it needs a GL library

        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 16, 16).close()
    except Exception as error:  # noqa: BLE001 - GL libraries fail in many ways
        return f"{type(error).__name__}: {error}"
    return None


class Scene:
    """One room with one person; holds a GL context, so close it.

    Args:
        rng: everything is drawn from it.
        width: of the pictures in pixels.
        height: likewise.
        held_out: draw figures and rooms that no training scene has.
        clean: no camera noise and no shake, for clips that people look at.
    """

    def __init__(
        self, rng: np.random.Generator, width: int, height: int, held_out: bool = False, clean: bool = False
    ) -> None:
        import mujoco  # noqa: PLC0415 - an optional extra

        self._rng, self._clean = rng, clean
        self._width, self._height = width, height
        self._model = mujoco.MjModel.from_xml_string(
            _scene_xml(rng, Look.random(rng, held_out), width, height, held_out)
        )
        self._data = mujoco.MjData(self._model)
        self._forward = mujoco.mj_forward
        self._camera = mujoco.MjvCamera()
        self.move_camera()
        self._facing = float(rng.uniform(-30, 30))
        self._place = rng.uniform(-0.25, 0.25, 2)
        self._noise = 0.0 if clean else float(rng.uniform(0, 9))
        self._blur = 0.0 if clean else float(max(0.0, rng.uniform(-0.8, 0.9)))
        self._gamma = 1.0 if clean else float(rng.uniform(0.55, 1.2))
        self._quality = 95 if clean else int(rng.integers(35, 96))
        self._renderer = mujoco.Renderer(self._model, height, width)

    def picture(self, pose: dict[str, float]) -> NDArray[np.uint8]:
        """The camera's view of a pose, uint8 [height, width, 3]."""
        data = self._data
        for name, value in pose.items():
            joint = self._model.joint(name)
            data.qpos[joint.qposadr[0]] = value if name in ("x", "y", "z") else np.radians(value)
        for name, value in (("x", self._place[0]), ("y", self._place[1]), ("yaw", np.radians(self._facing))):
            data.qpos[self._model.joint(name).qposadr[0]] += value
        self._forward(self._model, data)
        if not self._clean:
            self._camera.azimuth += float(self._rng.normal(0, 0.15))
        self._keypoints = self._project()
        self._renderer.update_scene(data, self._camera)
        picture = self._renderer.render()
        data.qpos[:] = 0
        return self._spoil(picture)

    def keypoints(self) -> NDArray[np.float64]:
        """Where the joints of the last picture are in it: [len(KEYPOINTS), 2] pixels right and down, maybe outside."""
        return self._keypoints

    def _project(self) -> NDArray[np.float64]:
        points = np.stack([self._data.body(name).xpos + offset for name, offset in KEYPOINTS])
        turn, tilt = np.radians([self._camera.azimuth, self._camera.elevation])
        ahead = np.array([np.cos(tilt) * np.cos(turn), np.cos(tilt) * np.sin(turn), np.sin(tilt)])
        right = np.array([np.sin(turn), -np.cos(turn), 0.0])
        away = points - (self._camera.lookat - self._camera.distance * ahead)
        focal = self._height / 2 / np.tan(np.radians(self._model.vis.global_.fovy) / 2)
        depth = np.maximum(away @ ahead, 0.1)
        across, up = focal * (away @ right) / depth, focal * (away @ np.cross(right, ahead)) / depth
        return np.stack([self._width / 2 + across, self._height / 2 - up], axis=-1)

    def close(self) -> None:
        """Frees the GL context."""
        self._renderer.close()

    def move_camera(self) -> None:
        """Puts the camera somewhere else."""
        rng = self._rng
        self._camera.distance = float(rng.uniform(2.1, 3.9))
        self._camera.azimuth = 90.0 + float(rng.uniform(-35, 35))
        self._camera.elevation = float(rng.uniform(-22, 3))
        self._camera.lookat[:] = [rng.uniform(-0.25, 0.25), 0.0, rng.uniform(0.85, 1.15)]

    def _spoil(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What a cheap camera does to a picture: gamma, blur, noise, compression."""
        if self._clean:
            return picture
        values = 255.0 * (picture / 255.0) ** self._gamma
        values += self._rng.normal(0, 1, picture.shape) * self._noise
        spoilt = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
        if self._blur > 0:
            spoilt = spoilt.filter(ImageFilter.GaussianBlur(self._blur))
        buffer = io.BytesIO()
        spoilt.save(buffer, "JPEG", quality=self._quality)
        return np.asarray(Image.open(buffer))


def _scene_xml(rng: np.random.Generator, look: Look, width: int, height: int, held_out: bool) -> str:
    def paint() -> str:
        return " ".join(f"{v:.3f}" for v in colour(rng.random(), rng.uniform(0, 0.6), rng.uniform(0.25, 1.0)))

    kinds = ["gradient", "flat"] if held_out else ["checker", "flat", "gradient"]
    textures = "".join(
        f'<texture name="{name}" type="2d" builtin="{rng.choice(kinds)}" rgb1="{paint()}" rgb2="{paint()}" '
        f'width="128" height="128" mark="{rng.choice(["none", "random"])}" markrgb="{paint()}" '
        f'random="{rng.uniform(0, 0.1):.3f}"/>'
        f'<material name="{name}" texture="{name}" texrepeat="{rng.integers(1, 9)} {rng.integers(1, 9)}" specular="0"/>'
        for name in ("floor", "wall")
    )
    props = "".join(_prop(rng, paint()) for _ in range(rng.integers(0, 8)))
    bright = rng.uniform(0.55, 1.1)

    def grey(share: float) -> str:
        return " ".join([f"{bright * share:.2f}"] * 3)

    return f"""<mujoco>
  <compiler angle="degree"/>
  <visual>
    <global offwidth="{width}" offheight="{height}" fovy="{rng.uniform(38, 55):.1f}"/>
    <quality shadowsize="{rng.choice([0, 512])}" offsamples="2"/>
    <headlight ambient="{grey(0.5)}" diffuse="{grey(0.4)}"/>
  </visual>
  <asset>{textures}</asset>
  <worldbody>
    <light pos="{rng.uniform(-2, 2):.2f} {rng.uniform(-3, 0):.2f} 3" dir="{rng.uniform(-0.3, 0.3):.2f} .4 -1"
      diffuse="{grey(1.0)}"/>
    <geom type="plane" size="8 8 .1" material="floor"/>
    <geom type="box" size="8 .05 4" pos="0 {rng.uniform(1.2, 3.0):.2f} 1" material="wall"/>
    {props}
    {figure_xml(look)}
  </worldbody>
</mujoco>"""


def _prop(rng: np.random.Generator, rgb: str) -> str:
    kind = rng.choice(["box", "cylinder", "sphere", "ellipsoid"])
    size = rng.uniform(0.08, 0.4, 3)
    x = rng.choice([-1, 1]) * rng.uniform(0.7, 2.2)
    z = size[2] if rng.random() < 0.7 else rng.uniform(0.8, 1.8)
    return (
        f'<geom type="{kind}" size="{size[0]:.2f} {size[1]:.2f} {size[2]:.2f}" '
        f'pos="{x:.2f} {rng.uniform(-0.2, 1.0):.2f} {z:.2f}" rgba="{rgb} 1"/>'
    )
