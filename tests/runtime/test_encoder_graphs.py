"""Encoders over inputs that stay where they are: the same results, and nothing in them that cannot be captured."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.golden import recipe
from tests.golden.models import random_model
from tests.runtime.devices import NothingOfTheHost
from vispeak_node.model.fbank import fbank
from vispeak_node.runtime.encoder_graphs import GraphedEncoder, StaticEncoder, torch_encoder

PARTS = ["vision", "audio"]


@pytest.fixture(scope="module")
def model():
    return random_model()


def make_inputs(model, part, number, count=1):
    if part == "vision":
        size = model.config.vision.image_size
        dice = np.random.default_rng(number)
        return torch.from_numpy(dice.integers(0, 255, (count, size, size, 3), dtype=np.uint8))
    sound = torch.from_numpy(fbank(recipe.waveform(1, number), model.config.audio))
    return sound[None].repeat(count, 1, 1)


@pytest.mark.parametrize("part", PARTS)
def test_static_encoders_equal_plain_ones(model, part):
    plain, static = torch_encoder(model, part, "never"), torch_encoder(model, part, "static")
    assert isinstance(static, StaticEncoder) and not isinstance(plain, StaticEncoder)
    with torch.inference_mode():
        kept = [(static.run(inputs), plain.run(inputs)) for inputs in (make_inputs(model, part, i) for i in range(3))]
        for found, wanted in kept:  # of earlier runs too: nothing is written over them
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        assert not torch.equal(kept[0][0][0], kept[1][0][0])
        batch = make_inputs(model, part, 7, count=3)
        assert all(torch.equal(a, b) for a, b in zip(static.run(batch), plain.run(batch), strict=True))
    outside = static.run(make_inputs(model, part, 1))
    assert all(torch.equal(a, b) for a, b in zip(outside, kept[1][1], strict=True))


def test_threads_do_not_get_each_others_frames(model, monkeypatch):
    """One session's thread encodes ahead while another session uses the same encoder."""
    static, plain = torch_encoder(model, "vision", "static"), torch_encoder(model, "vision", "never")
    frames, within = [make_inputs(model, "vision", number) for number in range(2)], threading.Event()
    compute = static._compute

    def slow():
        within.set()
        waited.wait(0.2)  # long enough for the other one to write over the input, if it could
        return compute()

    waited = threading.Event()
    monkeypatch.setattr(static, "_compute", slow)

    def encode(number):
        with torch.inference_mode():
            return static.run(frames[number])

    with ThreadPoolExecutor(2) as pool, torch.inference_mode():
        first = pool.submit(encode, 0)
        assert within.wait(10)
        second = pool.submit(encode, 1)
        found = [first.result(), second.result()]
        for frame, outputs in zip(frames, found, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(outputs, plain.run(frame), strict=True))


def test_sound_of_another_length_runs_plainly(model):
    static = torch_encoder(model, "audio", "static")
    longer = torch.from_numpy(fbank(recipe.waveform(2, 1), model.config.audio))[None]
    with torch.inference_mode():
        (found,), (wanted,) = static.run(longer), torch_encoder(model, "audio", "never").run(longer)
    assert torch.equal(found, wanted) and found.shape[1] > model.config.tokens_per_second


def test_auto_is_plain_where_there_is_no_gpu(model):
    assert not any(isinstance(torch_encoder(model, part, "auto"), StaticEncoder) for part in PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_encoders_can_be_captured(part):
    static = torch_encoder(random_model().to("meta"), part, "static")
    with torch.inference_mode(), NothingOfTheHost():
        outputs = static._compute()
    assert all(output.is_meta and len(output) == 1 for output in outputs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("part", PARTS)
def test_graphs_equal_the_encoders_they_were_captured_from(part):
    model = random_model().to("cuda")
    plain, graphed = torch_encoder(model, part, "never"), torch_encoder(model, part, "auto")
    assert isinstance(graphed, GraphedEncoder)
    with torch.inference_mode():
        for number in range(3):
            inputs = make_inputs(model, part, number)
            for found, wanted in zip(graphed.run(inputs), plain.run(inputs), strict=True):
                assert (found - wanted).norm() < 1e-5 * wanted.norm()
