"""Losses against recorded numbers, streams position by position, and what the shipped checkpoint must be."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden import recipe
from tests.golden.models import FOLDER, recorded_model
from vispeak_node.model.tokens import Vocabulary
from vispeak_training.calibrate import calibrate, f_score
from vispeak_training.losses import IGNORE, focal_loss, next_token_loss
from vispeak_training.phrases import REPLIES, corpus
from vispeak_training.seeing import fold_scale, jitter, pixels_of, place_maps, train_vision
from vispeak_training.speaking import train_streams
from vispeak_training.streams import StreamBuilder
from vispeak_training.theatre.acts import ACTS, SENTENCES, make_act
from vispeak_training.theatre.dataset import UNSETTLED, SampledClip
from vispeak_training.theatre.scene import KEYPOINTS, render_backend_error
from vispeak_training.theatre.script import fixed_script, make_script
from vispeak_training.tiny import build_model
from vispeak_training.tiny_config import TinyConfig

TINY = Path(__file__).parent.parent.parent / "models/vispeak-tiny"
NO_GL = render_backend_error()
needs_gl = pytest.mark.skipif(NO_GL is not None, reason=f"nothing can be rendered here: {NO_GL}")


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "loss.npz") as data:
        return dict(data)


def test_focal_loss_and_its_gradient(golden):
    logits = torch.from_numpy(golden["fl_logits"]).requires_grad_()
    loss = focal_loss(logits, torch.from_numpy(golden["fl_targets"]).long())
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(golden["fl_loss"]), abs=1e-5)
    np.testing.assert_allclose(logits.grad, golden["fl_grad"], atol=1e-5)


def test_focal_loss_without_labels_is_zero_and_has_a_gradient():
    logits = torch.zeros(3, requires_grad=True)
    loss = focal_loss(logits, torch.full((3,), IGNORE))
    loss.backward()
    assert float(loss.detach()) == 0.0 and logits.grad is not None


def test_loss_of_a_recorded_sample(golden):
    model = copy.deepcopy(recorded_model()).requires_grad_(True)
    user, agent = golden["user_ids"][0], golden["agent_ids"][0]
    rows = model.embed(torch.from_numpy(np.maximum(user, 0))).clone()
    pixels = torch.from_numpy(np.stack([recipe.pixels(int(k)) for k in golden["frames"]]))
    rows[user == -200] = model.encode_images(pixels).reshape(-1, 64)
    if (user == -600).any():
        sounds = model.encode_sound(torch.from_numpy(golden["video_audio_fbank"]))
        rows[user == -600] = sounds.reshape(-1, 64)[: int((user == -600).sum())]
    hidden = model.forward_embeds(model.combine(model.embed(torch.from_numpy(agent)), rows)[None])
    entropy = next_token_loss(model.lm_head(hidden), torch.from_numpy(golden["labels"]))
    informative = model.informative(hidden)
    np.testing.assert_allclose(informative.detach()[..., None], golden["informative"], atol=1e-4)
    focal = focal_loss(informative, torch.from_numpy(golden["informative_labels"]))
    assert float(entropy.detach()) == pytest.approx(float(golden["ce"]), abs=1e-4)
    assert float(focal.detach()) == pytest.approx(float(golden["focal"]), abs=1e-4)
    (entropy + focal).backward()
    gradients = {key.removeprefix("grad/"): value for key, value in golden.items() if key.startswith("grad/")}
    parameters = dict(model.named_parameters())
    assert len(gradients) == 9
    for name, wanted in gradients.items():
        np.testing.assert_allclose(parameters[name].grad, wanted, atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.from_folder(TINY)


def clip_of(acts):
    """A clip of one frame an entry; None is a change between two acts."""
    labels = np.array([UNSETTLED if act is None else ACTS.index(act) for act in acts])
    starts, begin = [], 0.0
    for index, act in enumerate(acts):
        begin = begin if index and act == acts[index - 1] else float(index)
        starts.append(begin)
    count = len(acts)
    empty = np.zeros((count, 4, 4, 3), np.uint8)
    return SampledClip(
        empty, labels, np.array(starts), np.arange(count), np.zeros((count, len(KEYPOINTS), 2), np.float32)
    )


@pytest.mark.parametrize("seed", range(40))
def test_streams_follow_the_rules(vocabulary, seed):
    acts = ["stand", None, "wave", "wave", "wave", None, "hips", "fall", "fall"]
    stream = StreamBuilder(vocabulary, 16, 12).build(clip_of(acts), np.random.default_rng(seed))
    length = len(stream.user)
    assert {len(stream.agent), len(stream.targets), len(stream.informative)} == {length}
    user, agent, end = np.array(stream.user), np.array(stream.agent), vocabulary.segment_end
    # an image's segment is its tokens and the marker; its label lies on the last token
    labels = []
    for first, _ in stream.images:
        assert (user[first : first + 16] == vocabulary.pad).all() and user[first + 16] == end
        labels.append(stream.informative[first + 15])
    assert sum(label != IGNORE for label in stream.informative) == sum(label != IGNORE for label in labels)
    assert labels[0] == 0 and labels[1] == IGNORE and labels[6] == 0
    # positive until the reply begins, negative after it while the same act goes on
    assert labels[2] == 1 and labels[4] == 0 and labels[7] == 1
    starts = np.flatnonzero(agent == vocabulary.answer_visual)
    assert len(starts) == 2
    for start, kind in zip(starts, ("wave", "fall"), strict=True):
        assert user[start - 1] == end
        assert start - 17 in [first for first, _ in stream.images]
        stop = start + int(np.argmax(agent[start:] == vocabulary.reply_end))
        assert vocabulary.decode(agent[start:stop].tolist()) in REPLIES[kind]
        assert stream.targets[start : stop + 1] == agent[start : stop + 1].tolist()
    spoken = np.array(stream.targets) != IGNORE
    assert (agent[~spoken] == vocabulary.pad).all()


def test_the_small_tokenizer_spells_everything_and_keeps_markers_whole(vocabulary):
    for text in [*corpus(), "Grüße, 世界! 🤖", "x" * 50]:
        assert vocabulary.decode(vocabulary.encode(text)) == text
    assert len(vocabulary.markers) == 6


def test_the_shipped_checkpoint_is_small_and_came_with_its_clip():
    assert sum(path.stat().st_size for path in TINY.iterdir()) <= 20 * 2**20
    assert (TINY / "demo.mp4").stat().st_size <= 2**20
    assert not list(TINY.glob("*.bin")) and not list(TINY.glob("*.pt"))
    note = json.loads((TINY / "demo.json").read_text())[0]
    assert note["proactive"] and note["conversations"][0]["timespan"][0] > 3


@pytest.mark.parametrize("act", ACTS)
def test_every_act_has_a_sentence_and_a_steady_pose(act):
    assert act in SENTENCES
    pose = make_act(act, np.random.default_rng(0))
    for time in (0.0, 0.5, 3.0):
        assert all(np.isfinite(value) for value in pose(time).values())


def test_scripts_are_seamless_and_repeatable():
    for seed in range(30):
        script, again = (make_script(np.random.default_rng(seed), 12.0) for _ in range(2))
        assert [(p.act, p.start, p.end) for p in script.parts] == [(p.act, p.start, p.end) for p in again.parts]
        assert script.parts[0].start == 0 and script.parts[-1].end >= 12.0
        assert all(a.end == b.start for a, b in zip(script.parts, script.parts[1:], strict=False))
        assert script.pose(7.3) == again.pose(7.3)


def test_places_go_with_their_pixels():
    pixels = torch.zeros(64, 3, 112, 112)
    keypoints = np.full((64, len(KEYPOINTS), 2), -50, np.float32)
    keypoints[:, 0] = np.random.default_rng(0).integers(30, 82, (64, 2))
    for picture, (right, down) in zip(pixels, keypoints[:, 0].astype(int), strict=True):
        picture[:, down - 1 : down + 2, right - 1 : right + 2] = 1.0
    changed, moved = jitter(pixels, keypoints + 0.5, torch.Generator().manual_seed(0))
    assert np.abs(moved[:, 0] - keypoints[:, 0]).max() > 5
    for picture, place in zip(changed, moved[:, 0], strict=True):
        if (place > 3).all() and (place < 109).all():
            down, right = (
                (picture[0] * grid).sum() / picture[0].sum() + 0.5 for grid in torch.from_numpy(np.mgrid[:112, :112])
            )
            assert (float(right), float(down)) == pytest.approx(tuple(place), abs=0.3)
    maps = place_maps(keypoints, 112)
    assert maps.shape == (64, 16, 24) and maps.sum() == 64


def test_folding_brings_image_rows_to_the_scale_of_text_and_changes_nothing_else():
    model = build_model(300, TinyConfig())
    with torch.no_grad():
        model.model.mm_projector[-1].bias.add_(5.0)
    frames = np.random.default_rng(0).integers(0, 256, (6, 112, 112, 3)).astype(np.uint8)
    zeros = np.zeros(6)
    clip = SampledClip(frames, zeros.astype(int), zeros, zeros, np.zeros((6, len(KEYPOINTS), 2), np.float32))
    with torch.no_grad():
        before = model.encode_images(pixels_of(frames))
        factor = fold_scale(model, [clip])
        after = model.encode_images(pixels_of(frames))
    torch.testing.assert_close(after, (before - before.mean((0, 1))) * factor, atol=1e-4, rtol=1e-3)
    assert float(after.std() / model.model.embed_tokens.weight.detach().std()) == pytest.approx(2.0, rel=0.01)


@needs_gl
def test_rendering_is_repeatable_and_held_out_figures_differ():
    from vispeak_training.theatre.dataset import sample_clip

    first, again, other = sample_clip(5, 56), sample_clip(5, 56), sample_clip(5, 56, held_out=True)
    assert np.array_equal(first.frames, again.frames) and np.array_equal(first.labels, again.labels)
    assert first.frames.shape[1:] == (56, 56, 3) and first.frames.std() > 5
    assert first.frames.shape != other.frames.shape or not np.array_equal(first.frames, other.frames)


@needs_gl
def test_a_clip_is_a_file_with_sound_and_an_exact_annotation(tmp_path):
    from vispeak_node.stream.files import probe
    from vispeak_training.theatre.clip import render_clip

    note = render_clip(tmp_path / "a.mp4", 1, [("stand", 1.0), ("wave", 2.0)], 64, 48, 10)
    info = probe(tmp_path / "a.mp4")
    assert info.has_video and info.has_sound and info.duration == pytest.approx(3.0, abs=0.2)
    assert note["conversations"][0]["timespan"] == [1.4, 3.0]
    assert 2.2 <= note["conversations"][0]["time"] <= 3.0
    assert fixed_script(np.random.default_rng(1), [("wave", 2.0)]).events()[0].act == "wave"


def made_up_clip(seed, frames=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(ACTS), frames)
    keypoints = rng.uniform(0, 112, (frames, len(KEYPOINTS), 2)).astype(np.float32)
    starts = np.arange(frames, dtype=float)
    return SampledClip(rng.integers(0, 256, (frames, 112, 112, 3)).astype(np.uint8), labels, starts, starts, keypoints)


def test_the_recipe_runs_and_each_stage_changes_its_own_part(vocabulary):
    clips = [made_up_clip(seed) for seed in range(4)]
    config = TinyConfig(vision_cycles=(1, 1), vision_batch=8, picture_steps=2, picture_batch=2, stream_steps=2)
    model = build_model(len(vocabulary), config)
    parts = {"tower": model.model.vision_tower, "layers": model.model.layers, "events": model.event_head}
    seen = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}

    def changed():
        now = {name: part.state_dict() for name, part in parts.items()}
        return {name for name in parts if any(not torch.equal(seen[name][key], now[name][key]) for key in seen[name])}

    accuracies = train_vision(model, clips, clips, config)
    assert len(accuracies) == 2 and all(0 <= accuracy <= 1 for accuracy in accuracies)
    assert changed() == {"tower"}
    seen["tower"] = copy.deepcopy(parts["tower"].state_dict())
    train_streams(model, clips, clips, vocabulary, config)
    assert changed() == {"layers", "events"}


def test_calibration_takes_the_threshold_with_the_best_score(vocabulary, monkeypatch):
    results = {0.35: (0.4, 0.9), 0.7: (0.9, 0.7), 1.0: (1.0, 0.1)}  # precision, noticed

    def fake(model, words, clips, config, questions):
        precision, noticed = results[config.threshold]
        return {"precision": precision, "noticed": noticed}

    monkeypatch.setattr("vispeak_training.calibrate.measure", fake)
    model = build_model(len(vocabulary), TinyConfig())
    assert calibrate(model, vocabulary, [], tuple(results)) == 0.7 == model.config.threshold
    assert f_score(0.0, 0.0) == 0.0 and f_score(0.5, 0.5) == pytest.approx(0.5)
    assert f_score(0.9, 0.5) > f_score(0.5, 0.9)
