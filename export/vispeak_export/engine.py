"""An ONNX graph to an engine, by TensorRT on the GPU it is for, or by TensorRT-RTX on any machine."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from vispeak_export.progress import BuildProgress, monitor
from vispeak_node.runtime.machine import INSTALL, TOOLKITS, import_toolkit, is_installed

logger = logging.getLogger(__name__)

TIMING_CACHE = "timing.cache"  # of the builder's measurements, beside the engines


@dataclass(frozen=True)
class Toolkit:
    """What builds engines."""

    kind: str  # the module's name
    module: ModuleType

    @property
    def needs_gpu(self) -> bool:
        """TensorRT times its kernels on the GPU; TensorRT-RTX leaves that to the machine that runs the engine."""
        return self.kind == "tensorrt"


def choose_toolkit(wanted: str = "auto") -> Toolkit:
    """TensorRT where it is installed and finds a GPU, else TensorRT-RTX.

    Args:
        wanted: auto, or the name of one.

    Raises:
        ValueError: there is none that could build here; says what to install.
    """
    gpu = torch.cuda.is_available()
    if wanted == "auto":
        if gpu and is_installed("tensorrt"):
            wanted = "tensorrt"
        elif is_installed("tensorrt_rtx"):
            wanted = "tensorrt_rtx"
        else:
            ways = f"with a GPU: {INSTALL['tensorrt']}; without one: {INSTALL['tensorrt_rtx']}"
            raise ValueError(f"nothing here can build an engine; {ways}")
    if wanted == "tensorrt" and not gpu:
        raise ValueError("TensorRT builds engines only on the GPU that runs them; here is none: use tensorrt_rtx")
    return Toolkit(wanted, import_toolkit(wanted))


def build_engine(toolkit: Toolkit, onnx_file: Path, engine_file: Path, max_batch: int) -> None:
    """Builds an engine in the graph's own precision, for batches of 1 (best) to `max_batch`.

    Args:
        toolkit: from `choose_toolkit`.
        onnx_file: with one input whose first dimension is the batch.
        engine_file: where the engine goes.
        max_batch: the greatest batch.

    Raises:
        ValueError: the toolkit refuses the graph; with its own words.
        KeyboardInterrupt: it was given up.
    """
    trt: Any = toolkit.module
    log = _make_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx_file)):
        reasons = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise ValueError(f"{onnx_file}: {TOOLKITS[toolkit.kind]} {trt.__version__} refuses it: {reasons}")
    config = builder.create_builder_config()
    _add_profile(builder, config, network, max_batch)
    # TensorRT-RTX has no use for a timing cache, and would look for a GPU because of it
    cache = _open_cache(config, engine_file.parent / TIMING_CACHE) if toolkit.needs_gpu else None
    progress = BuildProgress()
    watcher = monitor(trt, progress)  # must outlive the build
    config.progress_monitor = watcher
    try:
        plan = builder.build_serialized_network(network, config)
    finally:
        progress.close()
    if progress.cancelled:
        raise KeyboardInterrupt
    if plan is None:
        raise ValueError(
            f"{onnx_file}: {TOOLKITS[toolkit.kind]} {trt.__version__} built nothing: {log.last or 'no reason'}"
        )
    temporary = engine_file.with_name(engine_file.name + ".part")
    with temporary.open("wb") as file:
        file.write(plan)
    os.replace(temporary, engine_file)
    if cache is not None:
        (engine_file.parent / TIMING_CACHE).write_bytes(memoryview(cache.serialize()))


def _network_flags(trt: Any) -> int:
    """Strong typing: required by TensorRT 10, the only way there is in 11."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _add_profile(builder: Any, config: Any, network: Any, max_batch: int) -> None:
    tensor = network.get_input(0)
    rest = tuple(tensor.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(tensor.name, (1, *rest), (1, *rest), (max_batch, *rest))
    if config.add_optimization_profile(profile) < 0:
        raise ValueError(f"{tensor.name} {tuple(tensor.shape)}: it allows no batches of 1 to {max_batch}")


def _open_cache(config: Any, path: Path) -> Any:
    """The measurements of earlier builds; those of another GPU or version are left aside by TensorRT itself."""
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    config.set_timing_cache(cache, False)
    return cache


def _make_log(trt: Any) -> Any:
    """The toolkit's messages to ours, the last error kept for the one line that a person sees."""
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.INFO,
        trt.ILogger.Severity.INFO: logging.DEBUG,
    }

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the binding refuses super().__init__
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            if level == logging.ERROR:
                self.last = message
            logger.log(level, "%s", message)

    return Log()
