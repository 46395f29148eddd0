"""`vispeak listen [TOPIC]`: the messages of a topic as JSON lines."""

from __future__ import annotations

import argparse
import json
import queue
import signal
import sys
import threading
import time

from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.message import Message, full_name
from vispeak_node.ros.messages import BY_NAME, AudioDataStamped, AudioInfo, AudioStamped, CompressedImage, Image
from vispeak_node.ros.schema import to_plain
from vispeak_node.ros.topics import Delivery, Topic, TopicNames, inputs, outputs

_SENSOR_KINDS = (Image, CompressedImage, AudioDataStamped, AudioStamped, AudioInfo)


def known_topics() -> dict[str, Topic]:
    """The topics that the node uses by default."""
    names = TopicNames()
    return {topic.name: topic for topic in [*outputs(names), *inputs(names)]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    topic = TopicNames().response
    parser.add_argument("topic", metavar="TOPIC", nargs="?", default=topic, help=f"(default: {topic})")
    parser.add_argument("--type", metavar="PKG/NAME", help="the topic's type, where it is not one of the node's topics")
    parser.add_argument("--count", type=int, default=0, help="end after so many messages (default: never)")
    parser.add_argument("--timeout", type=float, default=0.0, help="end after so many s (default: never)")


def run(args: argparse.Namespace) -> int:
    """Prints messages; 0 when the count is reached or none was asked for, 1 when time ran out before."""
    kind = kind_of(args.topic, args.type)
    if threading.current_thread() is threading.main_thread():
        # a shell starts what runs in the background with SIGINT ignored
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
    messages: queue.Queue[Message] = queue.Queue(1000)
    deadline = time.monotonic() + args.timeout if args.timeout > 0 else float("inf")
    with DdsNode("vispeak_listener") as node:
        known = known_topics().get(args.topic)
        delivery = Delivery.SENSOR if kind in _SENSOR_KINDS else Delivery.RELIABLE
        delivery = known.delivery if known is not None and known.kind is kind else delivery
        node.subscribe(args.topic, kind, lambda message: _offer(messages, message), _complain, delivery)
        node.start()
        count = 0
        while (not args.count or count < args.count) and time.monotonic() < deadline:
            try:
                message = messages.get(timeout=0.1)
            except queue.Empty:
                continue
            sys.stdout.write(json.dumps(to_plain(message), ensure_ascii=False) + "\n")
            sys.stdout.flush()
            count += 1
    return 1 if args.count and count < args.count else 0


def kind_of(topic: str, type_name: str | None) -> type[Message]:
    """The type of a topic's messages: the one that is named, else that of the node's topic, of whichever camera.

    Raises:
        ValueError: it is not known.
    """
    if type_name is None:
        # a camera's topics have its name before them
        known = next((known for name, known in known_topics().items() if f"/{topic}".endswith(name)), None)
        if known is None:
            raise ValueError(f"{topic}: its type is not known; add --type, one of {', '.join(BY_NAME)}")
        return known.kind
    name = type_name if type_name.count("/") == 2 else full_name(type_name)
    if name not in BY_NAME:
        raise ValueError(f"--type {type_name}: unknown; known are {', '.join(BY_NAME)}")
    return BY_NAME[name]


def _offer(messages: queue.Queue[Message], message: Message) -> None:
    if messages.full():
        messages.get_nowait()  # newest wins; only this thread puts
    messages.put_nowait(message)


def _complain(topic: str, error: ValueError) -> None:
    sys.stderr.write(f"vispeak: {topic}: {error}\n")
