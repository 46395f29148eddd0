"""Loading: round trips in every published layout, and a clear account of everything that is wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.golden.models import FOLDER, random_model
from vispeak_node.model.checkpoint import (
    AUDIO_PREFIX,
    VISION_PREFIX,
    convert_pickle,
    inspect_checkpoint,
    load_model,
    save_checkpoint,
)


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(random_model(), tmp_path / "ok")
    (tmp_path / "ok/tokenizer.json").write_bytes((FOLDER / "tokenizer.json").read_bytes())
    return tmp_path / "ok"


def edit_config(folder, **changes):
    path = folder / "config.json"
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))


def split(folder, parts=3):
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    files = {name: f"model-{index % parts + 1:05d}-of-{parts:05d}.safetensors" for index, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: state[name] for name in names if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return files


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_round_trip(folder):
    assert same(load_model(folder), random_model())
    assert inspect_checkpoint(folder).ok


def test_shards(folder):
    split(folder)
    assert same(load_model(folder), random_model())


@pytest.mark.parametrize(
    "spelling", [("vita-Qwen2", "VITAQwen2ForCausalLM"), ("vispeak-Qwen2", "ViSpeakQwen2ForCausalLM")]
)
def test_both_spellings_and_what_configs_leave_out(folder, spelling):
    edit_config(
        folder, model_type=spelling[0], architectures=[spelling[1]], use_informative_head=None, vocab_size=152064
    )
    assert same(load_model(folder), random_model())


def test_towers_in_folders_of_their_own(folder):
    state = load_file(folder / "model.safetensors")
    for prefix, place in ((VISION_PREFIX, "vit"), (AUDIO_PREFIX, "ear")):
        (folder.parent / place).mkdir()
        taken = {name: state.pop(name) for name in list(state) if name.startswith(prefix)}
        save_file({n.removeprefix(prefix): t for n, t in taken.items()}, folder.parent / place / "model.safetensors")
    save_file(state, folder / "model.safetensors")
    assert len(inspect_checkpoint(folder).missing) > 0
    assert same(
        load_model(folder, vision_folder=folder.parent / "vit", audio_folder=folder.parent / "ear"), random_model()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_types(folder, dtype):
    assert {p.dtype for p in load_model(folder, dtype=dtype).parameters()} == {dtype}


def test_account_names_everything(folder):
    state = load_file(folder / "model.safetensors")
    gone = "model.layers.1.mlp.up_proj.weight"
    del state[gone]
    state["model.norm.weight"] = torch.zeros(5)
    state["event_head.0.weight"] = torch.zeros(2)
    save_file(state, folder / "model.safetensors")
    report = inspect_checkpoint(folder)
    assert not report.ok
    assert report.missing == [gone]
    assert report.extra == ["event_head.0.weight"]
    assert report.misshapen == [("model.norm.weight", (5,), (32,))]
    text = "\n".join(report.lines())
    assert gone in text and "event_head.0.weight" in text and "found [5], needs [32]" in text
    with pytest.raises(ValueError, match=gone):
        load_model(folder)


def test_an_extra_tensor_does_no_harm(folder):
    state = load_file(folder / "model.safetensors")
    save_file(state | {"event_head.0.weight": torch.zeros(2)}, folder / "model.safetensors")
    assert same(load_model(folder), random_model())


def break_folder(folder, how):
    """Damages a checkpoint in one of many ways."""
    weights, config = folder / "model.safetensors", folder / "config.json"
    if how == "no config":
        config.unlink()
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "truncated header":
        weights.write_bytes(weights.read_bytes()[:50])
    elif how == "empty":
        weights.write_bytes(b"")
    elif how == "no weights":
        weights.unlink()
    elif how == "pickle":
        weights.unlink()
        torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")
    elif how == "bad json":
        config.write_text("{")
    elif how == "missing shard":
        (folder / next(iter(split(folder).values()))).unlink()
    elif how == "shard path":
        split(folder)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    elif how == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif how == "bad tokenizer":
        (folder / "tokenizer.json").write_text("[]")


@pytest.mark.parametrize(
    "how",
    [
        "no config", "truncated", "truncated header", "empty", "no weights", "pickle", "bad json", "missing shard",
        "shard path", "no tokenizer", "bad tokenizer",
    ],
)  # fmt: skip
def test_damage_is_one_clear_line(folder, how):
    break_folder(folder, how)
    with pytest.raises(ValueError) as caught:
        load_model(folder)
    assert str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "llama"},
        {"architectures": ["Evil"]},
        {"combination": "multiply"},
        {"hidden_size": -4},
        {"hidden_size": "big"},
        {"num_attention_heads": 5},
        {"pooling_size": 99},
        {"image_aspect_ratio": "round"},
        {"rope_theta": 0},
        {"vision_config": {"hidden_size": 16, "color": 1}},
        {"vision_config": [1]},
        {"audio_config": {"num_heads": 0}},
    ],
)
def test_unknown_values_are_named(folder, change):
    edit_config(folder, **change)
    with pytest.raises(ValueError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_pickles_are_rewritten_without_running_them(tmp_path):
    torch.save({"a.weight": torch.arange(3.0)}, tmp_path / "final.pt")
    assert convert_pickle(tmp_path / "final.pt", tmp_path / "final.safetensors") == 1
    assert torch.equal(load_file(tmp_path / "final.safetensors")["a.weight"], torch.arange(3.0))
    torch.save({"a": [torch.zeros(1)]}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match="flat dictionary"):
        convert_pickle(tmp_path / "odd.pt", tmp_path / "odd.safetensors")
    (tmp_path / "evil.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match="not a pickle of plain tensors"):
        convert_pickle(tmp_path / "evil.pt", tmp_path / "evil.safetensors")
