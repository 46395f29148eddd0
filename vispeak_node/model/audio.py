"""The VITA-1.5 audio encoder and its adapter: mel features to a second of sound's rows of the user stream.

Attribute names are the checkpoint's own, `adpter` and the numbered containers included.
Shape legend: B batch, T frames, M mel bins, N frames after subsampling, D width, H heads, E head width.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from vispeak_node.model.config import AudioConfig


class Normalisation(nn.Module):
    """Global mean and variance of the features."""

    mean: Tensor
    istd: Tensor

    def __init__(self, num_mel_bins: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_mel_bins))
        self.register_buffer("istd", torch.ones(num_mel_bins))

    def forward(self, fbank_BTM: Tensor) -> Tensor:
        return (fbank_BTM - self.mean) * self.istd


class Convolutions(nn.Module):
    """Two strided convolutions over time and frequency: a quarter of the frames."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        width = config.hidden_size
        bins = ((config.num_mel_bins - 1) // 2 - 1) // 2
        self.conv = nn.Sequential(nn.Conv2d(1, width, 3, 2), nn.ReLU(), nn.Conv2d(width, width, 3, 2), nn.ReLU())
        self.out = nn.Sequential(nn.Linear(width * bins, width))

    def forward(self, fbank_BTM: Tensor) -> Tensor:
        maps_BDNM = self.conv(fbank_BTM[:, None])
        return self.out(maps_BDNM.transpose(1, 2).flatten(2))


class Subsampling(nn.Module):
    """Holds the convolutions under the name that the checkpoint gives them."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.core = Convolutions(config)

    def forward(self, fbank_BTM: Tensor) -> Tensor:
        return self.core(fbank_BTM)


class RelativeAttention(nn.Module):
    """Attention with learned content and position biases; the published model applies no relative shift."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        width, self.num_heads = config.hidden_size, config.num_heads
        self.head_dim = width // config.num_heads
        self.pos_bias_u = nn.Parameter(torch.zeros(config.num_heads, self.head_dim))
        self.pos_bias_v = nn.Parameter(torch.zeros(config.num_heads, self.head_dim))
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)

    def forward(self, x_BND: Tensor, positions_1ND: Tensor, mask_BNN: Tensor) -> Tensor:
        B, N, D = x_BND.shape
        query_BNHE = self.linear_q(x_BND).view(B, N, self.num_heads, self.head_dim)
        key_BHNE = self._heads(self.linear_k(x_BND))
        value_BHNE = self._heads(self.linear_v(x_BND))
        position_1HNE = self._heads(self.linear_pos(positions_1ND))
        content = (query_BNHE + self.pos_bias_u).transpose(1, 2) @ key_BHNE.transpose(-2, -1)
        place = (query_BNHE + self.pos_bias_v).transpose(1, 2) @ position_1HNE.transpose(-2, -1)
        scores_BHNN = (content + place) / math.sqrt(self.head_dim)
        hidden_BHNN = ~mask_BNN[:, None]
        weights_BHNN = scores_BHNN.masked_fill(hidden_BHNN, -torch.inf).softmax(-1).masked_fill(hidden_BHNN, 0.0)
        return self.linear_out((weights_BHNN @ value_BHNE).transpose(1, 2).reshape(B, N, D))

    def _heads(self, x_BND: Tensor) -> Tensor:
        return x_BND.view(x_BND.shape[0], -1, self.num_heads, self.head_dim).transpose(1, 2)


class FeedForward(nn.Module):
    """Two layers with ReLU."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.w_1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.w_2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(functional.relu(self.w_1(x)))


class Layer(nn.Module):
    """One pre-norm layer."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.self_attn = RelativeAttention(config)
        self.feed_forward = FeedForward(config)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x_BND: Tensor, positions_1ND: Tensor, mask_BNN: Tensor) -> Tensor:
        x_BND = x_BND + self.self_attn(self.norm1(x_BND), positions_1ND, mask_BNN)
        return x_BND + self.feed_forward(self.norm2(x_BND))


class Transformer(nn.Module):
    """The stack, with the embedding before it and the norm after it."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.embed = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width, eps=config.layer_norm_eps), nn.ReLU())
        self.encoders = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.after_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, x_BND: Tensor, mask_BN: Tensor) -> Tensor:
        N, D = x_BND.shape[1:]
        mask_BNN = mask_BN[:, None] & chunk_mask(N, self.config.chunk_size, self.config.left_chunks, x_BND.device)
        positions_1ND = sinusoids(N, D, x_BND.device).to(x_BND.dtype)[None]
        x_BND = self.embed(x_BND) * math.sqrt(D)
        for layer in self.encoders:
            x_BND = layer(x_BND, positions_1ND, mask_BNN)
        return self.after_norm(x_BND)


class Encoder(nn.Module):
    """Features to frames; `enc` is numbered because the checkpoint numbers it."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.global_cmvn = Normalisation(config.num_mel_bins)
        self.enc = nn.ModuleList([Subsampling(config), Transformer(config)])

    def forward(self, fbank_BTM: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        frames_BND = self.enc[0](self.global_cmvn(fbank_BTM))
        mask_BN = mask_BT[:, 2::2][:, 2::2]
        return self.enc[1](frames_BND, mask_BN), mask_BN


class Adapter(nn.Module):
    """Half the frames, at the language model's width."""

    def __init__(self, config: AudioConfig, hidden_size: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.kernel_size = config.adapter_kernel_size
        self.conv1d2 = nn.Conv1d(width, 2 * width, self.kernel_size, 2)
        self.bn2 = nn.LayerNorm(2 * width, eps=config.adapter_norm_eps)
        self.project = nn.Linear(2 * width, hidden_size)

    def forward(self, frames_BND: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor]:
        silent_BND = frames_BND.masked_fill(~mask_BN[..., None], 0.0)
        padded_BDN = functional.pad(silent_BND.transpose(1, 2), (0, self.kernel_size - 1))
        half_BND = functional.gelu(self.bn2(self.conv1d2(padded_BDN).transpose(1, 2)))
        return self.project(half_BND), mask_BN[:, 0::2]


class AudioEncoder(nn.Module):
    """The whole path from mel features to embeddings."""

    def __init__(self, config: AudioConfig, hidden_size: int) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.adpter = Adapter(config, hidden_size)

    def forward(self, fbank_BTM: Tensor, lengths_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mel features to embeddings.

        Args:
            fbank_BTM: [B, frames, mel bins], at least 7 frames.
            lengths_B: valid frames of each row; all by default.

        Returns:
            Embeddings [B, tokens, D] and which of them are valid, [B, tokens].
        """
        B, T, _ = fbank_BTM.shape
        steps_T = torch.arange(T, device=fbank_BTM.device)
        lengths = torch.full((B,), T, device=fbank_BTM.device) if lengths_B is None else lengths_B
        frames_BND, mask_BN = self.encoder(fbank_BTM, steps_T < lengths[:, None])
        return self.adpter(frames_BND, mask_BN)


def num_tokens(frames: int) -> int:
    """Embeddings that so many mel frames become: 12 for the 98 frames of one second."""
    return len(range(frames)[2::2][2::2][0::2])


def chunk_mask(size: int, chunk_size: int, left_chunks: int, device: torch.device) -> Tensor:
    """Which frame may look at which, [N, N]: its own chunk and `left_chunks` before it; all if chunk_size is 0."""
    if chunk_size <= 0:
        return torch.ones(size, size, dtype=torch.bool, device=device)
    chunk_N = torch.arange(size, device=device) // chunk_size
    distance_NN = chunk_N[:, None] - chunk_N[None, :]
    seen_NN = distance_NN >= 0
    return seen_NN if left_chunks < 0 else seen_NN & (distance_NN <= left_chunks)


def sinusoids(count: int, width: int, device: torch.device) -> Tensor:
    """The sine and cosine table of absolute positions, float32 [count, width]; made where it is needed."""
    arange = partial(torch.arange, dtype=torch.float32, device=device)
    rates = torch.exp(arange(0, width, 2) * -(math.log(10000.0) / width))
    angles = arange(count)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]
