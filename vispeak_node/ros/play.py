"""`vispeak play FILE`: a video file as a camera and a microphone, at its own pace and with its own stamps."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.images import to_message
from vispeak_node.ros.messages import AudioDataStamped, AudioInfo, CompressedImage, Header, Image, Time
from vispeak_node.ros.sound import from_samples, info_of
from vispeak_node.ros.topics import TopicNames
from vispeak_node.stream.events import NANOSECONDS, nanoseconds
from vispeak_node.stream.files import FileInfo, probe, read_file
from vispeak_node.stream.items import FrameItem, Item, SoundItem
from vispeak_node.stream.sound import to_mono

logger = logging.getLogger(__name__)

FRAME_ID = "camera_optical_frame"
_LINGER = 1.0  # s that reliable readers have to catch up at the end
_INFO_PERIOD = 1.0  # s between messages that say what the sound is, for readers that come late


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    topics = TopicNames()
    parser.add_argument("file", metavar="FILE", type=Path, help="a video or sound file that FFmpeg can read")
    parser.add_argument("--rate", type=float, default=1.0, help="speed; stamps run with it (default: 1)")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, with stamps that go on")
    parser.add_argument("--encoding", choices=("rgb8", "jpeg"), default="rgb8", help="raw frames or JPEG files")
    parser.add_argument("--wait", type=float, default=10.0, help="s to wait for a subscriber (default: 10)")
    parser.add_argument("--image-topic", default=topics.image)
    parser.add_argument("--audio-topic", default=topics.audio)
    parser.add_argument("--audio-info-topic", default=topics.audio_info)


def run(args: argparse.Namespace) -> int:
    """Plays the file; 0 at its end."""
    if not 0 < args.rate <= 100:
        raise ValueError(f"--rate must lie between 0 and 100, not {args.rate}")
    info = probe(args.file)
    with DdsNode("vispeak_player") as node:
        player = Player(node, args, info)
        player.wait(args.wait)
        player.play(looped(args.file, info) if args.loop else read_file(args.file))
    return 0


def looped(path: Path, info: FileInfo) -> Iterator[Item]:
    """A file again and again; each round's stamps follow on the last one's."""
    begin = 0
    while True:
        end = begin + nanoseconds(info.duration)
        for item in read_file(path):
            stamp = begin + item.stamp
            if isinstance(item, SoundItem):
                yield SoundItem(stamp, item.samples, item.sample_rate)
                end = max(end, stamp + len(item.samples) * NANOSECONDS // item.sample_rate)
            elif isinstance(item, FrameItem):
                yield FrameItem(stamp, item.image)
                end = max(end, stamp + 1)
        begin = end


class Player:
    """Publishes items when their time has come."""

    def __init__(self, node: DdsNode, args: argparse.Namespace, info: FileInfo) -> None:
        self._node, self._rate, self._info = node, args.rate, info
        self._jpeg = args.encoding == "jpeg"
        self._image_topic = args.image_topic + ("/compressed" if self._jpeg else "")
        self._audio_topic, self._info_topic = args.audio_topic, args.audio_info_topic
        self._next_info = 0.0
        if info.has_video:
            node.advertise(self._image_topic, CompressedImage if self._jpeg else Image)
        if info.has_sound:
            node.advertise(self._audio_topic, AudioDataStamped)
            node.advertise(self._info_topic, AudioInfo)

    def wait(self, timeout: float) -> None:
        """Gives subscribers time, s, to find the topics: a reader that is not there yet misses the beginning."""
        topic = self._image_topic if self._info.has_video else self._audio_topic
        if not self._node.wait_for_subscribers(topic, timeout):
            logger.warning("nobody subscribes to %s after %g s; playing all the same", topic, timeout)

    def play(self, items: Iterator[Item]) -> None:
        """Publishes everything, at the pace of the stamps; says on stdout which time the file's beginning has."""
        start, began = time.time_ns(), time.monotonic()
        sys.stdout.write(json.dumps({"start": start}) + "\n")
        sys.stdout.flush()
        for item in items:
            delay = began + item.stamp / NANOSECONDS / self._rate - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            header = Header(Time.from_ns(start + item.stamp), FRAME_ID)
            if isinstance(item, FrameItem):
                picture = item.image() if callable(item.image) else item.image
                self._node.publish(self._image_topic, to_message(header, picture, self._jpeg))
            elif isinstance(item, SoundItem):
                self._sound(header, item)
        for topic in (self._image_topic,) if self._info.has_video else (self._audio_topic,):
            self._node.wait_for_acknowledgement(topic, _LINGER)

    def _sound(self, header: Header, item: SoundItem) -> None:
        now = time.monotonic()
        if now >= self._next_info:
            self._node.publish(self._info_topic, info_of(item.sample_rate))
            self._next_info = now + _INFO_PERIOD
        self._node.publish(self._audio_topic, from_samples(header, to_mono(item.samples, item.sample_rate)))
