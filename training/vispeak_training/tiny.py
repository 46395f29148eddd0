"""The small checkpoint's architecture and tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vispeak_node.model.config import AudioConfig, LanguageConfig, ModelConfig, VisionConfig
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_training.tiny_config import TinyConfig


def tiny_model_config(vocab_size: int, config: TinyConfig) -> ModelConfig:
    """The architecture of the small checkpoint before its stages, which add the heads."""
    return ModelConfig(
        vision=VisionConfig(
            hidden_size=144,
            num_layers=4,
            num_heads=4,
            intermediate_size=432,
            image_size=config.image_size,
            patch_size=config.patch_size,
        ),
        audio=AudioConfig(hidden_size=64, num_layers=2, num_heads=4, intermediate_size=128),
        language=LanguageConfig(
            vocab_size=vocab_size,
            hidden_size=192,
            intermediate_size=512,
            num_layers=4,
            num_heads=6,
            num_kv_heads=2,
            rope_theta=1e4,
            max_positions=768,  # the longest training streams have 40 frames; beyond what it has seen it goes blind
        ),
        pooling_size=1,
        informative_head=False,
    )


def build_model(vocab_size: int, config: TinyConfig) -> ViSpeakModel:
    """A fresh model; its audio normalisation is that of speech-like features."""
    torch.manual_seed(config.seed)
    model = ViSpeakModel(tiny_model_config(vocab_size, config))
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.04)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
    cmvn = model.model.audio_encoder.encoder.global_cmvn
    cmvn.mean.fill_(12.0)
    cmvn.istd.fill_(0.3)
    return model


def write_tokenizer(folder: Path) -> Vocabulary:
    """Trains the small tokenizer into a folder and reads it back."""
    from vispeak_training.tokenizer import train_tokenizer  # noqa: PLC0415 - keeps inference free of trainers

    folder.mkdir(parents=True, exist_ok=True)
    train_tokenizer().save(str(folder / "tokenizer.json"))
    return Vocabulary.from_folder(folder)
