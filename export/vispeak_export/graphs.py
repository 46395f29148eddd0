"""The two encoders as modules of their own, as they are exported: plain inputs, plain outputs, one precision inside.

Shape legend: B batch, S pixels, C channels, T mel frames, M mel bins, N tokens, D hidden, F width before the projector.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vispeak_node.model.audio import AudioEncoder
from vispeak_node.model.checkpoint import inspect_checkpoint
from vispeak_node.model.config import ModelConfig
from vispeak_node.model.preprocess import IMAGE_MEAN, IMAGE_STD
from vispeak_node.model.vision import VisionTower, build_projector, pool
from vispeak_node.runtime.fingerprint import PREFIXES

# int8 and fp8 are of the linear layers only, see quantised_onnx.py: what is around them is float16
DTYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.float16,
    "fp8": torch.float16,
}
FRAMES_PER_SECOND = 98  # mel frames of one second of sound


class WideConvolution(nn.Module):
    """A convolution in float32 among bfloat16 layers: ONNX before opset 22 has none in bfloat16."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x.float()).to(x.dtype)


class NarrowAfter(nn.Module):
    """A layer in float32 whose output has another type."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = layer.float()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float()).to(self.dtype)


class EncoderGraph(nn.Module):
    """What both graphs share: their names, their shapes and their precision."""

    part: str
    input_name: str
    output_names: tuple[str, ...]

    def __init__(self, input_shape: tuple[int, ...], input_dtype: torch.dtype) -> None:
        super().__init__()
        self.input_shape = input_shape  # without the batch
        self.input_dtype = input_dtype
        self.dtype = torch.float32

    def set_precision(self, precision: str) -> None:
        """Converts the layers; inputs and outputs keep their types."""
        self.dtype = DTYPES[precision]
        for child in self.children():
            child.to(self.dtype)
        if precision == "bf16":
            _widen_convolutions(self)


class VisionGraph(EncoderGraph):
    """uint8 frames to embeddings, and to the pooled features that the frames' memory keeps."""

    mean: Tensor
    std: Tensor
    part = "vision"
    input_name = "frames"
    output_names = ("embeddings", "features")

    def __init__(self, config: ModelConfig, tower: VisionTower, projector: nn.Sequential) -> None:
        side = config.vision.image_size
        super().__init__((side, side, 3), torch.uint8)
        self.vision_tower = tower
        self.mm_projector = projector
        self._pooling_size = config.pooling_size
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD), persistent=False)

    def forward(self, frames_BSSC: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B, S, S, C] to float32 embeddings [B, N, D] and features [B, N, F]."""
        pixels_BSSC = (frames_BSSC.float() * (1 / 255) - self.mean) / self.std
        pixels_BCSS = pixels_BSSC.permute(0, 3, 1, 2).to(self.dtype)
        features_BNF = pool(self.vision_tower(pixels_BCSS), self._pooling_size)
        return self.mm_projector(features_BNF).float(), features_BNF.float()


class AudioGraph(EncoderGraph):
    """One second of sound's mel features to embeddings."""

    part = "audio"
    input_name = "fbank"
    output_names = ("embeddings",)

    def __init__(self, config: ModelConfig, encoder: AudioEncoder) -> None:
        super().__init__((FRAMES_PER_SECOND, config.audio.num_mel_bins), torch.float32)
        self.audio_encoder = encoder

    def forward(self, fbank_BTM: Tensor) -> tuple[Tensor]:
        """float32 [B, T, M] to float32 [B, N, D]."""
        # torch 2.6's exporter makes floats of whole numbers whose type is not said
        lengths_B = torch.full((fbank_BTM.shape[0],), fbank_BTM.shape[1], dtype=torch.long, device=fbank_BTM.device)
        embeds_BND, _ = self.audio_encoder(fbank_BTM, lengths_B)
        return (embeds_BND.float(),)

    def set_precision(self, precision: str) -> None:
        """As `EncoderGraph.set_precision`; log energies are normalised before they are rounded."""
        super().set_precision(precision)
        encoder = self.audio_encoder.encoder
        encoder.global_cmvn = NarrowAfter(encoder.global_cmvn, self.dtype)  # type: ignore[assignment]


def build_graph(config: ModelConfig, part: str) -> EncoderGraph:
    """An encoder with random weights, on the default device."""
    hidden = config.language.hidden_size
    if part == "audio":
        return AudioGraph(config, AudioEncoder(config.audio, hidden)).eval().requires_grad_(False)
    projector = build_projector(config.vision.feature_size, hidden)
    return VisionGraph(config, VisionTower(config.vision), projector).eval().requires_grad_(False)


def load_graph(folder: str | Path, part: str) -> EncoderGraph:
    """A checkpoint's encoder in float32 on the CPU, without reading the language model.

    Raises:
        ValueError: the folder is no checkpoint, or lacks tensors of this encoder.
    """
    report = inspect_checkpoint(folder)
    wrong = (*report.missing, *(name for name, _, _ in report.misshapen))
    first = next((name for name in wrong if name.startswith(PREFIXES[part])), None)
    if first:
        raise ValueError(f"{folder}: {first} is missing or misshapen; see `vispeak checkpoint {folder}`")
    graph = build_graph(report.config, part)
    for name in graph.state_dict():
        source = report.sources["model." + name]
        try:
            with safe_open(source.file, framework="pt", device="cpu") as shard:
                tensor = shard.get_tensor(source.name).float()
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{source.file}: damaged or truncated: {error}") from error
        graph.load_state_dict({name: tensor}, strict=False, assign=True)
    return graph.requires_grad_(False)


def _widen_convolutions(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Conv1d | nn.Conv2d):
            setattr(module, name, WideConvolution(child))
        else:
            _widen_convolutions(child)
