"""What this machine has for running encoders: its GPU and the toolkits that are installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from types import ModuleType

import torch

NO_GPU = "none"
TOOLKITS = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}  # module and name
INSTALL = {
    "tensorrt": "pip install tensorrt (a Jetson's JetPack brings it)",
    "tensorrt_rtx": "pip install tensorrt-rtx",
    "onnxruntime": "pip install onnxruntime (onnxruntime-gpu for an NVIDIA GPU)",
}


def gpu_name() -> str:
    """The first CUDA device and its architecture, e.g. `NVIDIA H100 (sm_90)`; `none` without one."""
    if not torch.cuda.is_available():
        return NO_GPU
    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()} (sm_{major}{minor})"


def is_installed(module: str) -> bool:
    """Whether Python would find a module, without importing it."""
    return importlib.util.find_spec(module) is not None


def import_toolkit(module: str) -> ModuleType:
    """TensorRT or one of its relatives.

    Raises:
        ValueError: it is not installed, or its libraries do not load.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise ValueError(f"{TOOLKITS.get(module, module)} cannot be used ({error}): {INSTALL[module]}") from error


def toolkit_version(module: str) -> str:
    """The version of an installed toolkit; `none` if it is not installed or does not load."""
    try:
        return str(import_toolkit(module).__version__)
    except ValueError:
        return "none"


def package_version(name: str) -> str | None:
    """The version of an installed distribution, read without importing it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
