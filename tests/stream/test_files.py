"""Files of every shape that the tests can write, and files that are none."""

from __future__ import annotations

import itertools
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.stream.test_segmenter import same
from vispeak_node.stream import files
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


def rotate_metadata(path, matrix):
    """Writes a display matrix into an MP4's track header, where phones write theirs."""
    raw = bytearray(path.read_bytes())
    at = raw.index(b"tkhd") + 4 + 40  # version 0: 40 bytes of times, flags and layers come first
    raw[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(raw)


@pytest.mark.parametrize(("degrees", "turns"), [(0, 0), (90, -1), (180, 2), (270, 1)])
def test_pictures_are_turned_as_the_metadata_say(tmp_path, degrees, turns):
    """A phone held upright stores a lying picture and says: turn it clockwise by 90 degrees."""
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][degrees // 90]
    path, one = tmp_path / "a.mp4", 1 << 16
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stored = np.zeros((48, 64, 3), np.uint8)
        stored[:, :32] = 255  # bright at its left
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode())
    rotate_metadata(path, (cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30))
    (item,) = read_file(path)
    picture = item.image()
    assert picture.shape == ((48, 64, 3) if degrees % 180 == 0 else (64, 48, 3))
    assert np.abs(picture.astype(int) - np.rot90(stored, turns).astype(int)).mean() < 8


def test_tracks_that_are_stored_apart_come_in_the_order_of_their_stamps(tmp_path):
    path = write_video(tmp_path / "a.mkv", seconds=25)  # all pictures first, then all sound
    with av.open(str(path)) as container:
        stored = [float(packet.pts * packet.time_base) for packet in container.demux() if packet.pts is not None]
    assert max(before - after for before, after in itertools.pairwise(stored)) > 5
    stamps = [item.stamp for item in read_file(path)]
    assert stamps == sorted(stamps)
    assert sum(isinstance(event, SoundEvent) for event in events_of(path)) == 25


def test_a_file_equals_its_items_pushed_as_if_live(tmp_path):
    path = write_video(tmp_path / "a.mp4", seconds=6)
    items = list(read_file(path))
    for late in (FrameItem, SoundItem):
        arrived = sorted(items, key=lambda item: item.stamp + (17 * NANOSECONDS // 10) * isinstance(item, late))
        segmenter = Segmenter(SegmenterConfig(has_sound=True))
        events = [event for item in arrived for event in segmenter.push(item)] + segmenter.flush()
        assert same(events, events_of(path))


def test_pictures_are_converted_only_when_asked_for(tmp_path, monkeypatch):
    path, asked = write_video(tmp_path / "a.mp4"), []
    convert = files.to_rgb
    monkeypatch.setattr(files, "to_rgb", lambda frame: asked.append(frame) or convert(frame))
    assert sum(isinstance(event, ImageEvent) for event in events_of(path)) == len(asked) == 4


@pytest.mark.parametrize("name", ["a.h264", "a.ts", "a.mp4"])
def test_h264_with_and_without_stamps(tmp_path, name):
    items = list(read_file(write_video(tmp_path / name, sound=False, codec="libx264")))
    assert len(items) == 40 and items[0].stamp == 0
    assert len({after.stamp - before.stamp for before, after in itertools.pairwise(items)}) == 1


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_sound_of_a_file_is_the_sound_that_was_written(tmp_path, rate):
    wave = np.random.default_rng(0).integers(-20_000, 20_000, (2, 2 * rate)).astype(np.int16)
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        track = container.add_stream("pcm_s16le", rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(wave.T.reshape(1, -1).copy(), format="s16", layout="stereo")
        frame.sample_rate, frame.pts = rate, 0
        container.mux(track.encode(frame))
        container.mux(track.encode())
    items = list(read_file(path))
    assert {item.sample_rate for item in items} == {rate}
    np.testing.assert_allclose(np.concatenate([item.samples for item in items]), wave.T / 32768, atol=1e-6)
    live = Segmenter(SegmenterConfig(has_video=False, has_sound=True))
    assert same(events_of(path), live.push_sound(0, np.ascontiguousarray(wave.T), rate) + live.flush())


def test_a_file_cut_short_says_so(tmp_path, caplog):
    path = write_video(tmp_path / "a.mkv", seconds=20, sound=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 5 <= len(events_of(path)) <= 15
    (record,) = caplog.records
    assert "a.mkv" in record.getMessage() and "though it says it lasts 20" in record.getMessage()


def test_damage_in_the_middle_costs_what_it_hits(tmp_path):
    path = write_video(tmp_path / "a.ts", seconds=8, sound=False, codec="libx264")
    raw = bytearray(path.read_bytes())
    third = len(raw) // 3
    raw[third : third + 600] = np.random.default_rng(0).bytes(600)
    path.write_bytes(raw)
    events = events_of(path)
    assert events[0].stamp == 0 and events[-1].stamp >= 6 * NANOSECONDS


@pytest.mark.slow
def test_no_cut_of_a_file_gives_anything_but_items_or_one_line(tmp_path):
    whole = write_video(tmp_path / "whole.mkv", seconds=2).read_bytes()
    path = tmp_path / "a.mkv"
    for size in range(0, len(whole), max(1, len(whole) // 150)):
        path.write_bytes(whole[:size])
        try:
            assert list(read_file(path))
        except ValueError as error:
            assert "a.mkv" in str(error) and "\n" not in str(error)


def test_texts_and_lists_are_no_videos(tmp_path):
    texts = {"a.txt": "hello " * 100, "a.srt": "1\n00:00:00,000 --> 00:00:01,000\nhello\n", "a.png": "no picture"}
    texts["a.m3u8"] = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name):
            list(read_file(tmp_path / name))


def test_a_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        track = container.add_stream("aac", rate=16_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(picture) + cover.encode())
        for first in range(0, 32_000, 1000):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, first
            container.mux(track.encode(frame))
        container.mux(track.encode())
    assert not probe(path).has_video and probe(path).has_sound
    assert [type(event) for event in events_of(path)] == [SoundEvent] * 2
