"""`vispeak listen [TOPIC]`: the messages of a topic as JSON lines."""

from __future__ import annotations

import argparse
import json
import queue
import sys
import time

from vispeak_node.ros.assistant import AssistantConfig
from vispeak_node.ros.dds import DdsNode, Delivery
from vispeak_node.ros.message import Message, full_name
from vispeak_node.ros.messages import (
    BY_NAME,
    Attention,
    AudioDataStamped,
    AudioInfo,
    CompressedImage,
    Image,
    Response,
    String,
)
from vispeak_node.ros.schema import to_plain

_SENSOR_KINDS = (Image, CompressedImage, AudioDataStamped, AudioInfo)


def known_topics() -> dict[str, type[Message]]:
    """Types of the topics that the node uses by default."""
    topics = AssistantConfig()
    return {
        topics.response_topic: Response,
        topics.response_text_topic: String,
        topics.attention_topic: Attention,
        topics.query_topic: String,
        topics.image_topic: Image,
        topics.compressed_topic: CompressedImage,
        topics.audio_topic: AudioDataStamped,
        topics.audio_info_topic: AudioInfo,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    topic = AssistantConfig().response_topic
    parser.add_argument("topic", metavar="TOPIC", nargs="?", default=topic, help=f"(default: {topic})")
    parser.add_argument("--type", metavar="PKG/NAME", help="the topic's type, where it is not one of the node's topics")
    parser.add_argument("--count", type=int, default=0, help="end after so many messages (default: never)")
    parser.add_argument("--timeout", type=float, default=0.0, help="end after so many s (default: never)")


def run(args: argparse.Namespace) -> int:
    """Prints messages; 0 when the count is reached or none was asked for, 1 when time ran out before."""
    kind = _kind(args.topic, args.type)
    messages: queue.Queue[Message] = queue.Queue(1000)
    deadline = time.monotonic() + args.timeout if args.timeout > 0 else float("inf")
    with DdsNode("vispeak_listener") as node:
        delivery = Delivery.SENSOR if kind in _SENSOR_KINDS else Delivery.RELIABLE
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


def _kind(topic: str, type_name: str | None) -> type[Message]:
    if type_name is None:
        kind = known_topics().get(topic)
        if kind is None:
            raise ValueError(f"{topic}: its type is not known; add --type, one of {', '.join(BY_NAME)}")
        return kind
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
