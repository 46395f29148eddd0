"""`vispeak tree`: a behaviour tree on the node's topics, which prints every branch as it is entered."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
import time

from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.messages import Anomaly, Bool, Gesture
from vispeak_node.ros.topics import Delivery, TopicNames
from vispeak_node.stream.events import NANOSECONDS

logger = logging.getLogger(__name__)

TICK = 0.1  # s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    topics = TopicNames()
    parser.add_argument("--json", action="store_true", help="print JSON lines: time, branch, text, stamp")
    parser.add_argument("--anomaly-topic", default=topics.anomaly, help=f"(default: {topics.anomaly})")
    parser.add_argument("--anomaly-active-topic", default=topics.anomaly_active, help=f"({topics.anomaly_active})")
    parser.add_argument("--gesture-topic", default=topics.gesture, help=f"(default: {topics.gesture})")


def run(args: argparse.Namespace) -> int:
    """Ticks until SIGINT or SIGTERM; then 0."""
    require_py_trees()
    from vispeak_node.ros.behaviours import Robot  # noqa: PLC0415 - py_trees is an optional extra

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    robot = Robot(Printer(args.json))
    inbox = robot.inbox
    with DdsNode("vispeak_tree") as node:
        node.subscribe(args.anomaly_active_topic, Bool, inbox.on_active, _complain, Delivery.LATCHED)
        node.subscribe(args.anomaly_topic, Anomaly, inbox.on_anomaly, _complain, Delivery.RELIABLE)
        node.subscribe(args.gesture_topic, Gesture, inbox.on_gesture, _complain, Delivery.RELIABLE)
        node.start()
        while not stop.is_set():
            robot.tick()
            stop.wait(TICK)
    return 0


def require_py_trees() -> None:
    """Refuses, before the work begins, what could not be run.

    Raises:
        ValueError: py_trees is missing.
    """
    try:
        import py_trees  # noqa: F401, PLC0415 - an optional extra
    except ImportError as error:
        raise ValueError(f"the tree needs py_trees ({error}): pip install 'vispeak_node[tree]'") from error


class Printer:
    """Prints a line for every branch that is entered; times are seconds since the tree began."""

    def __init__(self, as_json: bool) -> None:
        self._as_json, self._began = as_json, time.time_ns()

    def __call__(self, branch: str, text: str) -> None:
        """Prints at once: whoever reads waits for it."""
        stamp = time.time_ns()
        elapsed = (stamp - self._began) / NANOSECONDS
        text = " ".join(text.split())
        if self._as_json:
            line = json.dumps(
                {"time": round(elapsed, 3), "branch": branch, "text": text, "stamp": stamp}, ensure_ascii=False
            )
        else:
            line = f"{elapsed:5.1f} s  {branch}{': ' if text else ''}{text}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _complain(topic: str, error: ValueError) -> None:
    logger.warning("%s: %s", topic, error)
