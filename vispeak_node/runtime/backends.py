"""What runs the two encoders: torch, ONNX Runtime or TensorRT, behind one interface.

Shape legend: B batch, S pixels, C channels, T mel frames, M mel bins, N tokens, D hidden, F width before the projector.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.encoder_graphs import torch_encoder
from vispeak_node.runtime.fingerprint import weights_sha256
from vispeak_node.runtime.machine import TOOLKITS, gpu_name, is_installed, toolkit_version
from vispeak_node.runtime.onnx_backend import OnnxBackend
from vispeak_node.runtime.sidecar import Setting, Sidecar, check_sidecar, encoder_path, read_sidecar
from vispeak_node.runtime.tensorrt_backend import TensorRTBackend

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "onnx", "tensorrt")


class Backend(Protocol):
    """One encoder.

    Vision: uint8 [B, S, S, C] to embeddings [B, N, D] and the pooled features [B, N, F] they were projected from.
    Audio: float32 [B, T, M] to embeddings [B, N, D], in a tuple of one.
    """

    name: str  # for people

    def run(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The encoder's outputs, in the language model's type and on its device."""
        ...


@dataclass(frozen=True)
class Backends:
    """The two encoders of a session; sessions on one set of weights may share them, from one thread."""

    vision: Backend
    audio: Backend

    @classmethod
    def torch(cls, model: ViSpeakModel, graphs: str = "never") -> Backends:
        """The model's own layers; `graphs` as `torch_encoder` has it."""
        return cls(torch_encoder(model, "vision", graphs), torch_encoder(model, "audio", graphs))

    def encode_images(self, frames_BSSC: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 frames of the tower's size to embeddings [B, N, D] and pooled features [B, N, F]."""
        embeds_BND, features_BNF = self.vision.run(frames_BSSC)
        return embeds_BND, features_BNF

    def encode_sound(self, fbank_BTM: Tensor) -> Tensor:
        """Mel features to embeddings [B, N, D]."""
        (embeds_BND,) = self.audio.run(fbank_BTM)
        return embeds_BND


def choose_backends(
    model: ViSpeakModel,
    folder: str | Path,
    engines: str | Path = "",
    vision: str = "auto",
    audio: str = "auto",
    graphs: str = "never",
) -> Backends:
    """The back ends that were asked for, or with `auto` the best that are there.

    On a GPU `auto` takes an engine; on the CPU a float32 ONNX graph; otherwise, and where one is refused, torch. What
    was chosen is logged, and so is what was passed over and why.

    Args:
        model: what the torch back end runs, and whose device and type the results have.
        folder: its checkpoint, which exported encoders must have been made from.
        engines: folder of exported encoders (`vispeak-export`); empty for none.
        vision: one of `BACKENDS`.
        audio: likewise.
        graphs: of the torch back end, as `torch_encoder` has it.

    Raises:
        ValueError: a back end that was asked for by name cannot be had; the message says why, and what to run.
    """
    return Backends(
        _choose(model, Path(folder), engines, "vision", vision, graphs),
        _choose(model, Path(folder), engines, "audio", audio, graphs),
    )


def _choose(model: ViSpeakModel, folder: Path, engines: str | Path, part: str, wanted: str, graphs: str) -> Backend:
    if wanted not in BACKENDS:
        raise ValueError(f"{part}_backend {wanted!r} is unknown; use {', '.join(BACKENDS)}")
    if wanted in ("onnx", "tensorrt") and not str(engines):
        raise ValueError(
            f"the {wanted} back end needs a folder of exported encoders: make one with "
            f"`vispeak-export all --model {folder} --out ENGINES` and name it with --engines"
        )
    if str(engines) and not Path(engines).is_dir():
        raise ValueError(
            f"{engines}: no such folder; make one with `vispeak-export all --model {folder} --out {engines}`"
        )
    backend = _load(model, folder, Path(engines), part, wanted) if wanted in ("onnx", "tensorrt") else None
    if wanted == "auto" and str(engines):
        backend = _best(model, folder, Path(engines), part)
    if backend is None:
        backend = torch_encoder(model, part, graphs)
    logger.info("%s encoder: %s", part, backend.name)
    return backend


def _best(model: ViSpeakModel, folder: Path, engines: Path, part: str) -> Backend | None:
    kind = "tensorrt" if model.device.type == "cuda" else "onnx"
    file = encoder_path(engines, part, kind)
    installed = any(map(is_installed, TOOLKITS)) if kind == "tensorrt" else is_installed("onnxruntime")
    if not file.is_file() or not installed:
        logger.info("%s: %s", file, "not there" if installed else f"nothing that runs {kind} is installed")
        return None
    try:
        sidecar = read_sidecar(file)
        if kind == "onnx" and sidecar.precision != "fp32":
            logger.info("%s: passed over: a CPU is slower with %s than torch with float32", file, sidecar.precision)
            return None
        return _load(model, folder, engines, part, kind)
    except ValueError as error:
        logger.warning("%s; the torch back end is used instead", error)
        return None


def _load(model: ViSpeakModel, folder: Path, engines: Path, part: str, kind: str) -> Backend:
    """An exported encoder, after its sidecar was checked."""
    file = encoder_path(engines, part, kind)
    if not file.is_file():
        raise ValueError(
            f"{file}: no such file; make it with: vispeak-export {'onnx' if kind == 'onnx' else 'all'} "
            f"--model {folder} --out {engines} --part {part}"
        )
    sidecar = read_sidecar(file)
    check_sidecar(sidecar, file, part, setting_here(folder, part, sidecar))
    if sidecar.validation.status != "passed":
        logger.warning("%s: it was not compared with torch: %s", file, sidecar.validation.status)
    if sidecar.kind == "onnx":
        return OnnxBackend(file, sidecar, model.device, model.dtype)
    return TensorRTBackend(file, sidecar, model.device, model.dtype)


def setting_here(folder: Path, part: str, sidecar: Sidecar) -> Setting:
    """This checkpoint and this machine; only the toolkit that is asked about is imported."""
    versions = {sidecar.kind: toolkit_version(sidecar.kind)} if sidecar.kind in TOOLKITS else {}
    return Setting(folder, weights_sha256(folder, part), gpu_name(), versions)
