"""From a checkpoint folder to a session."""

from __future__ import annotations

from pathlib import Path

import torch

from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.backends import choose_backends
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.session import Session


def load_session(
    folder: str | Path,
    config: SessionConfig | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> Session:
    """A session on a checkpoint folder.

    Raises:
        ValueError: the folder is no checkpoint that could run, or the config asks for what it cannot do.
    """
    return open_session(load_model(folder, device, dtype), Vocabulary.from_folder(Path(folder)), folder, config)


def open_session(
    model: ViSpeakModel, vocabulary: Vocabulary, folder: str | Path, config: SessionConfig | None = None
) -> Session:
    """A session on weights that are loaded, with encoders of its own where these are not the weights'.

    Args:
        model: may be shared by sessions in different threads.
        vocabulary: of the model.
        folder: the checkpoint, which exported encoders must have been made from.
        config: of the session.

    Raises:
        ValueError: the config asks for what the model or this machine cannot do.
    """
    config = config or SessionConfig()
    backends = choose_backends(model, folder, config.engines, config.vision_backend, config.audio_backend)
    return Session(model, vocabulary, config, backends)
