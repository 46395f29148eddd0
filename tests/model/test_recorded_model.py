"""The model against recorded numbers of the published implementation (fp32, 1e-4; mel features 1e-3)."""

import json
import zlib

import numpy as np
import pytest
import torch

from tests.golden import recipe
from tests.golden.models import FOLDER, recorded_model, vocabulary
from vispeak_node.model.audio import num_tokens
from vispeak_node.model.config import COMBINATIONS, ModelConfig
from vispeak_node.model.fbank import fbank
from vispeak_node.model.preprocess import preprocess_image, resize, tile_image
from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.vision import pool
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.cache import GrowingCache

SIZES = {"land": (640, 480), "port": (360, 640), "small": (320, 240), "square": (448, 448)}


def golden(name):
    with np.load(FOLDER / f"{name}.npz") as data:
        return dict(data)


def listed(name):
    rows = [line.split("\t") for line in (FOLDER / name).read_text().splitlines() if not line.startswith("#")]
    return {row[0]: tuple(json.loads(row[1])) for row in rows}


def close(found, wanted, atol=1e-4):
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["tiny_tensors.txt", "full_size_tensors.txt"])
def test_tensor_names_and_shapes_are_the_released_ones(name):
    config = ModelConfig() if name.startswith("full") else recorded_model().config
    with torch.device("meta"):
        state = ViSpeakModel(config).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == listed(name)
    assert len(state) == (1166 if name.startswith("full") else 128)


@pytest.mark.parametrize("mode", ["square", "pad"])
@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_resized_to_the_byte(size, mode):
    checks = json.loads((FOLDER / "image.json").read_text())["crc32_of_resized"]
    picture = recipe.image(0, *SIZES[size])
    assert zlib.crc32(np.ascontiguousarray(resize(picture, 448, mode)).tobytes()) == checks[f"{size}_{mode}_u8"]
    pixels = preprocess_image(picture, 448, mode).numpy()[:, ::16, ::16]
    close(pixels, golden("image")[f"{size}_{mode}_pixels_s16"])


def test_tiles_are_the_published_ones_to_the_byte():
    for size, wanted in json.loads((FOLDER / "image.json").read_text())["tiles"].items():
        tiles = tile_image(recipe.image(0, *map(int, size.split("x"))), 448)
        assert [zlib.crc32(np.ascontiguousarray(tile).tobytes()) for tile in tiles] == wanted["crc"]


def test_vision_tower_pooling_and_projector():
    wanted = golden("vision")
    model = recorded_model()
    pixels = torch.from_numpy(np.stack([recipe.pixels(int(k)) for k in wanted["frames"]]))
    close(model.model.vision_tower.vision_tower(pixels[:1])[0], wanted["vit_hidden_last_img0"])
    features = model.model.vision_tower(pixels)
    close(features, wanted["tower"])
    close(pool(features, 2), wanted["pooled"])
    close(model.model.mm_projector(features), wanted["projected"])
    close(model.encode_images(pixels), wanted["projected_pool2"])


def test_mel_features():
    wanted, config = golden("audio"), recorded_model().config.audio
    for key, samples in (
        ("fbank_1s", recipe.waveform(1)),
        ("fbank_2s", recipe.waveform(2)),
        ("fbank_1s_k1", recipe.waveform(1, 1)),
        ("fbank_silence_1s", np.zeros(16000, np.float32)),
    ):
        close(fbank(samples, config), wanted[key], atol=1e-3)
    for samples, frames in wanted["samples_to_frames"]:
        assert fbank(np.zeros(samples, np.float32), config).shape == (frames, 80)


@pytest.mark.parametrize("chunk", [(0, -1), (4, 16), (4, 1)])
@pytest.mark.parametrize("length", ["1s", "2s"])
def test_audio_encoder(length, chunk):
    wanted = golden("audio")
    model = recorded_model(chunk_size=chunk[0], left_chunks=chunk[1])
    suffix = "" if chunk[0] == 0 else f"_chunk{chunk[0]}_left{chunk[1]}"
    found, mask = model.model.audio_encoder(torch.from_numpy(wanted[f"fbank_{length}"])[None])
    close(found, wanted[f"out_{length}{suffix}"])
    if not suffix:
        assert (mask.numpy() == wanted[f"out_mask_{length}"]).all()


def test_audio_batch_and_silence():
    wanted, encoder = golden("audio"), recorded_model().model.audio_encoder
    batch = torch.zeros(2, 198, 80)
    batch[0, :98], batch[1] = torch.from_numpy(wanted["fbank_1s"]), torch.from_numpy(wanted["fbank_2s"])
    frames, mask = encoder.encoder(batch, torch.arange(198) < torch.tensor([[98], [198]]))
    close(frames, wanted["enc_batch"])
    assert (mask.numpy() == wanted["enc_mask_batch"][:, 0]).all()
    close(encoder(batch, torch.tensor([98, 198]))[0], wanted["out_batch"])
    for frames in (98, 400):
        close(encoder(torch.zeros(1, frames, 80))[0], wanted[f"out_zeros{frames}"])


def test_number_of_tokens_for_every_recorded_length():
    wanted = golden("audio")
    assert [num_tokens(int(frames)) for frames in wanted["frames"]] == wanted["frames_to_tokens"].tolist()
    assert ModelConfig().tokens_per_second == 12 and ModelConfig().tokens_per_image == 64


@pytest.mark.parametrize("kind", COMBINATIONS)
def test_combination_in_both_orders(kind):
    wanted, model = golden("combination"), recorded_model(kind)
    agent, user = torch.from_numpy(wanted["agent"]), torch.from_numpy(wanted["user"])
    close(model.combine(agent, user), wanted[kind])
    close(model.combine(user, agent), wanted[f"{kind}_swapped"])


def test_whole_forward():
    wanted, model = golden("forward"), recorded_model()
    user, agent = wanted["user_ids"][0], wanted["agent_ids"][0]
    rows = model.embed(torch.from_numpy(np.maximum(user, 0))).clone()
    pixels = torch.from_numpy(np.stack([recipe.pixels(int(k)) for k in wanted["frames"]]))
    rows[user == -200] = model.encode_images(pixels).reshape(-1, 64)
    rows[user == -600] = model.encode_sound(torch.from_numpy(wanted["video_audio_fbank"])[None])[0]
    embeds = model.combine(model.embed(torch.from_numpy(agent)), rows)[None]
    close(embeds, wanted["embeds"])
    hidden = model.forward_embeds(embeds)
    close(hidden, wanted["hidden"])
    close(model.informative(hidden)[..., None], wanted["informative"])
    logits = model.lm_head(hidden)
    close(logits[..., ::997], wanted["logits_stride997"])
    top = logits[:, wanted["sel"]].topk(16)
    close(top.values, wanted["top_values"])


def test_prompts_and_markers():
    recorded = json.loads((FOLDER / "tokens.json").read_text())
    assert {name: entry["text"] for name, entry in recorded["prompts"].items()} == SYSTEM_PROMPTS
    for entry in recorded["prompts"].values():
        assert [*vocabulary().encode(entry["text"]), vocabulary().segment_end] == entry["ids"]
    for case in recorded["tia"]:
        assert vocabulary().encode_stream(case["text"], case["n_img"]) == case["ids"]
    for name, wanted in (("☞", "answer_voice"), ("☜", "answer_text"), ("☟", "answer_visual"), (">Note", "segment_end")):
        assert recorded["ids"][name] == [getattr(vocabulary(), wanted)]


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 3), np.float32),
        np.zeros((1, 20000, 3), np.uint8),
        np.zeros((1, 9000, 3), np.uint8),
    ],
)
def test_bad_pictures_are_refused_in_one_line(picture):
    with pytest.raises(ValueError, match="picture") as caught:
        preprocess_image(picture, 448)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sound", [np.full(16000, np.nan, np.float32), np.zeros((2, 8), np.float32), np.zeros(9, np.float32), np.zeros(9)]
)
def test_bad_sound_is_refused_in_one_line(sound):
    with pytest.raises(ValueError, match="sound") as caught:
        fbank(sound, ModelConfig().audio)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wanted", [1, 2, 5, 9])
def test_the_last_positions_alone_are_what_they_are_among_all(wanted):
    """With a past and without: the last layer leaves out what nobody reads, and stores keys and values all the same."""
    model, torch_rows = recorded_model(), torch.randn(1, 18, 64, generator=torch.Generator().manual_seed(0))
    for past in (0, 9):
        whole, part = GrowingCache(2), GrowingCache(2)
        for cache in (whole, part):
            if past:
                model.forward_embeds(torch_rows[:, :past], 0, cache)
        everything = model.forward_embeds(torch_rows[:, past : past + 9], past, whole)
        some = model.forward_embeds(torch_rows[:, past : past + 9], past, part, wanted)
        torch.testing.assert_close(some, everything[:, 9 - wanted :], atol=1e-5, rtol=1e-5)
        following = [model.forward_embeds(torch_rows[:, -1:], past + 9, cache) for cache in (whole, part)]
        torch.testing.assert_close(*following, atol=1e-5, rtol=1e-5)
