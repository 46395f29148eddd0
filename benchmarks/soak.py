"""An hour of stream through the node over DDS at 20 times its speed, with faults and questions in between.

    python benchmarks/soak.py [--hours 1] [--rate 20] [--write [FILE.md]]

The node runs in a process of its own with the pyramid memory and a snapshot file. Every minute of stream brings the
demo clip's people, every fifth a question, every tenth a fault: pictures that are none, a camera that is away for
20 s, a stamp an hour ahead, another resolution, a storm of questions, a clock that begins again. What counts: the node
lives, its memory does not grow, nothing waits, and people who wave are greeted at the end as at the beginning.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from report import add_write, foot, publish, table
from tqdm import tqdm

from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.messages import DiagnosticArray, Header, Image, Response, String, Time
from vispeak_node.ros.topics import Delivery, TopicNames
from vispeak_node.settings import default_model_dir
from vispeak_node.stream.events import NANOSECONDS
from vispeak_node.stream.files import read_file
from vispeak_node.stream.items import FrameItem

NAMES = TopicNames()
FRAMES = 3  # a second of stream
MINUTE = 60  # s


class Soak:
    """The camera, the users and the watch."""

    def __init__(self, node: DdsNode, process: subprocess.Popen[str], rate: float) -> None:
        self._node, self._process, self._rate = node, process, rate
        self.replies: list[Response] = []
        self.health: list[DiagnosticArray] = []
        node.subscribe(NAMES.response, Response, self.replies.append, lambda *_: None, Delivery.RELIABLE)
        node.subscribe(NAMES.diagnostics, DiagnosticArray, self._note, lambda *_: None, Delivery.RELIABLE)
        node.advertise(NAMES.image, Image)
        node.advertise(NAMES.query, String)
        node.start()
        items = [item for item in read_file(default_model_dir() / "demo.mp4") if isinstance(item, FrameItem)]
        self._clip = [(item.stamp, item.image() if callable(item.image) else item.image) for item in items]
        self.stamp = time.time_ns()  # ns of the stream
        self._next = time.monotonic()

    def _note(self, message: DiagnosticArray) -> None:
        self.health[:] = [message]

    def value(self, key: str) -> str:
        """What the newest diagnosis says."""
        pairs = {pair.key: pair.value for pair in self.health[-1].status[0].values} if self.health else {}
        return pairs.get(key, "0")

    def resident(self) -> float:
        """MiB of the node."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * 4096 / 2**20

    def cpu(self) -> float:
        """s of CPU time that the node has taken."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def minute(self) -> None:
        """The clip, round and round, for a minute of stream."""
        length = self._clip[-1][0]
        for index in range(MINUTE * FRAMES):
            place = index * NANOSECONDS // FRAMES % length
            self.show(next(image for stamp, image in reversed(self._clip) if stamp <= place))

    def show(self, image: np.ndarray) -> None:
        """One frame, when its time has come."""
        self._next += 1 / FRAMES / self._rate
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next, time.monotonic() - 0.5)
        height, width = image.shape[:2]
        header = Header(Time.from_ns(self.stamp), "soak")
        self._node.publish(NAMES.image, Image(header, height, width, "rgb8", 0, 3 * width, image.reshape(-1)))
        self.stamp += NANOSECONDS // FRAMES

    def ask(self, times: int = 1) -> None:
        """A question, or a storm of them."""
        for _ in range(times):
            self._node.publish(NAMES.query, String("What do you see?"))

    def send_many(self, message: Image) -> None:
        """A message fifty times."""
        for _ in range(50):
            self.send(message)

    def send(self, message: Image) -> None:
        """A message as it is."""
        self._node.publish(NAMES.image, message)

    def faults(self) -> list[tuple[str, Callable[[], None]]]:
        """What goes wrong, one after the other."""
        small, far = np.zeros(12, np.uint8), Time.from_ns(self.stamp + 3600 * NANOSECONDS)
        return [
            ("pictures that are none", lambda: self.send_many(Image(Header(far, ""), 9, 9, "rgb8", 0, 1, small))),
            ("camera away for 20 s", lambda: self._pass(20)),
            ("a stamp an hour ahead", lambda: self.send(Image(Header(far, ""), 2, 2, "rgb8", 0, 6, small))),
            ("another resolution", lambda: [self.show(np.zeros((90, 160, 3), np.uint8)) for _ in range(20)]),
            ("300 questions", lambda: self.ask(300)),
            ("the clock begins again", lambda: self._pass(-1800)),
        ]  # fmt: skip

    def _pass(self, seconds: int) -> None:
        self.stamp += seconds * NANOSECONDS
        time.sleep(max(0.0, seconds / self._rate))


def run(hours: float, rate: float) -> list[str]:
    """The report."""
    graph = {
        "ROS_DOMAIN_ID": str(random.SystemRandom().randrange(1, 200)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    with tempfile.TemporaryDirectory() as folder:
        snapshot = Path(folder) / "memory.safetensors"
        command = [sys.executable, "-m", "vispeak_node", "node", "--memory", "pyramid", "--snapshot", str(snapshot)]
        command += ["--snapshot-period", "5", "--window-positions", "600"]
        with (
            subprocess.Popen(command, env=os.environ | graph, stdout=subprocess.PIPE, text=True) as process,
            DdsNode("soak", graph) as node,
        ):
            assert process.stdout is not None and process.stdout.readline().startswith("ready")
            try:
                soak = Soak(node, process, rate)
                node.wait_for_subscribers(NAMES.image, 30)
                began = time.monotonic()
                rows = _watch(soak, round(hours * 60))
                wall = time.monotonic() - began
                alive = process.poll() is None
            finally:
                process.terminate()
            code = process.wait(30)
        size = snapshot.stat().st_size if snapshot.exists() else 0
    return _report(rows, soak, hours, rate, wall, alive and code == 0, size)


def _watch(soak: Soak, minutes: int) -> list[tuple[int, float, int, str, str, str, str]]:
    rows = []
    for number in tqdm(range(minutes), unit="min", disable=None):
        fault = ""
        if number % 10 == 5:
            fault, cause = soak.faults()[number // 10 % 6]
            cause()
        if number % 5 == 0:
            soak.ask()
        before = len(soak.replies)
        soak.minute()
        greeted = sum(reply.trigger_label == "wave" for reply in soak.replies[before:])
        rows.append(
            (
                number,
                soak.resident(),
                greeted,
                soak.value("lag s"),
                soak.value("dropped events"),
                soak.value("state"),
                fault,
            )
        )
    return rows


def _report(
    rows: list[tuple[int, float, int, str, str, str, str]],
    soak: Soak,
    hours: float,
    rate: float,
    wall: float,
    alive: bool,
    snapshot: int,
) -> list[str]:
    settled = [row for row in rows if row[0] >= len(rows) // 6]
    first, last = settled[0][1], settled[-1][1]
    facts = [
        ("alive at the end, left cleanly", "yes" if alive else "NO"),
        (f"resident at minute {settled[0][0]} and at the end", f"{first:.1f}, {last:.1f} MiB ({last - first:+.1f})"),
        ("greetings per minute, first and last ten minutes", f"{_mean(rows[:10]):.1f}, {_mean(rows[-10:]):.1f}"),
        ("replies", len(soak.replies)),
        ("frames read, refused, late", ", ".join(soak.value(f"frames {kind}") for kind in ("used", "refused", "late"))),
        ("events dropped, deepest queue", f"{soak.value('dropped events')}, {soak.value('deepest queue')}"),
        ("model errors, hangs", f"{soak.value('model errors')}, {soak.value('model hangs')}"),
        ("context, frames remembered", f"{soak.value('context positions')}, {soak.value('frames remembered')}"),
        ("snapshot", f"{snapshot / 1024:.0f} KiB"),
    ]
    header = ("minute", "memory (MiB)", "greetings", "lag (s)", "dropped", "state", "what went wrong before")
    chosen = [row for row in rows if row[6] or row[0] % 5 == 0 or row is rows[-1]]
    return [
        f"# Soak: {hours:g} h of stream at {rate:g}x",
        "",
        *table(("", ""), facts),
        "",
        *table(header, [(row[0], f"{row[1]:.1f}", *row[2:]) for row in chosen]),
        *foot("cpu", "cyclonedds", remark=f"took {wall:.0f} s"),
    ]


def _mean(rows: list[tuple[int, float, int, str, str, str, str]]) -> float:
    return sum(row[2] for row in rows) / max(1, len(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=20.0)
    add_write(parser)
    arguments = parser.parse_args()
    publish("soak", run(arguments.hours, arguments.rate), arguments.write)


if __name__ == "__main__":
    main()
