"""`vispeak camera`: a webcam, a network camera or a file on the camera topic; stamps are the system's clock."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import av
import av.error
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.images import to_message
from vispeak_node.ros.message import Message
from vispeak_node.ros.messages import CompressedImage, Header, Image, Time
from vispeak_node.ros.topics import TopicNames
from vispeak_node.stream.events import NANOSECONDS, seconds
from vispeak_node.stream.files import probe, read_file, to_rgb
from vispeak_node.stream.items import FrameItem, Item
from vispeak_node.stream.live import Webcam

logger = logging.getLogger(__name__)

_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https")
_TIMEOUT = (5.0, 5.0)  # s to open a network camera, and to wait for its next packet
_LONGEST = 2.0  # s between frames of a network camera
_MAX_SIDE = 8192  # pixels
_EARLY = 0.2  # of a period that a frame may come too early and still be its period's


class Publisher(Protocol):
    """What the camera needs of a node."""

    def publish(self, topic: str, message: Message) -> None:
        """Sends a message."""
        ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    topics = TopicNames()
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?", default="0",
        help="a webcam's number or device file, an rtsp:// or http:// address, or a video file (default: 0)",
    )  # fmt: skip
    parser.add_argument("--topic", default=topics.image, help=f"of raw frames (default: {topics.image})")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--jpeg", action="store_true", help="publish JPEG files on TOPIC/compressed (default: raw)")
    form.add_argument("--raw", action="store_false", dest="jpeg", help=argparse.SUPPRESS)
    parser.add_argument("--fps", type=float, default=0.0, help="at most so many frames per second (default: all)")
    parser.add_argument("--width", type=int, default=0, help="pixels (default: 640 of a webcam, else as it comes)")
    parser.add_argument("--height", type=int, default=0, help="pixels (default: 480 of a webcam, else as it comes)")
    parser.add_argument("--frame-id", default="camera_optical_frame", help="(default: camera_optical_frame)")


def run(args: argparse.Namespace) -> int:
    """Publishes until SIGINT or SIGTERM, or the end of a file; then 0."""
    if not 0 <= args.fps <= 1000:
        raise ValueError(f"--fps must lie between 0 and 1000, not {args.fps}")
    for name in ("width", "height"):
        if not 0 <= getattr(args, name) <= _MAX_SIDE:
            raise ValueError(f"--{name} must lie between 0 and {_MAX_SIDE}, not {getattr(args, name)}")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    with contextlib.ExitStack() as stack:
        items = open_source(args.source, args.width, args.height, stop, stack)
        node = stack.enter_context(DdsNode("vispeak_camera"))
        camera = Camera(node, args.topic, args.jpeg, args.fps, (args.width, args.height), args.frame_id)
        node.advertise(camera.topic, camera.kind)
        node.announce()
        # whoever started this process waits for the line
        sys.stdout.write(f"publishing {args.source} on {camera.topic}\n")
        sys.stdout.flush()
        camera.show(items, stop)
    logger.info("published %d frames", camera.count)
    return 0


def open_source(
    source: str, width: int, height: int, stop: threading.Event, stack: contextlib.ExitStack
) -> Iterable[Item]:
    """The frames of a source, as they happen.

    Args:
        source: see the command's help.
        width: asked of a webcam, pixels; 0 for the usual.
        height: likewise.
        stop: ends a wait.
        stack: closes the source.

    Raises:
        ValueError: it cannot be opened.
    """
    if source.isdigit() or source.startswith("/dev/"):
        device = f"/dev/video{source}" if source.isdigit() else source
        webcam: Webcam = stack.enter_context(Webcam(device, width or 640, height or 480))
        threading.Thread(target=_close_later, args=(webcam, stop), daemon=True).start()
        return webcam
    if "://" in source:
        return _network(source, stop, stack)
    if not probe(source).has_video:
        raise ValueError(f"{source}: holds no video")
    return paced(read_file(Path(source)), stop)


def _close_later(webcam: Webcam, stop: threading.Event) -> None:
    """Wakes whoever waits for a device that shows nothing."""
    stop.wait()
    webcam.close()


def paced(items: Iterable[Item], stop: threading.Event, longest: float = threading.TIMEOUT_MAX) -> Iterator[FrameItem]:
    """Frames when their time has come, with the system's stamps.

    Args:
        items: whose stamps give the pace.
        stop: ends a wait, and the frames.
        longest: s; stamps that would make a longer wait have jumped, and are counted afresh.
    """
    began, first = time.monotonic(), None
    for item in items:
        if not isinstance(item, FrameItem):
            continue
        first = item.stamp if first is None else first
        delay = began + seconds(item.stamp - first) - time.monotonic()
        if abs(delay) > longest:
            began, first, delay = time.monotonic(), item.stamp, 0.0
        if stop.wait(max(0.0, delay)):
            return
        yield FrameItem(time.time_ns(), item.image)


def _network(address: str, stop: threading.Event, stack: contextlib.ExitStack) -> Iterator[FrameItem]:
    scheme = address.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        raise ValueError(f"{scheme}:// is no camera's address; use one of {', '.join(_SCHEMES)}")
    shown = address.rpartition("@")[2]  # without a password
    options = {"rtsp_transport": "tcp"} if scheme.startswith("rtsp") else {}
    try:
        container = stack.enter_context(av.open(address, options=options, timeout=_TIMEOUT))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"{shown}: the camera cannot be opened ({_reason(error)})") from error
    if not container.streams.video:
        raise ValueError(f"{shown}: sends no video")
    return paced(_frames(container, shown), stop, _LONGEST)


def _frames(container: av.container.InputContainer, shown: str) -> Iterator[FrameItem]:
    """Decoded frames by their own stamps; a stream without any, such as MJPEG over HTTP, comes as it comes."""
    try:
        for frame in container.decode(video=0):
            stamp = 0
            if frame.pts is not None and frame.time_base is not None:
                stamp = round(frame.pts * frame.time_base * NANOSECONDS)
            yield FrameItem(stamp, functools.partial(to_rgb, frame))
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{shown}: the camera stopped ({_reason(error)})") from error
    logger.warning("%s: the stream ended", shown)


class Camera:
    """Publishes frames.

    Args:
        node: has the topic advertised.
        topic: of raw frames; JPEG files go to its `/compressed`.
        jpeg: whether to publish JPEG files.
        frames_per_second: at most; 0 for all.
        size: width and height in pixels; 0 keeps what comes, one 0 keeps the shape.
        frame_id: of the headers.
    """

    def __init__(
        self, node: Publisher, topic: str, jpeg: bool, frames_per_second: float, size: tuple[int, int], frame_id: str
    ) -> None:
        self.topic = topic + ("/compressed" if jpeg else "")
        self.kind: type[Message] = CompressedImage if jpeg else Image
        self.count = 0
        self._node, self._jpeg, self._size, self._frame_id = node, jpeg, size, frame_id
        self._period = round(NANOSECONDS / frames_per_second) if frames_per_second else 0
        self._due = 0  # ns, when the next frame may be published

    def show(self, items: Iterable[Item], stop: threading.Event) -> None:
        """Publishes until the end of the items, or until asked to stop."""
        for item in items:
            if stop.is_set():
                return
            if isinstance(item, FrameItem) and self._is_due(item.stamp):
                self._publish(item)

    def _is_due(self, stamp: int) -> bool:
        """Keeps to the rate on average: one late frame does not delay all that follow."""
        if not self._period:
            return True
        if stamp < self._due - _EARLY * self._period:
            return False
        late = stamp - self._due > self._period
        self._due = (stamp if late else self._due) + self._period
        return True

    def _publish(self, item: FrameItem) -> None:
        try:
            picture = fitted(item.image() if callable(item.image) else item.image, *self._size)
        except ValueError as error:
            logger.warning("a frame is left out: %s", error)
            return
        header = Header(Time.from_ns(item.stamp), self._frame_id)
        self._node.publish(self.topic, to_message(header, picture, self._jpeg))
        self.count += 1


def fitted(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """A picture in another size; 0 keeps a side, or follows the other one."""
    rows, columns = picture.shape[:2]
    wanted = (width or round(columns * (height or rows) / rows), height or round(rows * (width or columns) / columns))
    if wanted == (columns, rows):
        return picture
    return np.asarray(Pillow.fromarray(picture).resize((max(1, wanted[0]), max(1, wanted[1])), Pillow.Resampling.BOX))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or type(error).__name__).splitlines()[0]
