"""What physics does to a body and to things: recordings of MuJoCo, played back as poses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vispeak_training.theatre.figure import HIPS, Look, figure_xml
from vispeak_training.theatre.reach import euler

RATE = 40  # recorded poses a second
_STEP = 0.005  # s
_LIMP = {"neck": 12.0, "trunk": 40.0, "arm": 2.5, "leg": 7.0}  # N m/rad of a body that lets go


@dataclass(frozen=True)
class Shot:
    """A thing that flies at somebody."""

    start: tuple[float, float, float]  # m
    velocity: tuple[float, float, float]  # m/s
    radius: float  # m
    mass: float  # kg


@dataclass(frozen=True, eq=False)
class Recording:
    """Joint values over time."""

    names: tuple[str, ...]
    values: NDArray[np.float64]  # [RATE * seconds, names]: degrees and metres, as a pose has them

    def __call__(self, time: float) -> dict[str, float]:
        """The pose at a time; it stays as it ended."""
        row = self.values[int(np.clip(time * RATE, 0, len(self.values) - 1))]
        return {name: float(value) for name, value in zip(self.names, row, strict=True)}


def tumble(
    look: Look,
    stance: Mapping[str, float],
    linear: tuple[float, float, float],
    angular: tuple[float, float, float],
    seconds: float = 3.0,
    grip: float = 0.05,
    shot: Shot | None = None,
) -> Recording:
    """A person who loses balance.

    Args:
        look: the body.
        stance: joint angles in degrees to begin with.
        linear: velocity of the hips in m/s when balance is lost.
        angular: about x, y, z in rad/s.
        seconds: how long to record.
        grip: friction of the floor, 0 is ice.
        shot: flies first, and balance is lost when it arrives.

    Returns:
        The person's joints and, with a shot, `shot/x`, `shot/y`, `shot/z`.
    """
    import mujoco  # noqa: PLC0415 - an optional extra

    model = mujoco.MjModel.from_xml_string(_world(look, grip, shot))
    data = mujoco.MjData(model)
    hinges = [i for i in range(model.njnt) if model.jnt_type[i] == mujoco.mjtJoint.mjJNT_HINGE]
    address = np.array([model.jnt_qposadr[i] for i in hinges])
    names = [model.joint(i).name for i in hinges]
    data.qpos[address] = np.radians([stance.get(name, 0.0) for name in names])
    model.qpos_spring[:] = data.qpos
    stiff = np.array([_LIMP[_muscle(name)] for name in names])
    model.jnt_stiffness[hinges] = 40 * stiff
    flying = model.joint("shot/root").dofadr[0] if shot else 0
    if shot:
        data.qpos[model.joint("shot/root").qposadr[0] :][:3] = shot.start
        data.qvel[flying : flying + 3] = shot.velocity
    mujoco.mj_forward(model, data)
    columns, free, every = [], False, round(1 / (RATE * _STEP))
    for step in range(round(seconds / _STEP)):
        if not free and (shot is None or (data.ncon > 0 and _touches(model, data))):
            free = True
            data.eq_active[:] = 0
            model.jnt_stiffness[hinges] = stiff
            data.qvel[:3], data.qvel[3:6] = linear, angular
        if step % every == 0:
            columns.append(_row(data, address, look, shot is not None))
        mujoco.mj_step(model, data)
    extra = ("shot/x", "shot/y", "shot/z") if shot else ()
    return Recording(("x", "y", "z", "yaw", "pitch", "roll", *names, *extra), np.array(columns))


def drop(start: tuple[float, float, float], velocity: tuple[float, float, float], seconds: float = 2.5) -> Recording:
    """A box that falls to the floor from `start` (m) and bounces: `loose/x`, ..., `loose/turn`, `loose/tumble`."""
    import mujoco  # noqa: PLC0415 - an optional extra

    model = mujoco.MjModel.from_xml_string(f"""<mujoco><option timestep="{_STEP}"/><worldbody>
      <geom type="plane" size="9 9 1" solref="-2000 -15"/>
      <body pos="{start[0]} {start[1]} {start[2]}"><freejoint/>
        <geom type="box" size=".14 .1 .11" density="150" solref="-2000 -15"/></body></worldbody></mujoco>""")
    data = mujoco.MjData(model)
    data.qvel[:] = [*velocity, 2.0, 1.0, 1.5]
    mujoco.mj_forward(model, data)
    columns, every = [], round(1 / (RATE * _STEP))
    for step in range(round(seconds / _STEP)):
        if step % every == 0:
            yaw, pitch, _ = euler(data.xmat[1].reshape(3, 3))
            columns.append([*data.qpos[:3], yaw, pitch])
        mujoco.mj_step(model, data)
    return Recording(tuple(f"loose/{name}" for name in ("x", "y", "z", "turn", "tumble")), np.array(columns))


def _world(look: Look, grip: float, shot: Shot | None) -> str:
    flying = ""
    if shot:
        flying = (
            f'<body name="shot"><freejoint name="shot/root"/><geom name="shot" type="sphere" size="{shot.radius}" '
            f'mass="{shot.mass}" contype="6" conaffinity="5" solref="-4000 -60" condim="6" friction="1 .05 .05"/>'
            "</body>"
        )
    # people are made of geoms (1, 2): they touch the floor and what flies, not themselves
    return f"""<mujoco>
  <compiler angle="degree" boundmass=".05" boundinertia=".0005"/>
  <option timestep="{_STEP}" integrator="implicitfast"/>
  <default>
    <joint damping="2.5" armature=".02"/>
    <geom contype="1" conaffinity="2" density="700" friction="{grip} .01 .001"/>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="9 9 1" contype="2" conaffinity="5" friction="{grip} .01 .001"/>
    {figure_xml(look, fingers=False, free=True)}
    {flying}
  </worldbody>
  <equality><weld body1="person" solref=".01 1"/></equality>
</mujoco>"""


def _muscle(joint: str) -> str:
    if joint in ("nod", "turn", "tip"):
        return "neck"
    if joint == "bend":
        return "trunk"
    return "leg" if joint.endswith(("hip", "knee", "spread")) else "arm"


def _touches(model: object, data: object) -> bool:
    """Whether the flying thing has met the person."""
    shot, floor = model.geom("shot").id, model.geom("floor").id  # type: ignore[attr-defined]
    pairs = data.contact.geom  # type: ignore[attr-defined]
    return bool(((pairs == shot).any(axis=1) & ~(pairs == floor).any(axis=1)).any())


def _row(data: object, address: NDArray[np.int64], look: Look, shot: bool) -> list[float]:
    qpos = data.qpos  # type: ignore[attr-defined]
    turn = data.body("person").xmat.reshape(3, 3)  # type: ignore[attr-defined]
    x, y, z = data.body("person").xpos  # type: ignore[attr-defined]
    flying = list(data.body("shot").xpos) if shot else []  # type: ignore[attr-defined]
    return [x, y, z - HIPS * look.height, *euler(turn), *np.degrees(qpos[address]), *flying]
