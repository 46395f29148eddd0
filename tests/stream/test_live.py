"""The camera and the microphone, with devices that the tests make up."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import av
import numpy as np
import pytest

from tests.stream.test_files import write_video
from vispeak_node.stream import live
from vispeak_node.stream.arrays import read_arrays
from vispeak_node.stream.events import NANOSECONDS


class FakeStream:
    """What sounddevice hands out: calls back when the test says so."""

    def __init__(self, **settings):
        self.settings = settings
        self.closed = False

    def start(self):
        pass

    def close(self):
        self.closed = True
        self.settings["finished_callback"]()

    def hear(self, samples, status=None):
        self.settings["callback"](samples[:, None], len(samples), None, status)


@pytest.fixture
def microphone(monkeypatch):
    fake = SimpleNamespace(InputStream=FakeStream, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    with live.Microphone(sample_rate=8_000) as source:
        yield source


def test_without_sounddevice_the_microphone_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ValueError, match=r"pip install 'vispeak_node\[live\]'"):
        live.Microphone()


def test_a_microphone_that_cannot_be_opened(monkeypatch):
    def refuse(**_):
        raise OSError("no such device")

    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(InputStream=refuse, PortAudioError=OSError))
    with pytest.raises(ValueError, match="no such device"):
        live.Microphone("nothing")


def test_microphone_delivers_what_was_heard(microphone):
    buffer = np.full(800, 0.5, np.float32)
    microphone._stream.hear(buffer)
    buffer[:] = 0  # PortAudio uses its buffer again
    item = next(iter(microphone))
    assert item.sample_rate == 8_000 and item.samples.shape == (800,) and (item.samples == 0.5).all()


def test_newest_sound_wins_and_losses_are_counted(microphone):
    for k in range(live._QUEUE_CHUNKS + 10):
        microphone._stream.hear(np.full(8, k, np.float32))
    microphone._stream.hear(np.zeros(8, np.float32), status="overflow")
    assert microphone.dropped == 12
    assert next(iter(microphone)).samples[0] == 11


def test_a_microphone_that_is_pulled_out_ends_the_items(microphone):
    microphone._stream.hear(np.zeros(8, np.float32))
    microphone._stream.settings["finished_callback"]()
    items = iter(microphone)
    next(items)
    with pytest.raises(ValueError, match="stopped"):
        next(items)


def test_closing_ends_the_items(microphone):
    microphone.close()
    assert list(microphone) == [] and microphone._stream.closed


def test_no_camera():
    with pytest.raises(ValueError, match="no-camera") as caught:
        live.Webcam("/dev/no-camera")
    assert "\n" not in str(caught.value)


def test_camera_keeps_the_newest_frames_and_reports_its_end(tmp_path, monkeypatch):
    path, opened = write_video(tmp_path / "a.mp4", sound=False), av.open
    monkeypatch.setattr(av, "open", lambda *_, **__: opened(str(path)))
    with live.Webcam() as camera:
        camera._thread.join(20)
        assert not camera._thread.is_alive()
        # 40 frames and the end of the stream went through a queue of four
        assert camera.dropped == 40 + 1 - live._QUEUE_FRAMES
        items = iter(camera)
        frames = [next(items) for _ in range(live._QUEUE_FRAMES - 1)]
        assert all(frame.image.shape == (48, 64, 3) and frame.image.dtype == np.uint8 for frame in frames)
        assert [frame.stamp for frame in frames] == sorted(frame.stamp for frame in frames)
        with pytest.raises(ValueError, match="camera stopped"):
            next(items)


def test_closing_a_camera_stops_its_thread(monkeypatch):
    waiting = threading.Event()

    class Endless:
        closed = False

        def decode(self, video):
            frame = av.VideoFrame.from_ndarray(np.zeros((4, 4, 3), np.uint8), format="rgb24")
            while True:
                yield frame
                waiting.set()

        def close(self):
            self.closed = True

    device = Endless()
    monkeypatch.setattr(av, "open", lambda *_, **__: device)
    camera = live.Webcam()
    assert waiting.wait(20)
    camera.close()
    assert not camera._thread.is_alive() and device.closed and list(camera) == []


def test_arrays_are_merged_by_stamp():
    items = list(read_arrays(np.zeros((30, 4, 4, 3), np.uint8), 29.97, np.zeros(16_000, np.int16), 16_000, start=7))
    stamps = [item.stamp for item in items]
    assert stamps == sorted(stamps) and stamps[:2] == [7, 7]
    assert stamps[-1] == 7 + round(29 * NANOSECONDS / 29.97)
    for rates in ({"frames_per_second": 0}, {"sample_rate": 0}, {"frames_per_second": float("nan")}):
        with pytest.raises(ValueError, match="rates"):
            list(read_arrays(**rates))
