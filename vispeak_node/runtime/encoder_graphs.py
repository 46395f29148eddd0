"""The torch encoders with inputs that stay where they are: one frame, one second of sound, replayed as a CUDA graph.

An encoder of 24 layers takes several hundred launches, which cost the host longer than the GPU. Batches, and sound of
another length, run as they come.
"""

from __future__ import annotations

import logging
import threading

import numpy as np
import torch
from torch import Tensor

from vispeak_node.model.fbank import SAMPLE_RATE, fbank
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.capture import capture, opening
from vispeak_node.runtime.torch_backend import TorchAudio, TorchVision
from vispeak_node.runtime.transfer import fill

logger = logging.getLogger(__name__)


class StaticEncoder:
    """A torch back end over an input that stays where it is; implements `backends.Backend`.

    Several threads may use it, such as a session's and the one that encodes ahead for another.

    Args:
        backend: runs it, and every other shape.
        inputs: of the usual shape, on the device; taken over.
    """

    def __init__(self, backend: TorchVision | TorchAudio, inputs: Tensor) -> None:
        self.name = backend.name
        self._backend, self._inputs = backend, inputs
        self._turn = threading.Lock()
        self._done: torch.cuda.Event | None = None  # when the device has copied the last results

    def run(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """See `backends.Backend`."""
        if inputs.shape != self._inputs.shape:
            return self._backend.run(inputs)
        with self._turn, torch.inference_mode():
            if self._done is not None:
                torch.cuda.current_stream(self._inputs.device).wait_event(self._done)
            fill(self._inputs, inputs)
            # copies: the next run writes its results to the same places
            outputs = tuple(output.clone() for output in self._compute())
            if self._inputs.is_cuda:
                self._done = torch.cuda.current_stream(self._inputs.device).record_event()
        return outputs

    def _compute(self) -> tuple[Tensor, ...]:
        return self._backend.run(self._inputs)


class GraphedEncoder(StaticEncoder):
    """The same, captured once and replayed.

    Raises:
        RuntimeError: something in the encoder cannot be captured.
    """

    def __init__(self, backend: TorchVision | TorchAudio, inputs: Tensor) -> None:
        super().__init__(backend, inputs)
        self.name = f"{backend.name}, CUDA graph"
        with torch.cuda.device(inputs.device):
            pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
        self._graph, self._outputs = capture(super()._compute, inputs.device, pool, stream)

    def _compute(self) -> tuple[Tensor, ...]:
        self._graph.replay()
        return self._outputs


def torch_encoder(model: ViSpeakModel, part: str, graphs: str) -> TorchVision | TorchAudio | StaticEncoder:
    """The model's own encoder, by static inputs where these are wanted.

    Args:
        model: from `load_model`.
        part: vision or audio.
        graphs: as for `graphs.static_passes`: auto (graphs on a GPU), static (not captured) or never.
    """
    backend = TorchVision(model) if part == "vision" else TorchAudio(model)
    if graphs == "never" or (graphs == "auto" and model.device.type != "cuda"):
        return backend
    inputs = _frame(model) if part == "vision" else _second(model)
    with torch.inference_mode(), opening:
        if graphs == "static":
            return StaticEncoder(backend, inputs)
        try:
            return GraphedEncoder(backend, inputs)
        except RuntimeError as error:
            logger.warning("no CUDA graph of the %s encoder, it runs plainly: %s", part, str(error).splitlines()[0])
            return backend


def _frame(model: ViSpeakModel) -> Tensor:
    size = model.config.vision.image_size
    return torch.zeros(1, size, size, 3, dtype=torch.uint8, device=model.device)


def _second(model: ViSpeakModel) -> Tensor:
    shape = fbank(np.zeros(SAMPLE_RATE, np.float32), model.config.audio).shape
    return torch.zeros(1, *shape, device=model.device)
