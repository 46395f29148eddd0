"""ROS parameters from the config dataclasses: names, types, descriptions, ranges, and which may change when."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from vispeak_node.ros.assistant import AssistantConfig
from vispeak_node.runtime.config import CHANGEABLE, SessionConfig
from vispeak_node.settings import field_comments

_MAX_FILE = 2**20  # bytes
QOS = ("SENSOR_DATA", "SYSTEM_DEFAULT", "DEFAULT")


@dataclass(frozen=True)
class RosConfig:
    """What only the ROS node has.

    Raises:
        ValueError: a field is out of its range.
    """

    model: str = ""  # checkpoint folder; empty takes the shipped small one
    device: str = "cpu"  # cpu, cuda, cuda:1, ...
    dtype: str = ""  # float32, bfloat16 or float16; empty takes float32 on the CPU and bfloat16 elsewhere
    weights: str = ""  # int8, int4 or fp8: packed after loading; empty leaves them as they are
    autostart: bool = True  # whether the node configures and activates itself
    image_qos: str = "SENSOR_DATA"  # what is asked of cameras: SENSOR_DATA, SYSTEM_DEFAULT or DEFAULT (reliable)
    image_depth: int = 5  # frames that may wait for the node
    audio_qos: str = "SENSOR_DATA"  # what is asked of microphones
    audio_depth: int = 50  # chunks of sound that may wait for the node
    cameras: str = ""  # names of several cameras, by comma: each has topics under its name, all share the weights

    def __post_init__(self) -> None:
        for name in ("image_qos", "audio_qos"):
            if getattr(self, name) not in QOS:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown; use one of {', '.join(QOS)}")
        for name in ("image_depth", "audio_depth"):
            if not 1 <= getattr(self, name) <= 1000:
                raise ValueError(f"{name} must lie between 1 and 1000, not {getattr(self, name)}")
        if self.dtype not in ("", "float32", "bfloat16", "float16"):
            raise ValueError(f"dtype {self.dtype!r} is unknown; use float32, bfloat16 or float16")
        if self.weights not in ("", "int8", "int4", "fp8"):
            raise ValueError(f"weights {self.weights!r} is unknown; use int8, int4 or fp8, or leave it empty")
        for camera in self.camera_names:
            if camera and not camera.replace("_", "a").isalnum():
                raise ValueError(f"cameras: {camera!r} is no name; use letters, digits and _")

    @property
    def camera_names(self) -> list[str]:
        """The cameras; one without a name if none is listed."""
        return [camera.strip() for camera in self.cameras.split(",")]


PARTS: tuple[type[Any], ...] = (RosConfig, AssistantConfig, SessionConfig)
_FIXED = frozenset({"autostart"})  # has done its work when anybody could change it


@dataclass(frozen=True)
class Parameter:
    """One ROS parameter."""

    name: str
    default: bool | int | float | str
    description: str
    least: float | None  # of numbers
    changeable: str  # never, unconfigured (before the model is loaded), or always


def parameters() -> list[Parameter]:
    """All parameters of the node, in the order of the config classes."""
    found = []
    for part in PARTS:
        comments = field_comments(part)
        for field in dataclasses.fields(part):
            number = isinstance(field.default, int | float) and not isinstance(field.default, bool)
            always = part is SessionConfig and field.name in CHANGEABLE
            when = "never" if field.name in _FIXED else "always" if always else "unconfigured"
            assert isinstance(field.default, bool | int | float | str), field.name
            found.append(
                Parameter(field.name, field.default, comments.get(field.name, ""), 0.0 if number else None, when)
            )
    assert len({parameter.name for parameter in found}) == len(found), "two config classes share a name"
    return found


def configs(values: dict[str, Any]) -> tuple[RosConfig, AssistantConfig, SessionConfig]:
    """The config objects that parameter values describe.

    Raises:
        ValueError: a value makes no sense.
    """
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be finite, not {value}")
    made = [part(**{f.name: values[f.name] for f in dataclasses.fields(part) if f.name in values}) for part in PARTS]
    return made[0], made[1], made[2]


def parameter_file() -> str:
    """A ROS parameter file with every default and its description."""
    lines = ["# Parameters of the assistant and their defaults.", "/**:", "  ros__parameters:"]
    for parameter in parameters():
        lines.append(f"    # {parameter.description}")
        value = parameter.default
        text = (
            str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else repr(value)
        )
        lines.append(f"    {parameter.name}: {text}")
    return "\n".join(lines) + "\n"


def read_parameters(path: Path) -> dict[str, Any]:
    """The node's values in a ROS parameter file: those of every node, then those of a node called vispeak.

    Raises:
        ValueError: the file is missing, no parameter file, or holds an unknown name or a value of another type.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8") if path.stat().st_size <= _MAX_FILE else ""
        sections = YAML(typ="safe", pure=True).load(text)
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(sections, dict):
        raise ValueError(f"{path}: no ROS parameter file (`/**:` and under it `ros__parameters:`)")
    values: dict[str, Any] = {}
    for name in sorted(sections, key=lambda name: "*" not in str(name)):
        section = sections[name]
        if "*" in str(name) or str(name).rsplit("/", 1)[-1] == "vispeak":
            found = section.get("ros__parameters") if isinstance(section, dict) else None
            if not isinstance(found, dict):
                raise ValueError(f"{path}: {name} has no ros__parameters")
            values |= found
    known = {parameter.name: parameter.default for parameter in parameters()} | {"use_sim_time": False}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{path}: the parameter {name} is unknown")
        if type(value) is not type(known[name]):
            raise ValueError(f"{path}: {name} must be a {type(known[name]).__name__}, not {value!r}")
    return values
