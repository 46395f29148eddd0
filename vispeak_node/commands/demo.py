"""`vispeak demo`: the shipped clip goes in at the camera topic, replies come out at /vispeak/response.

A behaviour tree on the node's topics tells what a robot would do. The node, the player, the tree and the listeners are
processes of their own that share nothing but DDS on the loopback interface, on a random domain, so that they meet no
other graph. Times are seconds from the clip's first frame.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vispeak_node.commands.plot import Said, Timeline, draw, require_matplotlib, thumbnail
from vispeak_node.settings import default_model_dir
from vispeak_node.stream.events import ImageEvent, seconds

START_SECONDS = 60.0  # for the node to load its model
QUIET_SECONDS = 4.0  # without a message after the clip's end before the demo takes it as over
READY = "ready"  # the node's word for: subscribed, and the model is loaded


_PATIENCE = 60  # s that a process has to end; a busy machine is slow


@dataclass
class Child:
    """One `vispeak` process whose output lines arrive in a queue."""

    name: str
    process: subprocess.Popen[str]
    lines: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def taken(self) -> Iterator[str]:
        """The lines that arrived since the last call."""
        with contextlib.suppress(queue.Empty):
            while True:
                yield self.lines.get_nowait()

    def stop(self) -> None:
        """Asks it to end, as Ctrl-C does, and waits; kills it if it will not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--clip", metavar="FILE", type=Path, help="another clip than the shipped one")
    parser.add_argument("--model", metavar="DIR", type=Path, help="another checkpoint than the shipped one")
    parser.add_argument("--plot", metavar="OUT.png", type=Path, default=Path("out/demo-timeline.png"))


def run(args: argparse.Namespace) -> int:
    """Plays the clip to the node; 0 if it said something, else 1.

    Raises:
        ValueError: something is missing, or a process failed.
    """
    model = args.model or default_model_dir()
    clip = args.clip or model / "demo.mp4"
    if not clip.is_file():
        raise ValueError(f"{clip}: no such file")
    require_matplotlib()
    _require_py_trees()
    # an orderly end either way, also where the shell started us with SIGINT ignored, which the children would inherit
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    args.plot.parent.mkdir(parents=True, exist_ok=True)
    scores, replies = _perform(clip, model)
    draw(_timeline(clip, scores, replies), args.plot)
    sys.stdout.write(f"timeline: {args.plot}\n")
    if not replies:
        sys.stderr.write("vispeak: the node said nothing\n")
    return 0 if replies else 1


def _perform(clip: Path, model: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Runs the processes; returns the messages of /vispeak/attention and /vispeak/response."""
    environment = _environment()
    with contextlib.ExitStack() as stack:

        def start(name: str, *arguments: str) -> Child:
            child = Child(name, _spawn(arguments, environment))
            stack.callback(child.stop)
            return child

        responses = start("listener", "listen", "/vispeak/response")
        attention = start("scores", "listen", "/vispeak/attention")
        tree = start("tree", "tree", "--json")
        node = start("node", "node", "--audio", "--model", str(model))
        _wait_until_ready(node)
        sys.stdout.write(f"playing {clip.name}\n")
        sys.stdout.flush()
        player = start("player", "play", str(clip))
        collected = _collect(player, attention, responses, tree, node)
        for child in (tree, node, responses, attention):
            child.stop()
        for child in (tree, node):  # listeners are ended by Ctrl-C, which is their only end
            _check(child)
        return collected


def _require_py_trees() -> None:
    if importlib.util.find_spec("py_trees") is None:
        raise ValueError("the demo needs py_trees: pip install 'vispeak_node[tree]'")


def _check(child: Child) -> None:
    """Raises ValueError if a process has failed."""
    code = child.process.poll()
    if code:
        raise ValueError(f"the {child.name} ended with exit code {code}")


def _environment() -> dict[str, str]:
    """A graph of our own: a random domain, and no packet leaves this machine."""
    ours = {
        "ROS_DOMAIN_ID": str(random.SystemRandom().randrange(1, 100)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOCALHOST_ONLY": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return os.environ | ours


def _spawn(arguments: tuple[str, ...], environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vispeak_node", *arguments]
    # a session of its own: Ctrl-C reaches the demo alone, which then stops its children in order
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    )


def _wait_until_ready(node: Child) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if any(READY in line for line in node.taken()):
            return
        if node.process.poll() is not None:
            raise ValueError(f"the node ended with exit code {node.process.returncode} before it was ready")
        time.sleep(0.05)
    raise ValueError(f"the node was not ready after {START_SECONDS:g} s")


def _collect(
    player: Child, attention: Child, responses: Child, tree: Child, node: Child
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Takes messages, printing replies and what the tree does, until the player has ended and all is quiet."""
    scores: list[dict[str, Any]] = []
    replies: list[dict[str, Any]] = []
    last = time.monotonic()
    while player.process.poll() is None or time.monotonic() - last < QUIET_SECONDS:
        for child in (node, tree, attention, responses):
            if child.process.poll() is not None:
                raise ValueError(f"the {child.name} ended with exit code {child.process.returncode} during the clip")
        known = len(scores) + len(replies)
        scores += [json.loads(line) for line in attention.taken()]
        for line in responses.taken():
            replies.append(json.loads(line))
            _print_reply(replies[-1], scores)
        if scores:  # only they tell when the clip began
            for line in tree.taken():
                _print_branch(json.loads(line), scores)
        if player.process.poll() is None or len(scores) + len(replies) > known:
            last = time.monotonic()
        time.sleep(0.05)
    _check(player)
    return scores, replies


def _print_reply(reply: dict[str, Any], scores: list[dict[str, Any]]) -> None:
    begin = _stamp(scores[0]["header"]["stamp"]) if scores else _stamp(reply["segment_start"])
    sys.stdout.write(f"{_stamp(reply['segment_start']) - begin:.1f}  {reply['text']}\n")
    sys.stdout.flush()


def _print_branch(line: dict[str, Any], scores: list[dict[str, Any]]) -> None:
    """What the tree entered and when, on the clip's clock; its beginning and its rests go without saying."""
    if line["branch"] == "idle":
        return
    time_ = seconds(line["stamp"]) - _stamp(scores[0]["header"]["stamp"])
    sys.stdout.write(f"tree: {time_:.1f}  {line['branch']}: {line['text']}\n")
    sys.stdout.flush()


def _stamp(time_message: dict[str, int]) -> float:
    return time_message["sec"] + time_message["nanosec"] * 1e-9


def _timeline(clip: Path, scores: list[dict[str, Any]], replies: list[dict[str, Any]]) -> Timeline:
    """What the messages tell, over the clip's frames."""
    begin = _stamp(scores[0]["header"]["stamp"]) if scores else 0.0
    timeline = Timeline(f"{clip.name}, over DDS", scores[0]["threshold"] if scores else 0.0)
    for score in scores:
        moment = (_stamp(score["header"]["stamp"]) - begin, score["total"])
        timeline.scores.append(moment)
        if score["fired"]:
            timeline.fired.append(moment)
    for reply in replies:
        start, end = _stamp(reply["segment_start"]) - begin, _stamp(reply["header"]["stamp"]) - begin
        timeline.replies.append(Said(start, end, reply["text"], reply["trigger_label"], reply["interrupted"]))
    timeline.frames = _frames(clip)
    return timeline


def _frames(clip: Path) -> list[tuple[float, Any]]:
    from vispeak_node.commands.clip import Clip  # noqa: PLC0415 - not needed by the processes

    images = [event for event in Clip(clip).events() if isinstance(event, ImageEvent)]
    return [(seconds(event.stamp - images[0].stamp), thumbnail(event.image)) for event in images]
