"""The JSON file beside an exported encoder: what it was made from, for what, and how well it does.

An encoder without one, or with one that does not fit the checkpoint, the GPU or the toolkit, is refused with the
command that makes a new one.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vispeak_node.runtime.fingerprint import PARTS, files_sha256
from vispeak_node.runtime.machine import NO_GPU, TOOLKITS

FORMAT = 1
KINDS = ("onnx", *TOOLKITS)
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
PASSED, FAILED = "passed", "failed"
MAX_BATCH = 256  # buffers for it are made before anything runs
_MAX_BYTES = 2**20


@dataclass(frozen=True)
class Validation:
    """How an exported encoder compares with torch in float32."""

    status: str  # passed, failed, or why it could not be run
    num_inputs: int = 0  # frames or seconds of sound
    inputs: str = ""  # where they come from
    cosine_min: float = 0.0  # over all tokens
    cosine_mean: float = 0.0
    max_abs: float = 0.0
    num_not_finite: int = 0  # values that are NaN or infinite
    num_decisions: int = 0  # scores of a clip that were compared; 0 if there was none
    decision_agreement: float = 0.0  # share of them with the same decision to speak
    max_score_difference: float = 0.0
    same_replies: bool = False  # whether the same words were said at the same times


@dataclass(frozen=True)
class Sidecar:
    """One exported encoder."""

    part: str  # vision or audio
    kind: str  # onnx, or the toolkit that built the engine
    precision: str  # of weights and arithmetic
    weights_sha256: str  # see fingerprint.weights_sha256
    onnx_sha256: str  # of the graph and its data
    file_sha256: str  # of this encoder's own file(s)
    opset: int
    input_shape: tuple[int, ...]  # without the batch
    max_batch: int
    profile: tuple[int, ...]  # least, best and greatest batch of an engine; empty for ONNX
    gpu: str  # that the engine was built for; none if it is for any that the toolkit knows
    versions: dict[str, str]  # of the libraries that made it
    build_seconds: float
    validation: Validation = field(default_factory=lambda: Validation("not run"))
    graph_validation: Validation | None = None  # of the graph that an engine was built from
    format: int = FORMAT

    def write(self, file: Path) -> None:
        """Beside the encoder's file."""
        sidecar_path(file).write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")


def encoder_path(folder: Path, part: str, kind: str) -> Path:
    """Where an encoder lies in a folder of exported ones."""
    return folder / f"{part}.{'onnx' if kind == 'onnx' else 'engine'}"


def data_path(onnx_file: Path) -> Path:
    """The weights of an ONNX graph, which may be larger than what a graph's own file can hold."""
    return onnx_file.with_name(onnx_file.name + ".data")


def sidecar_path(file: Path) -> Path:
    """The JSON file that belongs to an encoder's file."""
    return file.with_name(file.name + ".json")


def read_sidecar(file: Path) -> Sidecar:
    """The sidecar of an encoder's file.

    Raises:
        ValueError: it is missing, or no sidecar.
    """
    path = sidecar_path(file)
    if not path.is_file():
        raise ValueError(f"{file}: {path.name} is missing, so nothing says what it was made from; export it again")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path}: larger than {_MAX_BYTES} bytes")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return _from_dict(raw)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: not a sidecar of an exported encoder: {error}; export it again") from error


def _from_dict(raw: Any) -> Sidecar:
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    values = dict(raw)
    values["validation"] = _check_types(Validation(**raw["validation"]))
    if raw.get("graph_validation") is not None:
        values["graph_validation"] = _check_types(Validation(**raw["graph_validation"]))
    values["input_shape"] = tuple(int(size) for size in raw["input_shape"])
    values["profile"] = tuple(int(size) for size in raw["profile"])
    sidecar = _check_types(Sidecar(**values))
    for name, allowed in (("part", PARTS), ("kind", KINDS), ("precision", PRECISIONS)):
        if getattr(sidecar, name) not in allowed:
            raise ValueError(f"{name} is {getattr(sidecar, name)!r}, not one of {', '.join(allowed)}")
    if not 1 <= sidecar.max_batch <= MAX_BATCH:
        raise ValueError(f"max_batch is {sidecar.max_batch}, not 1 to {MAX_BATCH}")
    return sidecar


def _check_types(value: Any) -> Any:
    """A dataclass whose plain fields hold what they should; JSON may have brought anything."""
    plain: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float), "bool": bool}
    plain["dict[str, str]"] = dict
    for part in dataclasses.fields(value):
        kind = plain.get(str(part.type))
        if kind is not None and not isinstance(getattr(value, part.name), kind):
            raise ValueError(f"{part.name} is no {part.type}")
    return value


@dataclass(frozen=True)
class Setting:
    """Where an encoder is to run."""

    model_folder: Path
    weights_sha256: str  # of the checkpoint's part
    gpu: str  # see machine.gpu_name
    versions: dict[str, str]  # of the toolkits


def check_sidecar(sidecar: Sidecar, file: Path, part: str, setting: Setting) -> None:
    """Refuses an encoder that does not belong where it is to run.

    Raises:
        ValueError: says in one line what does not fit, and the command that makes one that does.
    """
    source = _wrong_source(sidecar, part, setting)
    place = _wrong_place(sidecar, setting)
    reason = source or place or _wrong_file(sidecar, file)
    if reason:
        command = _command(sidecar, file, part, setting, graph_is_good=not source)
        raise ValueError(f"{file}: refused: {reason}; make it again with: {command}")


def check_inputs(sidecar: Sidecar, inputs: Tensor) -> None:
    """Refuses inputs of another shape than an encoder was exported for; only the batch may vary.

    Raises:
        ValueError: says both shapes.
    """
    if tuple(inputs.shape[1:]) != sidecar.input_shape:
        found, needed = list(inputs.shape[1:]), list(sidecar.input_shape)
        raise ValueError(f"the exported {sidecar.part} encoder takes inputs of {needed}, not {found}")


def _wrong_source(sidecar: Sidecar, part: str, setting: Setting) -> str:
    """What makes the graph itself useless here; empty if nothing does."""
    if sidecar.part != part:
        return f"it is the {sidecar.part} encoder, not the {part} encoder"
    if sidecar.weights_sha256 != setting.weights_sha256:
        return f"it was made from other weights or settings than {setting.model_folder} has"
    if sidecar.validation.status == FAILED:
        return f"its validation failed (cosine {sidecar.validation.cosine_min:.6f})"
    return ""


def _wrong_place(sidecar: Sidecar, setting: Setting) -> str:
    """What keeps an engine from running here."""
    if sidecar.kind == "onnx":
        return ""
    name, here = TOOLKITS[sidecar.kind], setting.versions.get(sidecar.kind, "none")
    built = sidecar.versions.get(sidecar.kind, "none")
    if built != here:
        return f"it was built by {name} {built}, here is {name} {here}"
    if sidecar.gpu not in (NO_GPU, setting.gpu):
        return f"it was built for {sidecar.gpu}, here is {setting.gpu}"
    return ""


def _wrong_file(sidecar: Sidecar, file: Path) -> str:
    files = (file, data_path(file)) if sidecar.kind == "onnx" else (file,)
    try:
        found = files_sha256(*files)
    except ValueError as error:
        return str(error)
    if found != sidecar.file_sha256:
        return "it is not the file that its sidecar describes (cut off or replaced)"
    return ""


def _command(sidecar: Sidecar, file: Path, part: str, setting: Setting, graph_is_good: bool) -> str:
    if sidecar.kind == "onnx":
        step = "onnx"
    else:
        step = "engine" if graph_is_good and encoder_path(file.parent, part, "onnx").is_file() else "all"
    precision = [] if step == "engine" else ["--precision", sidecar.precision]
    words = ["--model", str(setting.model_folder), "--out", str(file.parent), "--part", part, *precision]
    return f"vispeak-export {step} {shlex.join(words)} --max-batch {sidecar.max_batch}"
