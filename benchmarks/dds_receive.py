"""What receiving a camera costs: rgb8 at 30 Hz over DDS into the node's logic, in a process of its own.

    python benchmarks/dds_receive.py [--seconds 20] [--sizes 640x480,1920x1080] [--write [FILE.md]]

The node's session is replaced by one that does nothing, so that what is measured is receiving, checking, cutting time
and decoding the frames that are used. CPU time is the whole process's over the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from report import add_write, foot, publish, table

from vispeak_node.ros.assistant import Assistant, AssistantConfig
from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.messages import Header, Image, Time
from vispeak_node.ros.topics import TopicNames
from vispeak_node.runtime.outputs import Output
from vispeak_node.stream.events import Event

TOPIC = TopicNames().image
HEADER = (
    "size",
    "sent",
    "received",
    "used",
    "refused",
    "deepest queue of events",
    "receiving, of one core",
    "sending, of one core",
    "stamp to callback p50 / p95",
    "p95 of the last quarter",
)


class Silent:
    """A session that never has anything to say."""

    def push(self, event: Event, then: Event | None = None) -> list[Output]:
        return []

    def reset(self, stamp: int | None = None) -> list[Output]:
        return []

    def rebuild(self) -> list[Output]:
        return []

    def usage(self) -> dict[str, str]:
        return {}

    speaking = False


def send(seconds: float, rate: float, size: str) -> None:
    """Publishes frames at a rate; says how many, and what they cost."""
    width, height = (int(side) for side in size.split("x"))
    pixels = np.random.default_rng(0).integers(0, 255, width * height * 3, np.uint8)
    with DdsNode("camera") as node:
        node.advertise(TOPIC, Image)
        if not node.wait_for_subscribers(TOPIC, 20):
            raise SystemExit("nobody subscribed")
        count, begin, cpu = int(seconds * rate), time.monotonic(), time.process_time()
        for index in range(count):
            time.sleep(max(0.0, begin + index / rate - time.monotonic()))
            header = Header(Time.from_ns(time.time_ns()), "camera")
            node.publish(TOPIC, Image(header, height, width, "rgb8", 0, 3 * width, pixels))
        wall = time.monotonic() - begin
        share = (time.process_time() - cpu) / wall
        time.sleep(0.5)  # best effort: nobody acknowledges the last frame
    print(json.dumps({"sent": count, "wall": wall, "cpu": share}))


def receive(sender: subprocess.Popen[str]) -> dict[str, float]:
    """Receives until the sender ends."""
    delays: list[float] = []
    assistant = Assistant(Silent(), AssistantConfig(), lambda topic, message: None)

    def on_image(message: Image) -> None:
        delays.append((time.time_ns() - message.header.stamp.ns) / 1e6)
        assistant.on_image(message)

    with DdsNode("vispeak") as node:
        node.subscribe(TOPIC, Image, on_image, assistant.on_bad)
        assistant.start()
        node.start()
        while not delays:
            time.sleep(0.01)
        begin, cpu = time.monotonic(), time.process_time()
        output, _ = sender.communicate(timeout=600)
        wall, cpu = time.monotonic() - begin, time.process_time() - cpu
        assistant.stop()
    sent = json.loads(output)
    return {
        "sent": sent["sent"],
        "received": len(delays),
        "used": assistant.intake.segmenter.counters.frames_used,
        "refused": sum(assistant.report.refused.values()),
        "deepest": assistant.report.deepest,
        "cpu": cpu / wall,
        "sender": sent["cpu"],
        "p50": statistics.median(delays),
        "p95": statistics.quantiles(delays, n=20)[-1],
        "p95_last": statistics.quantiles(delays[-len(delays) // 4 :], n=20)[-1],
    }


def main() -> int:
    """Runs both processes and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=30.0, help="Hz")
    parser.add_argument("--sizes", default="640x480,1280x720,1920x1080", help="WIDTHxHEIGHT, by comma")
    add_write(parser)
    parser.add_argument("--send", metavar="SIZE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send:
        send(arguments.seconds, arguments.rate, arguments.send)
        return 0
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randrange(1, 200))
    rows = []
    for size in arguments.sizes.split(","):
        options = ["--send", size, "--seconds", str(arguments.seconds), "--rate", str(arguments.rate)]
        with subprocess.Popen([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True) as sender:
            found = receive(sender)
        counts = [found[name] for name in ("sent", "received", "used", "refused", "deepest")]
        delays = (f"{found['p50']:.1f} / {found['p95']:.1f} ms", f"{found['p95_last']:.1f} ms")
        rows.append((size, *counts, f"{found['cpu']:.1%}", f"{found['sender']:.1%}", *delays))
    limit = Path("/proc/sys/net/core/rmem_max")
    lines = [
        "# Receiving a camera: rgb8 over DDS into the node",
        "",
        *table(HEADER, rows),
        *foot("cpu", "cyclonedds", "rosbags", remark="cyclonedds on both sides"),
        "Two processes, loopback, best-effort subscriber keep last 5, net.core.rmem_max "
        f"{limit.read_text().strip() if limit.is_file() else 'unknown'}.",
    ]
    publish("dds-receive", lines, arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
