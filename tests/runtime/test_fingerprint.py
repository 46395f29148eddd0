"""Fingerprints tie an exported encoder to its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.golden.models import FOLDER, random_model
from vispeak_node.model.checkpoint import save_checkpoint
from vispeak_node.runtime.fingerprint import weights_sha256


def test_a_fingerprint_is_of_one_encoder(tmp_path: Path) -> None:
    """It follows the encoder's weights and settings, not how files are cut, and not the language model."""
    folder = tmp_path / "model"
    save_checkpoint(random_model(), folder)
    shutil.copy(FOLDER / "tokenizer.json", folder)
    before = {part: weights_sha256(folder, part) for part in ("vision", "audio")}
    assert before["vision"] != before["audio"]

    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    save_file({name: state[name] for name in names[::2]}, folder / "b.safetensors")
    save_file({name: state[name] for name in names[1::2]}, folder / "a.safetensors")
    assert {part: weights_sha256(folder, part) for part in before} == before

    def after(name: str) -> dict[str, str]:
        changed = state | {name: state[name].clone()}
        changed[name].view(-1).view(torch.uint8)[0] ^= 1  # one bit
        save_file({key: changed[key] for key in names[::2]}, folder / "b.safetensors")
        save_file({key: changed[key] for key in names[1::2]}, folder / "a.safetensors")
        return {part: weights_sha256(folder, part) for part in before}

    assert after("lm_head.weight") == before
    found = after("model.mm_projector.0.weight")
    assert found["vision"] != before["vision"] and found["audio"] == before["audio"]
    raw = json.loads((folder / "config.json").read_text()) | {"pooling_size": 2}
    after("lm_head.weight")
    (folder / "config.json").write_text(json.dumps(raw))
    assert weights_sha256(folder, "vision") != before["vision"]
    assert weights_sha256(folder, "audio") == before["audio"]
