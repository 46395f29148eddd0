"""The two steps of an export, each with its validation and its sidecar: checkpoint to ONNX, ONNX to engine."""

from __future__ import annotations

import dataclasses
import logging
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vispeak_export import inputs
from vispeak_export.calibration import QUANTISED, calibrate
from vispeak_export.engine import Toolkit, build_engine, choose_toolkit
from vispeak_export.graphs import load_graph
from vispeak_export.onnx_file import OPSET, require_onnx, write_onnx
from vispeak_export.quantised_onnx import QUANTISED_OPSET, quantise_onnx
from vispeak_export.validation import compare, compare_decisions
from vispeak_node.model.checkpoint import inspect_checkpoint
from vispeak_node.runtime.backends import Backend, setting_here
from vispeak_node.runtime.fingerprint import files_sha256, weights_sha256
from vispeak_node.runtime.machine import NO_GPU, gpu_name, package_version
from vispeak_node.runtime.onnx_backend import OnnxBackend
from vispeak_node.runtime.sidecar import (
    FAILED,
    MAX_BATCH,
    Sidecar,
    Validation,
    check_sidecar,
    data_path,
    encoder_path,
    read_sidecar,
    sidecar_path,
)
from vispeak_node.runtime.tensorrt_backend import TensorRTBackend

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportConfig:
    """What is exported, and how it is tried."""

    model: Path  # the checkpoint
    out: Path  # folder of the exported encoders
    precision: str = "fp16"  # of weights and arithmetic; int8 and fp8 are for the vision encoder
    max_batch: int = 8  # frames or seconds that an engine takes at once
    num_inputs: int = 32  # noise and real frames that it is compared on; at least 2
    clip: Path | None = None  # where the real ones come from, and what decisions are compared on
    toolkit: str = "auto"  # that builds engines
    calibration: Path | None = None  # pictures or a video that int8 and fp8 take their ranges from; None is the clip

    def __post_init__(self) -> None:
        for name, least, most in (("max_batch", 1, MAX_BATCH), ("num_inputs", 2, 1024)):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be {least} to {most}, not {getattr(self, name)}")

    def precision_of(self, part: str) -> str:
        """Sound stays in float16 where the vision encoder is quantised: a second of it is a tenth of a frame's work."""
        return "fp16" if part == "audio" and self.precision in QUANTISED else self.precision


def export_onnx(config: ExportConfig, part: str) -> Sidecar:
    """One encoder to a validated graph; the sidecar is written last, so that a broken export has none.

    Raises:
        ValueError: the checkpoint is not complete, or a library is missing.
    """
    require_onnx()
    file = encoder_path(config.out, part, "onnx")
    weights = weights_sha256(config.model, part)
    graph = load_graph(config.model, part)
    config.out.mkdir(parents=True, exist_ok=True)
    sidecar_path(file).unlink(missing_ok=True)
    begin = time.perf_counter()
    precision = config.precision_of(part)
    quantised = precision in QUANTISED
    scales = calibrate(graph, _calibration_frames(config), precision)[0] if quantised else []
    graph.set_precision(precision)
    write_onnx(graph, file)
    if quantised:
        quantise_onnx(file, scales, precision)
    sha256 = files_sha256(file, data_path(file))
    sidecar = Sidecar(
        part,
        "onnx",
        precision,
        weights,
        onnx_sha256=sha256,
        file_sha256=sha256,
        opset=QUANTISED_OPSET if quantised else OPSET,
        input_shape=graph.input_shape,
        max_batch=config.max_batch,
        profile=(),
        gpu=NO_GPU,
        versions=_versions("torch", "onnx", "onnxscript", "onnxruntime", *(["nvidia-modelopt"] if quantised else [])),
        build_seconds=round(time.perf_counter() - begin, 2),
    )
    del graph
    sidecar = dataclasses.replace(sidecar, validation=_validate_onnx(config, sidecar, file))
    sidecar.write(file)
    return sidecar


def export_engine(config: ExportConfig, part: str) -> Sidecar:
    """One graph to an engine; a machine without a GPU builds it and cannot try it.

    Raises:
        ValueError: the graph is missing or does not belong to the checkpoint, or the toolkit refuses it.
    """
    onnx_file, file = encoder_path(config.out, part, "onnx"), encoder_path(config.out, part, "engine")
    if not onnx_file.is_file():
        raise ValueError(
            f"{onnx_file}: no such file; make it with: vispeak-export onnx --model {config.model} --out {config.out}"
        )
    source = read_sidecar(onnx_file)
    check_sidecar(source, onnx_file, part, setting_here(config.model, part, source))
    toolkit = choose_toolkit(config.toolkit)
    sidecar_path(file).unlink(missing_ok=True)
    begin = time.perf_counter()
    build_engine(toolkit, onnx_file, file, config.max_batch)
    sidecar = dataclasses.replace(
        source,
        kind=toolkit.kind,
        graph_validation=source.validation,
        file_sha256=files_sha256(file),
        max_batch=config.max_batch,
        profile=(1, 1, config.max_batch),
        gpu=gpu_name() if toolkit.needs_gpu else NO_GPU,
        versions=source.versions | _versions() | {toolkit.kind: str(toolkit.module.__version__)},
        build_seconds=round(time.perf_counter() - begin, 2),
    )
    sidecar = dataclasses.replace(sidecar, validation=_validate_engine(config, sidecar, file, toolkit))
    sidecar.write(file)
    return sidecar


def _calibration_frames(config: ExportConfig) -> Tensor:
    settings = inspect_checkpoint(config.model).config
    return inputs.frames(settings, config.num_inputs, config.calibration or config.clip, seed=1)


def _validate_onnx(config: ExportConfig, sidecar: Sidecar, file: Path) -> Validation:
    device = torch.device("cpu")
    try:
        backend = OnnxBackend(file, sidecar, device, torch.float32)
    except ValueError as error:
        if sidecar.precision != "bf16":
            raise
        return Validation(f"not run: ONNX Runtime has no bfloat16 kernels here ({error})")
    return _validate(config, sidecar, backend, device)


def _validate_engine(config: ExportConfig, sidecar: Sidecar, file: Path, toolkit: Toolkit) -> Validation:
    if not torch.cuda.is_available():
        return Validation("not run: the machine that built it has no GPU")
    device = torch.device("cuda")
    try:
        backend = TensorRTBackend(file, sidecar, device, torch.float32)
    except ValueError as error:
        if toolkit.needs_gpu:
            raise
        return Validation(f"not run: {error}")
    return _validate(config, sidecar, backend, device)


def _validate(config: ExportConfig, sidecar: Sidecar, backend: Backend, device: torch.device) -> Validation:
    """Against torch in float32, per token; then over the clip, where there is one."""
    settings = inspect_checkpoint(config.model).config
    make = inputs.frames if sidecar.part == "vision" else inputs.seconds_of_sound
    batch = make(settings, config.num_inputs, config.clip)
    graph = load_graph(config.model, sidecar.part).to(device)

    def reference(values: Tensor) -> tuple[Tensor, ...]:
        return graph(values.to(device))

    with torch.inference_mode():
        found = compare(reference, backend.run, batch, sidecar.precision, config.max_batch)
    origin = config.clip.name if config.clip else "drawn pictures and tones"
    if sidecar.precision in QUANTISED:
        origin += f"; ranges from other noise and {(config.calibration or config.clip or Path('drawn pictures')).name}"
    found = dataclasses.replace(found, inputs=f"noise and {origin}")
    if config.clip is None or found.status == FAILED:
        return found
    return compare_decisions(found, config.model, inputs.clip_events(config.clip), sidecar.part, backend, device)


def _versions(*packages: str) -> dict[str, str]:
    """Of the libraries, and of what they run on."""
    found = {name: package_version(name) or "none" for name in packages}
    found |= {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found
