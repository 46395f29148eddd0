"""What a stage trained, folded into a checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.config import ModelConfig

pytest.importorskip("peft")
pytest.importorskip("accelerate")

from tests.training.stage_worker import LABELS, MadeUp, made_up, rewrite, settings
from vispeak_training.cli import main
from vispeak_training.stages.artefact import read_artefact
from vispeak_training.stages.base import attach_adapters, build_stage_model, load_base
from vispeak_training.stages.batch import Collator
from vispeak_training.stages.learner import Learner
from vispeak_training.stages.merge import merge
from vispeak_training.stages.run import run_stage

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "training/configs"
PAD = 151643


def test_the_merged_checkpoint_computes_what_the_adapters_computed(base, finished, tmp_path):
    assert main(["merge", str(finished / "final"), "--base", str(base), "--out", str(tmp_path / "merged")]) == 0
    merged = load_model(tmp_path / "merged")
    raw = json.loads((tmp_path / "merged/config.json").read_text())
    assert raw["use_informative_head"] is True and raw["event_labels"] == list(LABELS)
    assert merged.config == ModelConfig.from_dict(raw) and (tmp_path / "merged/tokenizer.json").is_file()
    config = settings(base, finished)
    adapted = load_base(base, merged.config)
    attach_adapters(adapted, config.lora)
    read_artefact(finished / "final", adapted)
    batch = Collator(merged.config, 0, 6200)([made_up(4, 0), made_up(5, 0)])
    hidden = []
    for model in (merged, adapted.eval()):
        learner = Learner(model).eval()
        terms = learner(batch)
        user = model.embed(batch["user"])
        states = model.forward_embeds(model.combine(model.embed(batch["agent"]), user))
        hidden.append((states, model.informative(states), model.events(states), terms["loss"]))
    for ours, theirs in zip(*hidden, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    plain = load_base(base, merged.config)
    read_only = plain.forward_embeds(plain.combine(plain.embed(batch["agent"]), plain.embed(batch["user"])))
    assert (hidden[0][0] - read_only).abs().max() > 1e-3  # else nothing was learned, and nothing shown


def test_the_adapter_is_peft_s_own_format(base, finished):
    from peft import PeftModel

    config = settings(base, finished)
    ours = load_base(base, build_stage_model(config).config)
    attach_adapters(ours, config.lora)
    read_artefact(finished / "final", ours)
    theirs = PeftModel.from_pretrained(load_base(base, ours.config), str(finished / "final"))
    ids = torch.arange(20)[None]
    embeds = ours.combine(ours.embed(ids), ours.embed(ids + 1)).detach()
    # the gate is no adapter: both read the same embeddings
    torch.testing.assert_close(
        theirs.base_model.model.forward_embeds(embeds), ours.eval().forward_embeds(embeds), atol=1e-6, rtol=1e-5
    )


def test_merging_refuses_what_does_not_fit(base, finished, tmp_path, capsys):
    assert main(["merge", str(tmp_path), "--base", str(base), "--out", str(tmp_path / "x")]) == 2
    assert "not the result of a stage" in capsys.readouterr().err
    shutil.copytree(finished / "final", tmp_path / "torn")
    with (tmp_path / "torn/non_lora_trainables.safetensors").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match="damaged or truncated"):
        merge(tmp_path / "torn", base, tmp_path / "x")
    shutil.copytree(finished / "final", tmp_path / "part")
    rewrite(tmp_path / "part/non_lora_trainables.safetensors", lambda tensors: tensors.pop("event_head.weight"))
    with pytest.raises(ValueError, match="does not belong"):
        merge(tmp_path / "part", base, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_every_checkpoint_of_a_run_can_be_merged_and_stages_chain(base, finished, tmp_path):
    merge(finished / "checkpoint-3", base, tmp_path / "next")
    config = settings(tmp_path / "next", tmp_path / "run", max_steps=1)
    final = run_stage(config, MadeUp(base, 4))
    merge(final, tmp_path / "next", tmp_path / "last", dtype="float16")
    assert load_model(tmp_path / "last", dtype=torch.float16).dtype == torch.float16
