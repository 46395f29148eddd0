"""From a checkpoint folder to a session."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.backends import Backends, choose_backends
from vispeak_node.runtime.batcher import Batcher
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.quantise import quantise
from vispeak_node.runtime.session import Session

logger = logging.getLogger(__name__)


def load_session(
    folder: str | Path,
    config: SessionConfig | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    weights: str = "",
) -> Session:
    """A session on a checkpoint folder.

    The arguments, and the ValueError for what cannot run, are those of `load_sessions`.
    """
    return load_sessions(folder, config, device, dtype, weights)[0]


def load_sessions(
    folder: str | Path,
    config: SessionConfig | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    weights: str = "",
    count: int = 1,
    batched: bool = True,
) -> list[Session]:
    """Sessions on a checkpoint folder, each for a thread of its own; they share the weights.

    Args:
        folder: the checkpoint.
        config: of the sessions.
        device: cpu, cuda, cuda:1, ...
        dtype: of the weights; None is float32 on the CPU and bfloat16 elsewhere.
        weights: int8, int4 or fp8 packs them after loading, see `quantise`; empty leaves them as they are.
        count: of sessions.
        batched: see `open_sessions`.

    Raises:
        ValueError: the folder is no checkpoint that could run, or the config or weights ask for what cannot be done.
    """
    model = load_model(folder, device, dtype)
    for line in quantise(model, weights).lines():
        logger.info("%s", line)
    return open_sessions(model, Vocabulary.from_folder(Path(folder)), folder, config, count, batched)


def open_sessions(
    model: ViSpeakModel,
    vocabulary: Vocabulary,
    folder: str | Path,
    config: SessionConfig | None = None,
    count: int = 1,
    batched: bool = True,
) -> list[Session]:
    """Sessions on weights that are loaded, each for a thread of its own.

    Args:
        model: of all of them.
        vocabulary: of the model.
        folder: the checkpoint, which exported encoders must have been made from.
        config: of the sessions.
        count: of sessions.
        batched: what several ask for at the same time runs as one batch, by encoders that they share; otherwise each
            has encoders of its own where these are not the weights', and nothing to do with the others.

    Raises:
        ValueError: the config asks for what the model or this machine cannot do.
    """
    config = config or SessionConfig()

    def encoders() -> Backends:
        wanted = config.vision_backend, config.audio_backend
        return choose_backends(model, folder, config.engines, *wanted, config.graphs)

    if count == 1 or not batched:
        return [Session(model, vocabulary, config, encoders()) for _ in range(count)]
    shared, driver = encoders(), Batcher(model)
    return [Session(model, vocabulary, config, shared, driver) for _ in range(count)]
