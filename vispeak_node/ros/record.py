"""`vispeak bag`: plays, records and describes ROS 2 bags over plain DDS. Messages pass as the bytes they are."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from vispeak_node.ros.bag import BagReader, BagTopic, BagWriter
from vispeak_node.ros.dds import mangled
from vispeak_node.ros.message import Message
from vispeak_node.ros.raw import RawNode, is_plain_cdr, kind_of
from vispeak_node.ros.topics import Delivery, Topic, TopicNames, inputs, outputs
from vispeak_node.stream.events import NANOSECONDS, seconds

logger = logging.getLogger(__name__)

_USUALLY_LATCHED = ("/tf_static", "/robot_description", "/map")
_ROOM = 300  # messages that may wait for the disk
_LINGER = 1.0  # s that reliable readers have to catch up at the end
_LOOK = 0.1  # s between looks at whether to stop


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    play = actions.add_parser("play", help="publish a bag's messages at their own pace")
    play.add_argument("bag", metavar="BAG", type=Path, help="a bag's folder, or a .mcap or .db3 file")
    play.add_argument("--rate", type=float, default=1.0, help="speed (default: 1); stamps stay as they were recorded")
    play.add_argument("--loop", action="store_true", help="begin again at the end; stamps then jump back")
    play.add_argument("--topics", metavar="TOPIC", nargs="+", default=[], help="only these (default: all)")
    play.add_argument("--wait", type=float, default=10.0, help="s to wait for a subscriber (default: 10)")
    record = actions.add_parser("record", help="write topics to a new bag (MCAP) until Ctrl-C")
    record.add_argument("bag", metavar="OUT", type=Path, help="a folder that does not exist yet")
    record.add_argument(
        "--topics", metavar="TOPIC[:TYPE]", nargs="+", default=[], help="(default: the node's inputs and outputs)"
    )
    record.add_argument("--duration", type=float, default=0.0, help="end after so many s (default: never)")
    info = actions.add_parser("info", help="print a bag's topics, types and counts")
    info.add_argument("bag", metavar="BAG", type=Path, help="a bag's folder, or a .mcap or .db3 file")


def run(args: argparse.Namespace) -> int:
    """Plays, records or describes; 0 at the end."""
    return {"play": _play, "record": _record, "info": _info}[args.action](args)


def _info(args: argparse.Namespace) -> int:
    with BagReader(args.bag) as bag:
        lines = [f"{bag.path}: {bag.count} messages, {seconds(bag.duration):.1f} s"]
        lines += [f"{topic.count:8d}  {topic.name}  {topic.type_name}" for topic in bag.topics]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _play(args: argparse.Namespace) -> int:
    if not 0 < args.rate <= 100:
        raise ValueError(f"--rate must lie between 0 and 100, not {args.rate}")
    stop = _stop_on_signals()
    with BagReader(args.bag) as bag:
        topics = bag.select(args.topics)
        kinds = _kinds(topics)
        with RawNode("vispeak_bag_player") as node:
            for topic in topics:
                node.advertise(topic.name, kinds[topic.name], Delivery.LATCHED if topic.latched else Delivery.RELIABLE)
            node.announce()
            _wait(node, list(kinds), args.wait, stop)
            count = _play_once(node, kinds, bag.messages(topics), args.rate, stop)
            while args.loop and count and not stop.is_set():
                count += _play_once(node, kinds, bag.messages(topics), args.rate, stop)
            for topic in topics:
                node.wait_for_acknowledgement(topic.name, _LINGER)
    sys.stdout.write(f"played {count} messages\n")
    return 0


def _kinds(topics: list[BagTopic]) -> dict[str, type[Message]]:
    kinds: dict[str, type[Message]] = {}
    for topic in topics:
        mangled(topic.name)  # refuses what is no name
        if topic.name in kinds and kinds[topic.name] is not topic.kind():
            raise ValueError(f"{topic.name} has two types in this bag, which cannot be played")
        kinds[topic.name] = topic.kind()
    return kinds


def _wait(node: RawNode, names: list[str], timeout: float, stop: threading.Event) -> None:
    """Gives subscribers time, s: a reader that is not there yet misses the beginning."""
    deadline = time.monotonic() + timeout
    while names and not any(node.num_subscribers(name) for name in names):
        if time.monotonic() > deadline:
            logger.warning("nobody subscribes to any topic of the bag after %g s; playing all the same", timeout)
            return
        if stop.wait(0.02):
            return


def _play_once(
    node: RawNode,
    kinds: dict[str, type[Message]],
    messages: Iterator[tuple[BagTopic, int, bytes]],
    rate: float,
    stop: threading.Event,
) -> int:
    """Publishes everything, at the pace of the recording; returns how much."""
    began, first, count, refused = time.monotonic(), None, 0, 0
    for topic, stamp, data in messages:
        first = stamp if first is None else first
        delay = began + (stamp - first) / NANOSECONDS / rate - time.monotonic()
        if stop.wait(max(0.0, delay)):
            break
        if is_plain_cdr(data):
            node.publish_raw(topic.name, kinds[topic.name], data)
            count += 1
        else:
            refused += 1
    if refused:
        logger.warning("%d messages are not plain CDR and were left out", refused)
    return count


def _record(args: argparse.Namespace) -> int:
    topics = _chosen(args.topics)
    stop = _stop_on_signals()
    waiting: queue.Queue[tuple[str, int, bytes]] = queue.Queue(_ROOM)
    dropped: list[str] = []
    with RawNode("vispeak_bag_recorder") as node, BagWriter(args.bag) as bag:
        for topic in topics:
            bag.add(topic.name, topic.kind, topic.delivery is Delivery.LATCHED)
            hear = functools.partial(_hear, waiting, dropped, topic.name)
            node.subscribe_raw(topic.name, topic.kind, hear, topic.delivery)
        node.start()
        # whoever started this process waits for the line
        sys.stdout.write(f"recording {len(topics)} topics to {args.bag}\n")
        sys.stdout.flush()
        deadline = time.monotonic() + args.duration if args.duration > 0 else float("inf")
        while not stop.is_set() and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                bag.write(*waiting.get(timeout=_LOOK))
        time.sleep(2 * _LOOK)  # what has arrived already is still taken
        node.close()
        while not waiting.empty():
            bag.write(*waiting.get_nowait())
    if dropped:
        logger.warning("%d messages were dropped: the disk is slower than the topics", len(dropped))
    sys.stdout.write(f"recorded {bag.count} messages\n")
    return 0


def _hear(waiting: queue.Queue[tuple[str, int, bytes]], dropped: list[str], topic: str, data: bytes) -> None:
    """In the reader's thread: a message and when it came."""
    try:
        waiting.put_nowait((topic, time.time_ns(), data))
    except queue.Full:
        dropped.append(topic)


def _chosen(words: list[str]) -> list[Topic]:
    """Topics as the command line names them.

    Raises:
        ValueError: a topic's type is not known, or a topic is named twice.
    """
    names = TopicNames()
    known = {topic.name: topic for topic in [*inputs(names), *outputs(names)]}
    if not words:
        return list(known.values())
    found: dict[str, Topic] = {}
    for word in words:
        name, _, type_name = word.partition(":")
        mangled(name)
        if name in found:
            raise ValueError(f"--topics: {name} is named twice")
        if not type_name and name not in known:
            raise ValueError(f"--topics {name}: its type is not known; write {name}:PACKAGE/TYPE")
        if type_name:
            kind = kind_of(type_name)
            delivery = Delivery.LATCHED if name in _USUALLY_LATCHED else Delivery.SENSOR
            delivery = known[name].delivery if name in known and kind is known[name].kind else delivery
            found[name] = Topic(name, kind, delivery, "")
        else:
            found[name] = known[name]
    return list(found.values())


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    return stop
