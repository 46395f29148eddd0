"""`vispeak microphone`: a microphone of this machine on the audio topics, 16 kHz mono S16LE."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, Protocol

from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.message import Message
from vispeak_node.ros.messages import AudioDataStamped, AudioInfo, Header, Time
from vispeak_node.ros.sound import from_samples, info_of
from vispeak_node.ros.topics import TopicNames
from vispeak_node.stream.events import SAMPLE_RATE
from vispeak_node.stream.items import Item, SoundItem
from vispeak_node.stream.live import Microphone
from vispeak_node.stream.sound import to_mono

logger = logging.getLogger(__name__)

_INFO_PERIOD = 1.0  # s between messages that say what the sound is, for readers that come late


class Publisher(Protocol):
    """What the microphone needs of a node."""

    def publish(self, topic: str, message: Message) -> None:
        """Sends a message."""
        ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    topics = TopicNames()
    parser.add_argument("--list", action="store_true", help="print the sound inputs and end")
    parser.add_argument("--device", metavar="NAME", help="an input's number or a part of its name (default: system's)")
    parser.add_argument("--topic", default=topics.audio, help=f"of the sound (default: {topics.audio})")
    parser.add_argument("--info-topic", default=topics.audio_info, help=f"of its format ({topics.audio_info})")
    parser.add_argument("--frame-id", default="microphone", help="(default: microphone)")


def run(args: argparse.Namespace) -> int:
    """Publishes until SIGINT or SIGTERM; then 0."""
    if args.list:
        sys.stdout.writelines(f"{number:3d}  {name}\n" for number, name in devices())
        return 0
    number = None if args.device is None else find_device(args.device, devices())
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda _number, _frame: stop.set())
    with DdsNode("vispeak_microphone") as node, Microphone(number, SAMPLE_RATE) as source:
        threading.Thread(target=_close_later, args=(source, stop), daemon=True).start()
        node.advertise(args.topic, AudioDataStamped)
        node.advertise(args.info_topic, AudioInfo)
        node.announce()
        # whoever started this process waits for the line
        sys.stdout.write(f"publishing sound on {args.topic}\n")
        sys.stdout.flush()
        Ear(node, args.topic, args.info_topic, args.frame_id).hear(source, stop)
    if source.dropped:
        logger.warning("%d chunks of sound were lost", source.dropped)
    return 0


def devices() -> list[tuple[int, str]]:
    """Numbers and names of the sound inputs.

    Raises:
        ValueError: sounddevice or PortAudio is missing, or fails.
    """
    try:
        import sounddevice  # noqa: PLC0415 - an optional extra that needs PortAudio
    except (ImportError, OSError) as error:
        raise ValueError(
            f"the microphone needs sounddevice and PortAudio ({error}): pip install 'vispeak_node[live]'"
        ) from error
    try:
        found: Iterable[Any] = sounddevice.query_devices()
    except sounddevice.PortAudioError as error:
        raise ValueError(f"the sound devices cannot be listed ({error})") from error
    return [(number, str(device["name"])) for number, device in enumerate(found) if device["max_input_channels"] > 0]


def find_device(wanted: str, known: list[tuple[int, str]]) -> int:
    """The one input with this number or name, or with this in its name; case does not matter.

    Raises:
        ValueError: there is none, or more than one.
    """
    exact = [number for number, name in known if wanted in (str(number), name)]
    partly = [number for number, name in known if wanted.lower() in name.lower()]
    for found in (exact, partly):
        if len(found) == 1:
            return found[0]
    listed = "; ".join(f"{number} {name}" for number, name in known) or "none"
    raise ValueError(f"--device {wanted}: {'more than one fits' if partly else 'no such input'}; there are: {listed}")


def _close_later(source: Microphone, stop: threading.Event) -> None:
    """Wakes whoever waits for a device that says nothing."""
    stop.wait()
    source.close()


class Ear:
    """Publishes sound, and every second what it is.

    Args:
        node: has the topics advertised.
        topic: of the sound.
        info_topic: of its format.
        frame_id: of the headers.
    """

    def __init__(self, node: Publisher, topic: str, info_topic: str, frame_id: str) -> None:
        self._node, self._topic, self._info_topic, self._frame_id = node, topic, info_topic, frame_id
        self._next_info = float("-inf")

    def hear(self, items: Iterable[Item], stop: threading.Event) -> None:
        """Publishes until the end of the items, or until asked to stop."""
        for item in items:
            if stop.is_set():
                return
            if isinstance(item, SoundItem) and len(item.samples):
                self._publish(item)

    def _publish(self, item: SoundItem) -> None:
        now = time.monotonic()
        if now >= self._next_info:
            self._node.publish(self._info_topic, info_of(item.sample_rate))
            self._next_info = now + _INFO_PERIOD
        header = Header(Time.from_ns(item.stamp), self._frame_id)
        self._node.publish(self._topic, from_samples(header, to_mono(item.samples, item.sample_rate)))
