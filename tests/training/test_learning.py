"""Losses against recorded numbers, streams position by position, and what the shipped checkpoint must be."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden import recipe
from tests.golden.models import FOLDER, recorded_model
from vispeak_node.model.checkpoint import load_model, save_checkpoint
from vispeak_node.model.preprocess import normalise
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.runtime.memory.frame import Frame
from vispeak_training.calibrate import calibrate
from vispeak_training.data.sample import IGNORE, IMAGE
from vispeak_training.losses import focal_loss, next_token_loss
from vispeak_training.phrases import LONG_TALK, REPLIES, corpus
from vispeak_training.pictures import changed, jitter, normalised
from vispeak_training.recalling import RecallBuilder, Scene
from vispeak_training.recipe import train_stages
from vispeak_training.seeing import KINDS, fold_scale, place_maps, quick_on_cpu, train_vision
from vispeak_training.stages.batch import tokens_at
from vispeak_training.stages.learner import Learner
from vispeak_training.streams import LABELS, SPEAK_AHEAD, StreamBuilder, TellingConfig
from vispeak_training.theatre.acts import ACTS, SENTENCES
from vispeak_training.theatre.dataset import UNSETTLED, Footage, SampledClip, count_clips, write_dataset
from vispeak_training.theatre.scene import FINGERTIPS, KEYPOINTS
from vispeak_training.theatre_set import Mix, TheatreSet
from vispeak_training.tiny import build_model
from vispeak_training.tiny_config import TinyConfig

TINY = Path(__file__).parent.parent.parent / "models/vispeak-tiny"


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


def clip_of(acts, turns=()):
    """A clip of one frame an entry; None is a change between two acts."""
    labels = np.array([UNSETTLED if act is None else ACTS.index(act) for act in acts])
    starts, begin = [], 0.0
    for index, act in enumerate(acts):
        begin = begin if index and act == acts[index - 1] else float(index)
        starts.append(begin)
    count = len(acts)
    frames = np.zeros((count, 4, 4, 3), np.uint8)
    points = np.zeros((count, len(KEYPOINTS), 2), np.float32)
    times = np.arange(count, dtype=float)
    return SampledClip(frames, labels, np.array(starts), times, points, note={"turns": list(turns)})


def image_starts(sample):
    return [int(k) for k in np.flatnonzero((sample.user == IMAGE) & (np.roll(sample.user, 1) != IMAGE))]


@pytest.mark.parametrize("seed", range(40))
def test_streams_follow_the_rules(vocabulary, seed):
    acts = ["stand", None, "wave", "wave", "wave", "wave", None, "hips", "fall", "fall", "fall"]
    clip = clip_of(acts)
    sample = StreamBuilder(vocabulary, 16).build(clip, np.random.default_rng(seed))
    user, agent, end = sample.user, sample.agent, vocabulary.segment_end
    assert len(user) == len(agent) == len(sample.targets) == len(sample.informative) == len(sample.events)
    # an image's segment is its tokens and the marker; its labels lie on the last token
    places = image_starts(sample)
    assert len(places) == len(acts) == len(sample.images)
    assert all((user[k : k + 16] == IMAGE).all() and user[k + 16] == end for k in places)
    labels, kinds = sample.informative[[k + 15 for k in places]], sample.events[[k + 15 for k in places]]
    assert (sample.informative != IGNORE).sum() == 9 and (sample.events != IGNORE).sum() == 9
    assert list(labels[[0, 1, 6, 7]]) == [0, IGNORE, IGNORE, 0]
    assert [LABELS[kind] for kind in kinds[[2, 5, 7, 10]]] == [
        "visual_wake_up/wave", "visual_wake_up/wave", "none", "anomaly_warning/fall",
    ]  # fmt: skip
    # positive until the reply begins, negative after it while the same act goes on
    starts = np.flatnonzero(agent == vocabulary.answer_visual)
    for first, last, kind in ((2, 5, "wave"), (8, 10, "fall")):
        begun = [k for k in range(first, last + 1) if places[k] + 17 in starts]
        assert len(begun) == 1 and begun[0] <= first + 2
        assert list(labels[first : last + 1]) == [int(k <= begun[0]) for k in range(first, last + 1)]
        start = places[begun[0]] + 17
        stop = start + int(np.argmax(agent[start:] == vocabulary.reply_end))
        assert vocabulary.decode(agent[start:stop].tolist()) in REPLIES[kind]
    spoken = sample.targets != IGNORE
    assert (sample.targets[spoken] == agent[spoken]).all() and (agent[~spoken] == vocabulary.pad).all()


LONG = "One is the first number. Two comes after one. Three comes after two. Four comes after three." * 5
TALK = (
    {"from": "human", "value": "Please explain the numbers to me.", "time": 0.5},
    {"from": "gpt", "value": LONG, "time": 0.6},
)


def test_a_long_answer_is_cut_by_the_sign_to_stop(vocabulary):
    acts = ["talk", "talk", "talk", "stop_palm", "stop_palm", "stop_palm"]
    telling = TellingConfig(question=0.0, lockstep=1.0, late=(1.0,), interrupted=0.0)
    sample = StreamBuilder(vocabulary, 16, telling).build(clip_of(acts, TALK), np.random.default_rng(0))
    places, agent = image_starts(sample), sample.agent
    answer, stop = (
        int(np.flatnonzero(agent == token)[0]) for token in (vocabulary.answer_text, vocabulary.answer_visual)
    )
    assert sample.user[answer - 1] == vocabulary.segment_end and places[0] < answer <= places[1]
    # it runs beside the frames until the sign's reply, and nothing of it is left behind that
    assert (agent[answer:stop] != vocabulary.pad).all() and stop == places[3] + 17
    said = agent[stop : stop + int(np.argmax(agent[stop:] == vocabulary.reply_end))]
    assert vocabulary.decode(said.tolist()) in REPLIES["stop_palm"]
    assert (agent[stop + len(said) + 1 :] == vocabulary.pad).all()
    assert LONG.startswith(vocabulary.decode(agent[answer:stop].tolist()))


@pytest.mark.parametrize("seed", range(8))
def test_any_event_may_begin_while_a_long_answer_is_given(vocabulary, seed):
    clip = clip_of(["talk", "stand", "talk", "hips", "wave", "wave", "wave"])
    telling = TellingConfig(question=0.0, lockstep=1.0, late=(1.0,), interrupted=1.0)
    sample = StreamBuilder(vocabulary, 16, telling).build(clip, np.random.default_rng(seed))
    places, agent = image_starts(sample), sample.agent
    answer, greeting = (
        int(np.flatnonzero(agent == token)[0]) for token in (vocabulary.answer_text, vocabulary.answer_visual)
    )
    # asked before the wave, given beside the frames, and cut by the greeting if it has not come to its end
    assert answer <= places[4] and greeting == places[4] + 17
    told = agent[answer + 1 : greeting]
    told = told[: np.flatnonzero(told != vocabulary.pad)[-1] + 1]
    assert (told != vocabulary.pad).all()
    words = vocabulary.decode(told[told != vocabulary.reply_end].tolist())
    assert any(long.startswith(words) for _, long in LONG_TALK)
    assert len(told) == greeting - answer - 1 or told[-1] == vocabulary.reply_end
    calm = StreamBuilder(vocabulary, 16, telling).build(clip_of(["talk"] * 5), np.random.default_rng(seed))
    assert (calm.targets == IGNORE).all()


def test_ahead_means_that_at_most_so_many_tokens_come_between_two_events(vocabulary):
    telling = TellingConfig(question=0.0, lockstep=0.0)
    sample = StreamBuilder(vocabulary, 16, telling).build(clip_of(["talk"] * 4, TALK), np.random.default_rng(0))
    places, tokens = image_starts(sample), len(vocabulary.encode(LONG)) + 2
    assert tokens > SPEAK_AHEAD + 17
    asked = len(vocabulary.encode_user_text(TALK[0]["value"])) + 1
    assert places[1] - places[0] == 17 + asked + SPEAK_AHEAD
    assert (sample.targets != IGNORE).sum() == tokens


def test_nobody_speaks_unasked_in_stages_that_only_answer(vocabulary):
    telling = TellingConfig(proactive=0.0, events=False, question=1.0)
    for seed in range(10):
        sample = StreamBuilder(vocabulary, 16, telling).build(clip_of(["wave"] * 3), np.random.default_rng(seed))
        assert (sample.informative == IGNORE).all() and (sample.events == IGNORE).all()
        spoken = sample.targets[sample.targets != IGNORE]
        assert spoken[0] == vocabulary.answer_text
        assert vocabulary.decode(spoken[:-1].tolist()) == SENTENCES["wave"]


@pytest.mark.parametrize("seed", range(12))
def test_silence_is_to_be_predicted_where_nothing_may_call_for_words(vocabulary, seed):
    acts = ["stand", None, "hips", "wave", "wave", "wave", "talk"]
    clip, proactive = clip_of(acts, TALK if seed % 3 == 0 else ()), seed % 2
    told, spoken = (
        StreamBuilder(vocabulary, 16, TellingConfig(proactive=proactive, lockstep=0.5, silence=silence)).build(
            clip, np.random.default_rng(seed)
        )
        for silence in (True, False)
    )
    assert np.array_equal(told.agent, spoken.agent) and np.array_equal(told.informative, spoken.informative)
    added = np.flatnonzero(told.targets != spoken.targets)
    assert (told.targets[added] == vocabulary.pad).all() and (told.agent[added] == vocabulary.pad).all()
    # right behind the markers of frames that show one act, where nothing is said
    behind = [place + 17 for place in image_starts(told)]
    wanted = {behind[k] for k in (0, 2, 3, 4, 5, 6) if (told.agent[behind[k] :] == vocabulary.pad)[:1].any()}
    assert set(added.tolist()) == (set() if proactive else wanted) and (proactive or added.size)


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


def test_places_go_with_their_pixels():
    frames = np.zeros((64, 112, 112, 3), np.uint8)
    points = np.full((64, len(KINDS), 2), -50, np.float32)
    points[:, 0] = np.random.default_rng(0).integers(30, 82, (64, 2))
    for picture, (right, down) in zip(frames, points[:, 0].astype(int), strict=True):
        picture[down - 1 : down + 2, right - 1 : right + 2] = 255
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    seen, moved = jitter(pixels, points + 0.5, torch.Generator().manual_seed(0))
    assert np.abs(moved[:, 0] - points[:, 0]).max() > 5
    for picture, place in zip(seen, moved[:, 0], strict=True):
        if (place > 3).all() and (place < 109).all():
            down, right = (
                (picture[0] * grid).sum() / picture[0].sum() + 0.5 for grid in torch.from_numpy(np.mgrid[:112, :112])
            )
            assert (float(right), float(down)) == pytest.approx(tuple(place), abs=0.3)
    maps = place_maps(points, 112, 14)
    assert maps.shape == (64, 16, 4 * (max(KINDS) + 1)) and maps.sum() == 64


def test_changed_frames_are_repeatable_and_stay_pictures():
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    points = np.zeros((5, 3, 2), np.float32)
    first, again = (changed(frames, points, torch.Generator().manual_seed(1))[0] for _ in range(2))
    assert first.dtype == np.uint8 and first.shape == frames.shape
    assert np.array_equal(first, again) and not np.array_equal(first, frames)
    expected = torch.stack([normalise(frame) for frame in frames])
    torch.testing.assert_close(normalised(frames), expected)


def made_up_clip(seed, frames=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(ACTS), frames)
    labels[:2] = ACTS.index("stand")
    points = rng.uniform(0, 128, (frames, len(KEYPOINTS), 2)).astype(np.float32)
    tips = rng.uniform(0, 128, (frames, len(FINGERTIPS), 2)).astype(np.float32)
    starts = np.arange(frames, dtype=float)
    pictures = rng.integers(0, 256, (frames, 128, 128, 3)).astype(np.uint8)
    note = {"turns": [], "events": [], "subtask": "distractors"}
    return SampledClip(pictures, labels, starts, starts, points, tips, note)


def filmed(folder, clips):
    """Clips as files."""
    write_dataset(folder / "clips.npz", clips)
    assert count_clips(folder / "clips.npz") == len(clips)
    return Footage((folder / "clips.npz",), folder / "clips.npz")


def test_folding_brings_image_rows_to_the_scale_of_text_and_changes_nothing_else():
    model = build_model(300, TinyConfig())
    with torch.no_grad():
        model.model.mm_projector[-1].bias.add_(5.0)
    clip = made_up_clip(0, 6)
    with torch.no_grad():
        before = model.encode_images(normalised(clip.frames))
        factor = fold_scale(model, [clip])
        after = model.encode_images(normalised(clip.frames))
    torch.testing.assert_close(after, (before - before.mean((0, 1))) * factor, atol=1e-4, rtol=1e-3)
    assert float(after.std() / model.model.embed_tokens.weight.detach().std()) == pytest.approx(2.0, rel=0.01)


def test_quick_passes_follow_the_weights():
    layer = torch.nn.Linear(8, 4)
    x = torch.randn(3, 8)
    with quick_on_cpu():
        before = layer(x)  # with gradients: only then does autocast keep what it has cast
        with torch.no_grad():
            layer.weight.mul_(-1)
            layer.bias.mul_(-1)
        torch.testing.assert_close(layer(x), -before)


def test_the_recipe_sees_first_and_then_learns_all_but_seeing(vocabulary, tmp_path):
    pytest.importorskip("accelerate")
    clips = [made_up_clip(seed) for seed in range(4)]
    config = TinyConfig(
        vision_epochs=1, vision_batch=8, align_steps=1, template_steps=1, streaming_steps=1, instruct_steps=2,
        lockstep_steps=1, past_steps=1, batch=2,
    )  # fmt: skip
    model = build_model(len(vocabulary), config)
    before = copy.deepcopy(model.state_dict())
    assert 0 <= train_vision(model, clips, clips, config) <= 1
    learned = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert learned and all(name.startswith(("model.vision_tower.", "model.mm_projector.")) for name in learned)
    save_checkpoint(model, tmp_path / "sees")
    shutil.copy(TINY / "tokenizer.json", tmp_path / "sees")
    trained = load_model(train_stages(tmp_path / "sees", tmp_path, filmed(tmp_path, clips), config, apart=False))
    after = trained.state_dict()
    assert trained.config.event_labels == LABELS and trained.informative_head is not None
    seen = model.state_dict()
    kept = ("model.vision_tower.", "model.audio_encoder.")
    for name in seen:
        assert torch.equal(after[name], seen[name]) == name.startswith(kept) or not seen[name].is_floating_point(), name


def test_the_theatre_set_follows_from_seed_and_index(vocabulary):
    clips = [made_up_clip(seed) for seed in range(3)]
    still = TellingConfig(question=1.0, conversation=0.0, late=(1.0,))
    model = build_model(300, TinyConfig()).config
    mix = Mix(TellingConfig(), 0.5, still)
    one, other = (TheatreSet(clips, clips, vocabulary, model, mix, 32, seed, 2) for seed in (0, 1))
    assert len(one) == 32
    assert all(
        np.array_equal(one[k].images, one[k].images) and np.array_equal(one[k].user, one[k].user) for k in range(8)
    )
    assert any(not np.array_equal(one[k].images, other[k].images) for k in range(8))
    sizes = [len(one[k].images) for k in range(32)]
    assert set(sizes) == {1, 4} and sizes[::2] == sizes[1::2]


@pytest.mark.parametrize("seed", range(12))
def test_a_past_is_asked_for_as_the_runtime_reads_it(vocabulary, seed):
    acts, num_past = ["sit", "phone", "hips", "stand", "drink"], seed % 4
    scenes = [Scene(act, np.full((2, 8, 8, 3), k, np.uint8), np.zeros((2, 1, 2))) for k, act in enumerate(acts)]
    sample = RecallBuilder(vocabulary, 16).build(scenes[:num_past], scenes[num_past:], np.random.default_rng(seed))
    acts = acts[:num_past] or acts[num_past:]
    tokens = tokens_at(16, sample.levels.tolist())
    assert (sample.user == IMAGE).sum() == sum(tokens) and len(sample.images) == len(sample.levels)
    shown = sample.images[:, 0, 0, 0].astype(int)
    now = int((shown >= num_past).sum())
    # the present in full first, then the past, each from its beginning on
    assert (shown[:now] >= num_past).all() and not sample.levels[:now].any() and 2 <= now <= 24
    assert (np.diff(shown[:now]) >= 0).all() and (np.diff(shown[now:]) >= 0).all()
    assert set(shown[now:]) == set(range(num_past)) and len(shown) - now <= 14
    spoken = sample.targets[sample.targets != IGNORE]
    assert spoken[0] == vocabulary.answer_text and spoken[-1] == vocabulary.reply_end
    assert vocabulary.decode(spoken[1:-1].tolist()) == SENTENCES[acts[0]]
    words = vocabulary.decode([token for token in sample.user.tolist() if token >= 0])
    ages = [int(age) for age in re.findall(r"(\d+)s ago:", words)]
    assert len(ages) == len(shown) - now and ages == sorted(ages, reverse=True)


def test_remembered_frames_are_learned_from_in_the_resolution_that_the_memory_keeps():
    model = build_model(300, TinyConfig()).requires_grad_(False)
    clip = made_up_clip(0, 4)
    levels = torch.tensor([0, 1, 2, 3])
    with torch.no_grad():
        rows = Learner(model)._images(normalised(clip.frames), levels)
        features = model.model.vision_tower(normalised(clip.frames))
        frames = [Frame(0, 0, row).shrunk(max(1, 4 >> level)) for level, row in enumerate(features)]
        expected = torch.cat([model.model.mm_projector(frame.features_NF) for frame in frames])
    assert [frame.num_tokens for frame in frames] == tokens_at(16, [0, 1, 2, 3]) == [16, 4, 1, 1]
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("results", "wanted"),  # threshold: false replies in 5 quiet minutes, time accuracy
    [
        ({0.35: (4.0, 0.9), 0.7: (0.4, 0.7), 1.0: (0.0, 0.1)}, 0.7),  # the best one that is quiet enough
        ({0.35: (0.3, 0.7), 0.7: (0.1, 0.7), 1.0: (0.0, 0.1)}, 0.7),  # of equally good ones the largest
        ({0.35: (9.0, 0.9), 0.7: (4.0, 0.5), 1.0: (3.0, 0.1)}, 1.0),  # none is: the quietest
    ],
)
def test_calibration_takes_the_best_threshold_that_is_quiet_enough(vocabulary, monkeypatch, results, wanted):
    def fake(model, words, clips, config, session_type):
        quiet, timed = results[config.threshold]
        return {"false_triggers_per_5_quiet_minutes": quiet, "time_accuracy": timed}

    monkeypatch.setattr("vispeak_training.calibrate.measure", fake)
    model = build_model(len(vocabulary), TinyConfig())
    assert calibrate(model, vocabulary, [], tuple(results)) == wanted == model.config.threshold
