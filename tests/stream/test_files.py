"""Files of every shape that the tests can write, and files that are none."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.stream.test_segmenter import same
from vispeak_node.stream.events import NANOSECONDS, ImageEvent, SoundEvent
from vispeak_node.stream.files import probe, read_file
from vispeak_node.stream.items import FrameItem, SoundItem
from vispeak_node.stream.segmenter import Segmenter, SegmenterConfig


def write_video(path, seconds=4, fps=10, sound=True, video=True, codec="mpeg4", stamps=None):
    """A clip whose brightness tells the time, with a tone."""
    with av.open(str(path), "w") as container:
        # all tracks first: the header is written with the first packet
        stream = container.add_stream(codec, rate=fps) if video else None
        pcm = "pcm_s16le" if path.suffix == ".wav" else "aac"
        track = container.add_stream(pcm, rate=16_000, layout="mono") if sound else None
        if video:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            for stamp in stamps or range(0, seconds * 1000, 1000 // fps):
                frame = av.VideoFrame.from_ndarray(
                    np.full((48, 64, 3), 40 + stamp // 20 % 200, np.uint8), format="rgb24"
                )
                frame.pts, frame.time_base = stamp, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        if sound:
            wave = (np.sin(np.arange(seconds * 16_000) / 20) * 8000).astype(np.int16)
            for first in range(0, len(wave), 1024):
                frame = av.AudioFrame.from_ndarray(wave[None, first : first + 1024], format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 16_000, first, Fraction(1, 16_000)
                container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


def events_of(path):
    info = probe(path)
    segmenter = Segmenter(SegmenterConfig(has_video=info.has_video, has_sound=info.has_sound))
    return [event for item in read_file(path) for event in segmenter.push(item)] + segmenter.flush()


def test_a_file_gives_one_image_and_one_sound_a_second(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    info = probe(path)
    assert (info.has_video, info.has_sound, info.width, info.height) == (True, True, 64, 48)
    assert info.duration == pytest.approx(4, abs=0.2)
    events = events_of(path)
    images = [event for event in events if isinstance(event, ImageEvent)]
    assert len(images) == 4 and sum(isinstance(event, SoundEvent) for event in events) >= 3
    brightness = [event.image.mean() for event in images]
    np.testing.assert_allclose(np.diff(brightness), 50, atol=6)


def test_a_file_equals_its_items_in_chunks(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    items = list(read_file(path))
    for size in (1, 7, 40, 1000):
        segmenter = Segmenter(SegmenterConfig(has_sound=True))
        events = [e for first in range(0, len(items), size) for e in segmenter.push_many(items[first : first + size])]
        assert same(events + segmenter.flush(), events_of(path))


def test_variable_frame_rate(tmp_path):
    stamps = [0, 40, 900, 1300, 2990, 3010, 3500, 4000]
    path = write_video(tmp_path / "a.mp4", stamps=stamps, sound=False)
    found = [(event.stamp, event.frame_stamp) for event in events_of(path)]
    ms = NANOSECONDS // 1000
    assert found == [
        (0, 0),
        (1000 * ms, 900 * ms),
        (2000 * ms, 1300 * ms),
        (3000 * ms, 2990 * ms),
        (4000 * ms, 4000 * ms),
    ]


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.mov"])
def test_containers(tmp_path, name):
    assert sum(isinstance(e, ImageEvent) for e in events_of(write_video(tmp_path / name, sound=False))) == 4


def test_sound_only(tmp_path):
    path = write_video(tmp_path / "a.wav", video=False)
    assert not probe(path).has_video
    assert [event.stamp for event in events_of(path)] == [k * NANOSECONDS for k in range(4)]


def test_items_carry_stamps_from_the_beginning(tmp_path):
    items = list(read_file(write_video(tmp_path / "a.mp4")))
    assert min(item.stamp for item in items) == 0
    frames = [item.stamp for item in items if isinstance(item, FrameItem)]
    assert frames == [k * NANOSECONDS // 10 for k in range(40)]
    assert any(isinstance(item, SoundItem) for item in items)


def test_a_truncated_file_gives_what_it_has(tmp_path):
    path = write_video(tmp_path / "a.mkv", sound=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 1 <= len(events_of(path)) < 4


@pytest.mark.parametrize("what", ["missing", "empty", "text", "noise", "folder", "cut header", "picture of nothing"])
def test_what_is_no_video_is_one_clear_line(tmp_path, what):
    path = tmp_path / "a.mp4"
    if what == "empty":
        path.write_bytes(b"")
    elif what == "text":
        path.write_text("hello\n" * 100)
    elif what == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif what == "folder":
        path.mkdir()
    elif what in ("cut header", "picture of nothing"):
        whole = write_video(tmp_path / "b.mp4").read_bytes()
        path.write_bytes(whole[:40] if what == "cut header" else whole[: len(whole) // 2])  # the index lies at the end
    with pytest.raises(ValueError, match=r"a\.mp4") as caught:
        list(read_file(path))
    assert "\n" not in str(caught.value)
