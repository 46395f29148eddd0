"""An exported encoder run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vispeak_node.runtime.machine import INSTALL
from vispeak_node.runtime.sidecar import Sidecar, check_inputs

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


class OnnxBackend:
    """One graph, on the GPU where ONNX Runtime has a provider for it, else on the CPU.

    Args:
        file: the graph.
        sidecar: its account, checked before.
        device: where its results go.
        dtype: their type.

    Raises:
        ValueError: ONNX Runtime is not installed or refuses the graph.
    """

    def __init__(self, file: Path, sidecar: Sidecar, device: torch.device, dtype: torch.dtype) -> None:
        try:
            import onnxruntime  # noqa: PLC0415 - only where this back end is chosen
        except ImportError as error:
            raise ValueError(f"the onnx back end needs ONNX Runtime: {INSTALL['onnxruntime']}") from error
        self._sidecar, self._device, self._dtype = sidecar, device, dtype
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        if sidecar.precision == "fp8":  # its optimiser takes float8 through operators that have none
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        on_gpu = device.type == "cuda" and _CUDA in onnxruntime.get_available_providers()
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(file), options, providers=[_CUDA, _CPU] if on_gpu else [_CPU]
            )
        except Exception as error:  # its exceptions share no other base class
            raise ValueError(f"{file}: ONNX Runtime refuses it: {str(error).splitlines()[0]}") from error
        self._input = self._session.get_inputs()[0].name
        self.name = (
            f"onnx ({'CUDA' if _CUDA in self._session.get_providers() else 'CPU'}, {sidecar.precision}, {file.name})"
        )

    def run(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The graph's outputs for a batch of its inputs.

        Raises:
            ValueError: they are of another shape than it was exported for.
        """
        check_inputs(self._sidecar, inputs)
        outputs = self._session.run(None, {self._input: inputs.cpu().numpy()})
        return tuple(torch.from_numpy(values).to(self._device, self._dtype, non_blocking=True) for values in outputs)
