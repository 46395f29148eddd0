"""An encoder engine run by TensorRT or TensorRT-RTX, on torch's memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vispeak_node.runtime.machine import TOOLKITS, import_toolkit
from vispeak_node.runtime.sidecar import Sidecar, check_inputs


class TensorRTBackend:
    """One engine with buffers for its greatest batch, made once.

    Args:
        file: the engine.
        sidecar: its account, checked before.
        device: a CUDA device.
        dtype: of the results.

    Raises:
        ValueError: there is no GPU, the toolkit is not installed, or it refuses the engine.
    """

    def __init__(self, file: Path, sidecar: Sidecar, device: torch.device, dtype: torch.dtype) -> None:
        toolkit = TOOLKITS[sidecar.kind]
        if device.type != "cuda":
            raise ValueError(f"{file}: a {toolkit} engine runs on an NVIDIA GPU, not on {device}; use --device cuda")
        trt = import_toolkit(sidecar.kind)
        self._sidecar, self._dtype = sidecar, dtype
        self._max_batch = sidecar.max_batch
        self._logger = trt.Logger(trt.Logger.WARNING)
        self._runtime: Any = trt.Runtime(self._logger)  # must outlive the engine
        self._engine: Any = self._runtime.deserialize_cuda_engine(file.read_bytes())
        if self._engine is None:
            raise ValueError(
                f"{file}: {toolkit} {trt.__version__} refuses it; it was built by {sidecar.versions.get(sidecar.kind)}"
            )
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise ValueError(f"{file}: {toolkit} has not enough GPU memory for it")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        is_input = [self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names]
        (self._input,) = [name for name, first in zip(names, is_input, strict=True) if first]
        self._outputs = [name for name, first in zip(names, is_input, strict=True) if not first]
        self._stream = torch.cuda.Stream(device)
        self._buffers = {name: self._buffer(trt, name, device) for name in names}
        for name, buffer in self._buffers.items():
            self._context.set_tensor_address(name, buffer.data_ptr())
        self.name = f"tensorrt ({toolkit} {trt.__version__}, {sidecar.precision}, {file.name})"

    def run(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The engine's outputs for a batch; a larger one than it was built for is run in pieces.

        Raises:
            ValueError: the inputs are of another shape than it was built for.
        """
        check_inputs(self._sidecar, inputs)
        pieces = [self._run_piece(piece) for piece in inputs.split(self._max_batch)]
        return pieces[0] if len(pieces) == 1 else tuple(torch.cat(values) for values in zip(*pieces, strict=True))

    def _run_piece(self, inputs: Tensor) -> tuple[Tensor, ...]:
        count = inputs.shape[0]
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._buffers[self._input][:count].copy_(inputs, non_blocking=True)
            self._context.set_input_shape(self._input, tuple(inputs.shape))
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise RuntimeError(f"{self.name}: the engine failed")
        current.wait_stream(self._stream)
        # copies: the next call writes into the same buffers
        return tuple(self._buffers[name][:count].to(self._dtype, copy=True) for name in self._outputs)

    def _buffer(self, trt: Any, name: str, device: torch.device) -> Tensor:
        kinds = {trt.DataType.UINT8: torch.uint8, trt.DataType.FLOAT: torch.float32}
        shape = tuple(self._engine.get_tensor_shape(name))[1:]  # the batch is dynamic, all else is fixed
        return torch.empty(self._max_batch, *shape, dtype=kinds[self._engine.get_tensor_dtype(name)], device=device)
