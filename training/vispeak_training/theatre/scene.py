"""A room with people and things in it, drawn from a seed, and the pictures that a camera takes of them.

Rendering is headless: set MUJOCO_GL=egl (or osmesa); `render_backend_error` says whether it can work here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vispeak_training.theatre import everyday
from vispeak_training.theatre.camera import Camera, Lens
from vispeak_training.theatre.figure import SIDES, Look, figure_xml
from vispeak_training.theatre.hands import FINGERS
from vispeak_training.theatre.performance import Performance
from vispeak_training.theatre.room import choose_photo, paint_surfaces, room_xml
from vispeak_training.theatre.things import thing_xml

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa's software renderer: processes share the cores better than threads

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
FINGERTIPS = tuple(f"{side}_{finger}_tip" for side in SIDES for finger in ("thumb", *FINGERS))

_TIP = 0.035  # m from the last joint to the end of a finger
_HIDDEN = -20.0  # m: where things are that a pose does not mention


def render_backend_error() -> str | None:
    """Why nothing can be rendered on this machine, or None."""
    try:
        import mujoco  # noqa: PLC0415 - an optional extra, and it needs a GL library

        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 16, 16).close()
    except Exception as error:  # noqa: BLE001 - GL libraries fail in many ways
        return f"{type(error).__name__}: {error}"
    return None


class Stage:
    """A GL context that scenes take turns in; making one takes longer than rendering a clip's frames.

    Args:
        width: of the rendered pictures in pixels.
        height: likewise.
    """

    def __init__(self, width: int, height: int) -> None:
        import mujoco  # noqa: PLC0415 - an optional extra

        self.width, self.height = width, height
        self._context = mujoco.GLContext(width, height)
        self._context.make_current()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._context.free()


@dataclass(frozen=True)
class Bystander:
    """Somebody else in the room, who minds their own business."""

    look: Look
    does: Performance
    x: float  # m
    y: float  # m
    yaw: float  # degrees

    @classmethod
    def random(cls, rng: np.random.Generator, held_out: bool, crowded: bool) -> Bystander:
        """Somebody who stands, talks, phones or passes, beside or behind the person."""
        look = Look.random(rng, held_out)
        act = str(rng.choice(["stand", "talk", "phone", "walk", "walk", "cross_arms", "scratch"]))
        side = 1 if rng.random() < 0.5 else -1
        x = 0.0 if act == "walk" else side * float(rng.uniform(0.75 if crowded else 1.0, 1.6))
        does = everyday.MAKERS[act](rng, look, held_out)
        return cls(look, does, x, float(rng.uniform(0.7, 1.3)), float(rng.uniform(-50, 50)))

    def pose(self, prefix: str, time: float) -> dict[str, float]:
        """Joint values under a prefix; whoever walks comes back again and again."""
        pose = {"left_raise": 8.0, "right_raise": 8.0} | self.does(time % 6.0)
        pose = {name: value for name, value in pose.items() if "/" not in name and not _is_finger(name)}
        for name, value in (("x", self.x), ("y", self.y), ("yaw", self.yaw if "yaw" not in pose else 0.0)):
            pose[name] = pose.get(name, 0.0) + value
        return {prefix + name: value for name, value in pose.items()}


class Scene:
    """One room with its people.

    Args:
        stage: where it is rendered; its previous scene must have been closed.
        rng: everything is drawn from it.
        look: the person.
        things: names of what the acts need.
        framing: "close", "upper", "table", "full" or "floor".
        held_out: draw figures and rooms that no training scene has.
        clean: no noise, no shake and nobody else, for clips that people look at.
        photos: backgrounds, used for about half of the rooms.
        drift: how far somebody falls, in m; the stage is moved back by most of it.
    """

    def __init__(
        self,
        stage: Stage,
        rng: np.random.Generator,
        look: Look | None = None,
        things: Sequence[str] = (),
        framing: str = "upper",
        held_out: bool = False,
        clean: bool = False,
        photos: Sequence[Path] = (),
        drift: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        import mujoco  # noqa: PLC0415 - an optional extra

        self._rng, self._stage, self._clean = rng, stage, clean
        look = look or Look.random(rng, held_out)
        count = 0 if clean else int(rng.choice([0, 1, 2], p=[0.6, 0.28, 0.12]))
        others = [Bystander.random(rng, held_out, framing == "close") for _ in range(count)]
        self._others = {f"{'ab'[index]}/": other for index, other in enumerate(others)}
        people = figure_xml(look) + "".join(figure_xml(o.look, p, fingers=False) for p, o in self._others.items())
        photo = choose_photo(rng, photos)
        bodies = "".join(thing_xml(thing, rng) for thing in things)
        size = stage.width, stage.height
        self._model = mujoco.MjModel.from_xml_string(room_xml(rng, people, bodies, held_out, photo is not None, size))
        paint_surfaces(self._model, rng, held_out, photo)
        self._data = mujoco.MjData(self._model)
        self._address, self._hinge, self._resting = _joints(self._model)
        self._mujoco = mujoco
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(self._model, maxgeom=1000)
        self._options = mujoco.MjvOption()
        self._tall = look.height
        self._look_from(framing)
        turned = 14 if framing in ("close", "table") else 28
        self._facing = float(rng.uniform(-turned, turned))
        self._shift = rng.uniform(-0.04, 0.04, 2) if framing == "close" else rng.uniform(-0.15, 0.15, 2)
        turn = np.radians(self._facing)
        back = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ drift
        self._shift = self._shift - 0.75 * back
        self._lens = Lens() if clean else Lens.random(rng)
        self._points = np.array([self._model.body(name).id for name, _ in KEYPOINTS])
        self._offsets = np.stack([offset for _, offset in KEYPOINTS])
        self._tips = np.array([self._model.body(name).id for name in FINGERTIPS])

    def move_camera(self, framing: str) -> None:
        """Puts the camera somewhere else, and takes another one."""
        self._look_from(framing)
        self._lens = Lens() if self._clean else Lens.random(self._rng)

    def picture(self, pose: dict[str, float], time: float = 0.0, shrink: float = 1) -> NDArray[np.uint8]:
        """The camera's view of a pose.

        Args:
            pose: joint values of the person and of things.
            time: s, for what other people do.
            shrink: render larger and average, which smooths edges.

        Returns:
            uint8 [height / shrink, width / shrink, 3].
        """
        return self.film([lambda _: pose], time, shrink)

    def film(
        self, poses: Sequence[Callable[[float], dict[str, float]]], time: float, shrink: float
    ) -> NDArray[np.uint8]:
        """As `picture`, averaged over several poses while the shutter is open; keypoints are those of the last."""
        self._camera.jolt(self._rng)
        pictures = [self._render(pose(time), time) for pose in poses]
        mean = pictures[0] if len(pictures) == 1 else np.mean(pictures, axis=0).astype(np.uint8)
        if shrink > 1:
            smaller = round(self._stage.width / shrink), round(self._stage.height / shrink)
            mean = np.asarray(Image.fromarray(mean).resize(smaller, Image.Resampling.BOX))
        size = self._stage.width, self._stage.height
        data = self._data
        self._keypoints = self._camera.project(data.xpos[self._points] + self._offsets, *size) / shrink
        self._fingertips = (
            self._camera.project(data.xpos[self._tips] - _TIP * data.xmat[self._tips, 2::3], *size) / shrink
        )
        return self._lens.spoil(mean, self._rng)

    def keypoints(self) -> NDArray[np.float64]:
        """Where the joints of the last picture are in it: [len(KEYPOINTS), 2] pixels right and down, maybe outside."""
        return self._keypoints

    def fingertips(self) -> NDArray[np.float64]:
        """Likewise the ends of the fingers: [len(FINGERTIPS), 2]."""
        return self._fingertips

    def places(self) -> NDArray[np.float64]:
        """Where the KEYPOINTS of the last picture are in the room: [len(KEYPOINTS), 3] metres."""
        return self._data.xpos[self._points] + self._offsets

    def close(self) -> None:
        """Frees what the scene holds in the GL context."""
        self._context.free()

    def _look_from(self, framing: str) -> None:
        fovy = float(self._model.vis.global_.fovy)
        self._camera = Camera.random(self._rng, framing, fovy, self._tall, self._clean)

    def _render(self, pose: dict[str, float], time: float) -> NDArray[np.uint8]:
        mujoco, data = self._mujoco, self._data
        data.qpos[:] = self._resting
        self._set(pose)
        for prefix, other in self._others.items():
            self._set(other.pose(prefix, time))
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_camlight(self._model, data)
        camera = mujoco.MjvCamera()
        camera.distance, camera.azimuth, camera.elevation = (
            self._camera.distance,
            self._camera.azimuth,
            self._camera.elevation,
        )
        camera.lookat[:] = self._camera.lookat
        scene = self._scene
        mujoco.mjv_updateScene(self._model, data, self._options, None, camera, mujoco.mjtCatBit.mjCAT_ALL.value, scene)
        for eye in scene.camera:
            eye.up[:] = self._camera.axes()[2]
        width, height = self._stage.width, self._stage.height
        viewport = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(viewport, scene, self._context)
        picture = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(picture, None, viewport, self._context)
        return picture[::-1]

    def _set(self, pose: dict[str, float]) -> None:
        """Writes joint values; whatever has a place is turned and shifted with the whole stage."""
        qpos, turn = self._data.qpos, np.radians(self._facing)
        for name, value in pose.items():
            address = self._address.get(name)
            if address is not None:
                qpos[address] = np.radians(value) if self._hinge[name] else value
        for owner in {name.rpartition("/")[0] for name in pose}:
            prefix = f"{owner}/" if owner else ""
            if f"{prefix}x" not in self._address:
                continue
            x, y = (self._address[f"{prefix}{name}"] for name in "xy")
            at = np.cos(turn) * qpos[x] - np.sin(turn) * qpos[y], np.sin(turn) * qpos[x] + np.cos(turn) * qpos[y]
            qpos[x], qpos[y] = at + self._shift
            yaw = f"{prefix}yaw" if f"{prefix}yaw" in self._address else f"{prefix}turn"
            qpos[self._address[yaw]] += turn


def _joints(model: object) -> tuple[dict[str, int], dict[str, bool], NDArray[np.float64]]:
    """Addresses and kinds of all joints by name, and the positions in which all things are hidden."""
    address, hinge = {}, {}
    resting = np.zeros(model.nq)  # type: ignore[attr-defined]
    for index in range(model.njnt):  # type: ignore[attr-defined]
        joint = model.joint(index)  # type: ignore[attr-defined]
        address[joint.name], hinge[joint.name] = int(joint.qposadr[0]), int(joint.type[0]) == 3
        if joint.name.endswith("/z"):
            resting[address[joint.name]] = _HIDDEN
    for prefix in ("a/", "b/"):
        if f"{prefix}yaw" in address:
            resting[address[f"{prefix}z"]] = 0.0
    return address, hinge, resting


def _is_finger(name: str) -> bool:
    return name.endswith(("_fan", "_flex", "_bend"))
