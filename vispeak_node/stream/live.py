"""The camera and the microphone of this machine as items; stamps are the system's clock."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import av
import av.error
import numpy as np

from vispeak_node.stream.events import NANOSECONDS
from vispeak_node.stream.files import to_rgb
from vispeak_node.stream.items import FrameItem, SoundItem

_QUEUE_FRAMES = 4  # newest wins: a camera never waits
_QUEUE_CHUNKS = 64
_WAIT = 0.5  # s between looks at whether to stop
_PATIENCE = 2.0  # s


class _Live:
    """A bounded queue that drops its oldest item, and the thread or callback that fills it."""

    def __init__(self, room: int) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(room)
        self._stopped = threading.Event()
        self._error: str | None = None
        self.dropped = 0

    def _offer(self, item: Any) -> None:
        while True:
            try:
                self._queue.put_nowait(item)
                return
            except queue.Full:
                try:
                    self._queue.get_nowait()
                    self.dropped += 1
                except queue.Empty:
                    pass  # the reader was faster

    def _fail(self, reason: str) -> None:
        """The device stopped by itself: whoever waits is woken."""
        self._error = reason
        self._offer(None)

    def __iter__(self) -> Iterator[Any]:
        """Items until `close`; raises ValueError if the device stops by itself."""
        while not self._stopped.is_set():
            try:
                item = self._queue.get(timeout=_WAIT)
            except queue.Empty:
                continue
            if item is None:
                raise ValueError(self._error)
            yield item

    def close(self) -> None:
        """Stops the device."""
        self._stopped.set()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


class Webcam(_Live):
    """A Video4Linux camera, by its device file.

    Raises:
        ValueError: it cannot be opened.
    """

    def __init__(self, device: str = "/dev/video0", width: int = 640, height: int = 480) -> None:
        super().__init__(_QUEUE_FRAMES)
        try:
            self._container = av.open(device, format="v4l2", options={"video_size": f"{width}x{height}"})
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise ValueError(f"{device}: the camera cannot be opened ({error})") from error
        self._thread = threading.Thread(target=self._run, name="webcam", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for frame in self._container.decode(video=0):
                if self._stopped.is_set():
                    break
                # at once, not when asked: a raw frame may lie in the driver's memory, which is gone after `close`
                self._offer(FrameItem(time.time_ns(), to_rgb(frame)))
            else:
                self._fail("the camera stopped")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self._fail(f"the camera stopped ({error})")
        finally:
            self._container.close()

    def close(self) -> None:
        """Stops the device; waits for the frame at hand, but not for a driver that hangs."""
        super().close()
        self._thread.join(_PATIENCE)


class Microphone(_Live):
    """A sound input, by PortAudio's name or number; the default one if none is named.

    Raises:
        ValueError: sounddevice or PortAudio is missing, or the device cannot be opened.
    """

    def __init__(self, device: str | int | None = None, sample_rate: int = 16_000) -> None:
        super().__init__(_QUEUE_CHUNKS)
        try:
            import sounddevice  # noqa: PLC0415 - an optional extra that needs PortAudio
        except (ImportError, OSError) as error:
            raise ValueError(
                f"the microphone needs sounddevice and PortAudio ({error}): pip install 'vispeak_node[live]'"
            ) from error
        self._sample_rate = sample_rate
        try:
            self._stream = sounddevice.InputStream(
                samplerate=sample_rate,
                channels=1,
                dtype="float32",
                device=device,
                callback=self._heard,
                finished_callback=self._finished,
            )
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise ValueError(f"the microphone cannot be opened ({error})") from error

    def _heard(self, samples: Any, count: int, _time: Any, status: Any) -> None:
        if status:  # PortAudio lost samples before this chunk; its stamp tells the segmenter how many
            self.dropped += 1
        begun = time.time_ns() - count * NANOSECONDS // self._sample_rate
        self._offer(SoundItem(begun, np.array(samples[:, 0]), self._sample_rate))

    def _finished(self) -> None:
        if not self._stopped.is_set():
            self._fail("the microphone stopped")

    def close(self) -> None:
        """Stops the device."""
        super().close()
        self._stream.close()
