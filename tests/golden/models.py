"""Small models for tests: the recorded one, and one with random weights that is cheap to run."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from tests.golden import recipe
from vispeak_node.model.config import AudioConfig, LanguageConfig, ModelConfig, VisionConfig
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel

FOLDER = Path(__file__).parent


@functools.cache
def recorded_model(combination="adaptive_combine", pooling_size=2, chunk_size=0, left_chunks=-1):
    """The tiny model of the recorded runs; shared between tests, so do not change it."""
    config = ModelConfig(
        VisionConfig(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64),
        AudioConfig(
            hidden_size=32,
            num_layers=2,
            num_heads=2,
            intermediate_size=64,
            chunk_size=chunk_size,
            left_chunks=left_chunks,
        ),
        LanguageConfig(
            vocab_size=151665, hidden_size=64, intermediate_size=128, num_layers=2, num_heads=4, num_kv_heads=2
        ),
        combination,
        pooling_size,
    )
    with torch.device("meta"):
        model = ViSpeakModel(config)
    state = {name: torch.from_numpy(recipe.tensor(name, tuple(t.shape))) for name, t in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


@functools.cache
def vocabulary():
    """Qwen2.5's tokenizer, cut down to the pieces that the tests' texts need; ids are the real ones."""
    return Vocabulary.from_folder(FOLDER)


def random_model(seed=0, image_size=56, combination="adaptive_combine"):
    """A fresh model over the whole vocabulary's ids with random weights, a few milliseconds a step."""
    torch.manual_seed(seed)
    config = ModelConfig(
        VisionConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32, image_size=image_size),
        AudioConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32),
        LanguageConfig(
            vocab_size=151665, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4, num_kv_heads=2
        ),
        combination,
        pooling_size=1,
    )
    return ViSpeakModel(config).eval().requires_grad_(False)
