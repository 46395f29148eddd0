"""The stages: the recorded loss through the wrapper, what learns in each, and the published numbers."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden import recipe
from tests.golden.models import FOLDER, recorded_model
from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.preprocess import normalise

pytest.importorskip("peft")
pytest.importorskip("accelerate")

from tests.training.stage_worker import LABELS, MadeUp, made_up, rewrite, settings, write_base
from vispeak_training.cli import main
from vispeak_training.data.sample import IGNORE, VIDEO_AUDIO, Sample
from vispeak_training.stages.base import build_stage_model
from vispeak_training.stages.batch import Collator
from vispeak_training.stages.config import read_stage, stage_from_dict, stage_to_dict
from vispeak_training.stages.learner import Learner, normalised
from vispeak_training.stages.merge import merge
from vispeak_training.stages.parts import PARTS
from vispeak_training.stages.run import run_stage
from vispeak_training.stages.throughput import Cost
from vispeak_training.stages.trainer import parameter_groups

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "training/configs"
PAD = 151643


# the loss


@pytest.mark.parametrize("checkpointing", [False, True])
def test_recorded_losses_and_gradients_through_the_wrapper(checkpointing):
    with np.load(FOLDER / "loss.npz") as data:
        golden = dict(data)
    model = copy.deepcopy(recorded_model()).requires_grad_(True)
    empty = np.full(golden["user_ids"].shape[1], IGNORE)
    sample = Sample(
        golden["user_ids"][0],
        golden["agent_ids"][0],
        golden["labels"][0],
        golden["informative_labels"][0],
        empty,
        np.stack([recipe.image(int(k), 448, 448) for k in golden["frames"]]),
        np.zeros((2, 16_000), np.float32),
        "recorded",
    )
    assert (sample.user == VIDEO_AUDIO).sum() == 24
    batch = Collator(model.config, PAD, 6200)([sample])
    batch["fbank"] = torch.from_numpy(golden["video_audio_fbank"])
    terms = Learner(model, gradient_checkpointing=checkpointing)(batch)
    assert float(terms["text"]) == pytest.approx(float(golden["ce"]), abs=1e-4)
    assert float(terms["focal"]) == pytest.approx(float(golden["focal"]), abs=1e-4)
    assert float(terms["loss"].detach()) == pytest.approx(float(golden["loss"]), abs=1e-4)
    terms["loss"].backward()
    parameters = dict(model.named_parameters())
    names = [key.removeprefix("grad/") for key in golden if key.startswith("grad/")]
    assert len(names) == 9
    for name in names:
        np.testing.assert_allclose(parameters[name].grad, golden[f"grad/{name}"], atol=1e-4, err_msg=name)


def learner_of(base, **changes):
    config = settings(base, base.parent / "unused", **changes)
    torch.manual_seed(0)
    model = build_stage_model(config)
    return Learner(model, config.focal_weight, config.event_weight), config


def test_a_batch_is_the_mean_over_labels_whatever_the_padding(base):
    learner, _ = learner_of(base)
    learner.eval()
    collate = Collator(learner.core.config, 0, 6200)
    samples = [made_up(1, 0, 30), made_up(2, 0, 55, images=2, seconds=2)]
    one, two, both = (learner(collate(chosen)) for chosen in (samples[:1], samples[1:], samples))
    # every sample has as many targets and labels, so the mean over both is the mean of the two
    for term in ("text", "focal", "events"):
        assert float(both[term]) == pytest.approx((float(one[term]) + float(two[term])) / 2, abs=1e-5)
    whole = float(both["text"] + both["focal"] + 0.5 * both["events"])
    assert float(both["loss"].detach()) == pytest.approx(whole, abs=1e-6)


def test_a_cut_sample_is_the_sample_without_what_lies_behind(base):
    learner, _ = learner_of(base)
    learner.eval()
    whole = made_up(3, 0, 40, images=2, seconds=1)
    whole.targets[3:6] = whole.agent[3:6] = [1, 2, 3]
    cut = 6  # inside the second image
    kept = {name: getattr(whole, name)[:cut] for name in ("user", "agent", "targets", "informative", "events")}
    batch = Collator(learner.core.config, 0, cut)([whole])
    assert batch["user"].shape == (1, cut) and len(batch["images"]) == 2 and batch["image_rows"].tolist() == [*range(6)]
    by_cutting = learner(batch)
    # the next sample's picture begins behind both of the first's, of which the second is half used
    two = Collator(learner.core.config, 0, cut)([whole, made_up(4, 0, images=1, seconds=0)])
    assert two["image_rows"].tolist() == [*range(6), 8, 9, 10, 11] and len(two["images"]) == 3
    kept["user"] = np.where(np.arange(cut) < 6, -200, 0)
    user, pixels = learner.core.embed(torch.zeros(1, cut, dtype=torch.long)), normalised(batch["images"])
    user = learner.core.encode_images(pixels).flatten(0, 1)[None, :cut] + 0 * user
    hidden = learner.core.forward_embeds(learner.core.combine(learner.core.embed(batch["agent"]), user))
    wanted = torch.nn.functional.cross_entropy(learner.core.lm_head(hidden[0, 2:5]), torch.tensor([1, 2, 3]))
    assert float(by_cutting["text"]) == pytest.approx(float(wanted.detach()), abs=1e-5)


def test_pixels_are_the_runtimes():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    torch.testing.assert_close(normalised(torch.from_numpy(image)[None])[0], normalise(image), atol=1e-6, rtol=0)


def test_bad_samples_are_dropped_and_counted(base, caplog):
    learner, _ = learner_of(base)
    collate = Collator(learner.core.config, 0, 6200)
    good = made_up(1, 0)
    faults = {
        "image": dataclasses.replace(good, images=good.images[:0]),
        "seconds": dataclasses.replace(good, sounds=np.concatenate([good.sounds, good.sounds])),
        "lengths": dataclasses.replace(good, agent=good.agent[:-1]),
        "beyond": dataclasses.replace(good, agent=good.agent + 10**6),
        "class": dataclasses.replace(good, events=np.full(len(good.events), len(LABELS))),
    }
    for word, sample in faults.items():
        assert word in str(collate.problem(sample))
    batch = collate([good, None, *faults.values()])
    assert batch["counts"].tolist() == [7, 6] and batch["user"].shape[0] == 1
    assert caplog.text.count("made up 1 cannot be used") == 5
    nothing = learner(collate([None, None]))
    assert float(nothing["loss"].detach()) == 0.0
    nothing["loss"].backward()
    lacking = [name for name, p in learner.named_parameters() if p.requires_grad and p.grad is None]
    assert not lacking  # else another process would wait for this one's gradient for ever


# what learns


@pytest.mark.parametrize("stage", ["stage1a", "stage1b", "stage2", "stage3"])
def test_what_learns_in_each_stage(stage, tmp_path):
    vita = stage.startswith("stage1")
    base = write_base(tmp_path / "base", head=not vita and stage != "stage2", combination=not vita)
    config = read_stage(CONFIGS / f"{stage}.yaml", {"base": str(base)})
    if stage != "stage3":
        assert not config.event_labels
    config = dataclasses.replace(config, pooling_size=1)
    model = build_stage_model(config)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    parts = {"stage1a": ["mm_projector", "audio_adapter", "combination"], "stage1b": ["mm_projector", "combination"]}
    wanted = parts.get(stage, ["mm_projector", "combination", "informative_head"])
    wanted = wanted + ["event_head"] * (stage == "stage3")
    prefixes = tuple(prefix for part in wanted for prefix in PARTS[part])
    linears = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    adapters = {name for name in learns if ".lora_" in name}
    assert {name for name, _ in model.named_parameters() if name.startswith(prefixes)} == learns - adapters
    assert (model.informative_head is None) == vita and (model.event_head is None) == (stage != "stage3")
    if stage == "stage1a":
        assert not adapters
    else:
        assert len(adapters) == 2 * len(linears) * len(model.model.layers)
        assert all(name.startswith("model.layers.") and name.split(".lora_")[0].endswith(linears) for name in adapters)
    groups = parameter_groups(Learner(model), config)
    rates = {id(p): group.get("lr", config.learning_rate) for group in groups for p in group["params"]}
    named = dict(model.named_parameters())
    assert len(rates) == len(learns) and sum(len(group["params"]) for group in groups) == len(learns)
    for name in learns:
        slow = stage != "stage1a" and "mm_projector" in name
        assert rates[id(named[name])] == (1e-5 if slow else config.learning_rate)


def test_the_yaml_files_hold_the_published_numbers():
    stages = {name: read_stage(CONFIGS / f"{name}.yaml") for name in ("stage1a", "stage1b", "stage2", "stage3")}
    columns = {
        "learning_rate": (5e-4, 1e-4, 1e-4, 1e-4),
        "projector_learning_rate": (None, 1e-5, 1e-5, 1e-5),
        "batch_size": (4, 2, 2, 2),
        "accumulation": (4, 4, 4, 4),
        "epochs": (1, 1, 1, 2),
        "save_steps": (500, 1000, 500, 500),
        "save_limit": (1, 20, 10, 10),
        "pooling_size": (1, 1, 2, 2),
        "weight_decay": (0, 0, 0, 0),
        "warmup_ratio": (0.03,) * 4,
        "max_gradient_norm": (1.0,) * 4,
        "max_length": (6200,) * 4,
        "seed": (42,) * 4,
        "gradient_checkpointing": (True,) * 4,
        "combination": ("adaptive_combine",) * 4,
    }
    for key, values in columns.items():
        assert tuple(getattr(stage, key) for stage in stages.values()) == values, key
    assert stages["stage1a"].lora is None
    for name in ("stage1b", "stage2", "stage3"):
        lora = stages[name].lora
        assert lora is not None and (lora.r, lora.alpha, lora.dropout) == (128, 256, 0.05)
    assert [stage.data_options["max_frames"] for stage in stages.values()] == [16, 16, 64, 64]
    assert [stage.data_options["min_frames"] for stage in stages.values()] == [4, 4, 4, 8]
    assert [stage.data_options["max_sounds"] for stage in stages.values()] == [6, 6, 2, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rat": 1}, "learning_rat: unknown"),
        ({"lora": {"rank": 3}}, "lora.rank: unknown"),
        ({"batch_size": 2.5}, "batch_size: 2.5 is not a whole number"),
        ({"epochs": True}, "epochs: True is not a number"),
        ({"train": ["head"]}, "'head' is unknown"),
        ({"train": ["language_model"]}, "lora: null"),
        ({"event_labels": ["wave"]}, "event_labels"),
        ({"warmup_ratio": 1.5}, "warmup_ratio"),
        ({"weights": "float8"}, "weights"),
    ],
)
def test_a_stage_refuses_what_it_does_not_know(base, changes, message):
    with pytest.raises(ValueError, match=message):
        settings(base, base.parent / "unused", **changes)
    whole = settings(base, base.parent / "unused")
    assert stage_from_dict(json.loads(json.dumps(stage_to_dict(whole)))) == whole


def test_the_stage_2_head_is_kept_unless_a_fresh_one_is_asked_for(base):
    stored = load_model(base).informative_head.state_dict()
    kept, fresh = (learner_of(base, fresh_informative_head=fresh)[0].core.informative_head for fresh in (False, True))
    assert torch.equal(kept[0].weight, stored["0.weight"])
    assert not torch.equal(fresh[0].weight, stored["0.weight"])


def test_a_base_that_lacks_more_than_gate_and_heads_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match=r"missing.*model\.norm\.weight"):
        shutil.copytree(base, tmp_path / "base")
        rewrite(tmp_path / "base/model.safetensors", lambda tensors: tensors.pop("model.norm.weight"))
        build_stage_model(settings(tmp_path / "base", tmp_path / "out"))
    (tmp_path / "base/model.safetensors.index.json").write_text('{"weight_map": {"a": "model-2.safetensors"}}')
    with pytest.raises(ValueError, match=r"the shard model-2\.safetensors is missing"):
        build_stage_model(settings(tmp_path / "base", tmp_path / "out"))


def test_full_training_without_adapters_changes_the_language_model(base, tmp_path):
    parts = ["language_model", "combination", "informative_head", "mm_projector", "vision_tower"]
    config = settings(base, tmp_path / "run", train=parts, lora=None, max_steps=2)
    final = run_stage(config, MadeUp(base, 4))
    merge(final, base, tmp_path / "merged")
    before, after = load_model(base).state_dict(), load_model(tmp_path / "merged").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"lm_head.weight", "model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight"} <= changed
    assert not [name for name in changed if name.startswith("model.audio_encoder.")]


# counting


def test_the_cost_of_a_step_follows_the_formula(base):
    learner, _ = learner_of(base)
    model, cost = learner.core, Cost.of(learner.core)
    language = model.config.language
    width, layers = language.hidden_size, language.num_layers
    frozen = layers * (2 * width * width + 2 * width * 16 + 3 * width * 64)
    adapters = sum(p.numel() for name, p in model.named_parameters() if ".lora_" in name)
    gate = 2 * width * width + width
    heads = width * width // 2 + width // 2 + len(LABELS) * width
    assert cost.language == 4 * frozen + 6 * (adapters + gate + heads)
    assert cost.attention == 6 * width * layers
    assert cost.head == 4 * width * language.vocab_size
    batch = Collator(model.config, 0, 6200)([made_up(0, 0, 40), made_up(7, 0, 40)])
    wanted = 80 * cost.language + 2 * 1600 * cost.attention + 16 * cost.head + 2 * (cost.image + cost.sound)
    assert cost.batch(batch) == pytest.approx(wanted)


def test_the_command_line_reads_overrides_and_reports_in_one_line(base, tmp_path, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr("vispeak_training.stages.run.run_stage", seen.append)
    stage = str(CONFIGS / "stage2.yaml")
    assert main(["run", stage, "--base", str(base), "--set", "epochs=3", "--set", "lora={r: 8, alpha: 16}"]) == 0
    assert seen[0].base == str(base) and seen[0].epochs == 3.0 and seen[0].lora.r == 8
    assert main(["run", stage, "--set", "epoch=3"]) == 2
    assert "epoch: unknown" in capsys.readouterr().err
    assert main(["run", str(tmp_path / "none.yaml")]) == 2
