"""Pictures and sound of messages against naive oracles, and everything that must be refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from vispeak_node.ros.images import CHANNELS, check_image, decompress, to_rgb
from vispeak_node.ros.messages import AudioData, AudioDataStamped, AudioInfo, CompressedImage, Header, Image, Time
from vispeak_node.ros.sound import check_info, from_samples, info_of, to_samples

HEADER = Header(Time(1, 2), "cam")
ORDER = {"rgb8": "RGB", "bgr8": "BGR", "rgba8": "RGBA", "bgra8": "BGRA", "8UC3": "BGR", "mono8": "L", "8UC1": "L"}


def naive(encoding, rows, width):
    """Pixel by pixel."""
    out = np.zeros((len(rows), width, 3), np.uint8)
    for y, row in enumerate(rows):
        for x in range(width):
            if encoding == "yuv422_yuy2":
                pair = row[4 * (x // 2) : 4 * (x // 2) + 4].astype(float)
                luma, blue, red = 1.164 * (row[2 * x] - 16.0), pair[1] - 128, pair[3] - 128
                values = (luma + 1.596 * red, luma - 0.813 * red - 0.391 * blue, luma + 2.018 * blue)
                out[y, x] = [min(255, max(0, round(value))) for value in values]
                continue
            size = CHANNELS[encoding]
            pixel = row[size * x : size * (x + 1)]
            names = ORDER[encoding]
            out[y, x] = [pixel[0 if names == "L" else names.index(colour)] for colour in "RGB"]
    return out


@settings(max_examples=150, deadline=None)
@given(
    encoding=st.sampled_from(sorted(CHANNELS)),
    width=st.integers(1, 9),
    height=st.integers(1, 5),
    extra=st.integers(0, 7),
    big=st.integers(0, 1),
    seed=st.integers(0, 99),
)
def test_pictures_against_the_oracle(encoding, width, height, extra, big, seed):
    width += width % 2 if encoding == "yuv422_yuy2" else 0
    step = width * CHANNELS[encoding] + extra
    rows = np.random.default_rng(seed).integers(0, 256, (height, step), np.uint8)
    message = Image(HEADER, height, width, encoding, big, step, rows.reshape(-1))
    np.testing.assert_allclose(to_rgb(message).astype(int), naive(encoding, rows, width).astype(int), atol=1)


def make(height=2, width=2, encoding="rgb8", step=6, size=12):
    return Image(HEADER, height, width, encoding, 0, step, np.zeros(size, np.uint8))


@pytest.mark.parametrize(
    "message",
    [
        make(height=0, size=0),
        make(width=0),
        make(width=20_000, step=60_000, size=120_000),
        make(height=20_000, size=120_000),
        make(size=11),
        make(size=0),
        make(step=5, size=10),
        make(encoding="rgb16"),
        make(encoding="x" * 10_000),
        make(encoding="yuv422_yuy2", width=3, step=6),
    ],
)
def test_pictures_that_cannot_be(message):
    with pytest.raises(ValueError) as caught:
        check_image(message)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_compressed_pictures(form, mode):
    picture = Pillow.fromarray(np.full((20, 30, 3), (200, 100, 50), np.uint8)).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, form)
    data = np.frombuffer(buffer.getvalue(), np.uint8)
    found = decompress(CompressedImage(HEADER, form.lower(), data))
    np.testing.assert_allclose(found.astype(int), np.asarray(picture.convert("RGB")).astype(int), atol=4)
    with pytest.raises(ValueError, match="compressed"):
        decompress(CompressedImage(HEADER, form.lower(), data[: len(data) // 2]))


def test_compressed_pictures_that_cannot_be():
    huge = io.BytesIO()
    Pillow.new("1", (20_000, 2)).save(huge, "PNG")
    gif = io.BytesIO()
    Pillow.new("L", (2, 2)).save(gif, "GIF")
    for data in (b"", b"hello", huge.getvalue(), gif.getvalue()):
        with pytest.raises(ValueError, match="compressed") as caught:
            decompress(CompressedImage(HEADER, "png", np.frombuffer(data, np.uint8)))
        assert "\n" not in str(caught.value)


@given(st.integers(1, 8), st.integers(1, 50))
def test_sound_bytes(channels, count):
    samples = np.arange(channels * count, dtype="<i2").reshape(count, channels)
    message = AudioDataStamped(HEADER, AudioData(samples.view(np.uint8).reshape(-1)))
    assert np.array_equal(to_samples(message, AudioInfo(channels, 16_000, "S16LE", 0, "wave")), samples)
    if channels > 1:
        with pytest.raises(ValueError, match="whole number"):
            to_samples(AudioDataStamped(HEADER, AudioData(message.audio.data[:-2])), AudioInfo(channels, 1, "", 0, ""))


def test_sound_round_trip():
    samples = np.linspace(-1, 1, 1000).astype(np.float32)
    found = to_samples(from_samples(HEADER, samples), info_of(16_000))
    np.testing.assert_allclose(found[:, 0] / 32767, samples, atol=1e-4)


@pytest.mark.parametrize(
    "info",
    [
        AudioInfo(1, 11, "S16LE", 0, "wave"),
        AudioInfo(1, 4_000_000_000, "S16LE", 0, "wave"),
        AudioInfo(0, 16_000, "S16LE", 0, "wave"),
        AudioInfo(200, 16_000, "S16LE", 0, "wave"),
        AudioInfo(1, 16_000, "F32LE", 0, "wave"),
        AudioInfo(1, 16_000, "S16LE", 0, "mp3"),
    ],
)
def test_sound_that_cannot_be_read(info):
    with pytest.raises(ValueError, match="sound"):
        check_info(info)
