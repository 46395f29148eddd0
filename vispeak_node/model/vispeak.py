"""The whole model: two encoders, the gate that sums two token streams, Qwen2, and the two heads.

One definition for running, training and export; parameter names are the released checkpoint's own.
Shape legend: B batch, T positions, D hidden of the language model, N tokens of one image or one second of sound.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vispeak_node.model.audio import AudioEncoder
from vispeak_node.model.config import ModelConfig
from vispeak_node.model.language import KeyValueCache, Layer, RMSNorm, rotary_angles
from vispeak_node.model.vision import VisionTower, build_projector, pool


class Backbone(nn.Module):
    """What the checkpoint keeps under `model.`: everything but the two heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.language.hidden_size
        self.embed_tokens = nn.Embedding(config.language.vocab_size, hidden)
        self.layers = nn.ModuleList(Layer(config.language) for _ in range(config.language.num_layers))
        self.norm = RMSNorm(hidden, config.language.rms_norm_eps)
        self.vision_tower = VisionTower(config.vision)
        self.mm_projector = build_projector(config.vision.feature_size, hidden)
        self.audio_encoder = AudioEncoder(config.audio, hidden)
        self.combination = build_combination(config.combination, hidden)


class ViSpeakModel(nn.Module):
    """ViSpeak (arXiv 2503.12769): VITA-1.5 with a second token stream and a head that decides when to speak."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.language.hidden_size
        self.model = Backbone(config)
        self.lm_head = nn.Linear(hidden, config.language.vocab_size, bias=False)
        self.informative_head: nn.Sequential | None = None
        if config.informative_head:
            self.informative_head = nn.Sequential(
                nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Linear(hidden // 2, 1, bias=False)
            )
        # ours, not the published model's: what kind of event a moment shows
        self.event_head = nn.Linear(hidden, len(config.event_labels)) if config.event_labels else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return self.lm_head.weight.dtype

    def encode_images(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels [B, 3, S, S] to embeddings [B, N, D], N = config.tokens_per_image."""
        features = self.model.vision_tower(pixels_BCHW)
        return self.model.mm_projector(pool(features, self.config.pooling_size))

    def encode_sound(self, fbank_BTM: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Mel features [B, frames, 80] to embeddings [B, N, D]; one second is 98 frames and 12 embeddings."""
        embeds_BND, _ = self.model.audio_encoder(fbank_BTM, lengths_B)
        return embeds_BND

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [..., T] to embeddings [..., T, D]."""
        return self.model.embed_tokens(ids)

    def combine(self, agent_BTD: Tensor, user_BTD: Tensor) -> Tensor:
        """Two streams into one, agent first as in training: sigmoid(s) * agent + (1 - sigmoid(s)) * user.

        The published prefill calls its gate with the streams swapped; swap the arguments to reproduce it.
        """
        kind = self.config.combination
        if kind == "add":
            return (agent_BTD + user_BTD) / 2
        assert self.model.combination is not None, "only `add` has no layers"
        both_BTD = self.model.combination(torch.cat([agent_BTD, user_BTD], dim=-1))
        if kind == "linear_combine":
            return both_BTD
        weight = both_BTD.sigmoid()
        return agent_BTD * weight + user_BTD * (1 - weight)

    def forward_embeds(
        self, embeds_BTD: Tensor, start: int = 0, cache: KeyValueCache | None = None, wanted: int | None = None
    ) -> Tensor:
        """Combined embeddings at positions start.. to final-norm hidden states, [B, T, D] both.

        Without a cache the call is causal within itself, and right-padded batches need no mask.

        Args:
            embeds_BTD: from `combine`.
            start: position of the first of them.
            cache: holds the positions before, and takes these.
            wanted: only so many of the last positions are needed: the last layer computes no more, and [B, wanted, D]
                comes back.
        """
        angles = rotary_angles(self.config.language, start, embeds_BTD.shape[1], embeds_BTD)
        hidden_BTD = embeds_BTD
        last = len(self.model.layers) - 1
        for index, layer in enumerate(self.model.layers):
            hidden_BTD = layer(hidden_BTD, angles, cache, index, wanted if index == last else None)
        return self.model.norm(hidden_BTD)

    def informative(self, hidden: Tensor) -> Tensor:
        """How much each position calls for words: logits [..., T] from hidden states [..., T, D].

        Raises:
            ValueError: this checkpoint has no informative head.
        """
        if self.informative_head is None:
            raise ValueError("this checkpoint has no informative head and cannot decide by itself when to speak")
        return self.informative_head(hidden).squeeze(-1)

    def events(self, hidden: Tensor) -> Tensor:
        """Which event each position shows: logits [..., K] over config.event_labels from hidden states [..., T, D].

        Raises:
            ValueError: this checkpoint has no event head.
        """
        if self.event_head is None:
            raise ValueError("this checkpoint has no event head and cannot tell kinds of events apart")
        return self.event_head(hidden)


def build_combination(kind: str, hidden: int) -> nn.Module | None:
    """The gate's layers: input columns 0..D-1 are the agent's, the rest the user's."""
    if kind == "adaptive_combine":
        return nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    if kind == "linear_combine":
        return nn.Linear(2 * hidden, hidden, bias=False)
    return None
