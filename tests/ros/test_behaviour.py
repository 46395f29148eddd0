"""What a node does, whatever carries its messages: in this process, over DDS from another process, over rclpy.

The node is the whole one, with the shipped checkpoint. The rclpy half needs a sourced ROS 2 with the messages built
and rmw_cyclonedds_cpp; this process then talks to it over plain DDS, as any peer would.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections import defaultdict

import numpy as np
import pytest

from tests.ros.domains import fresh_domain
from vispeak_node.ros.assistant import Assistant, AssistantConfig
from vispeak_node.ros.messages import Bool, Header, Image, State, String, Time
from vispeak_node.ros.topics import RELATIVE, TopicNames, inputs, outputs
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.settings import default_model_dir
from vispeak_node.stream.events import NANOSECONDS as SECOND

NAMES = TopicNames()
START = 1000 * SECOND
READY = 90.0  # s for a process to import its libraries and load the model
SOON = 30.0  # s for anything else


def no_rclpy() -> str | None:
    """Why the rclpy half cannot run here."""
    for package in ("rclpy", "vispeak_msgs", "lifecycle_msgs"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed: source a ROS 2 workspace in which vispeak_msgs was built"
    return None


class InProcess:
    """The logic alone."""

    def __init__(self) -> None:
        from vispeak_node.runtime.loading import load_session

        self.told = defaultdict(list)
        session = load_session(default_model_dir(), SessionConfig())
        self.assistant = Assistant(session, AssistantConfig(), lambda name, message: self.told[name].append(message))
        self.assistant.start()
        self.handlers = self.assistant.handlers()

    def send(self, topic: str, message: object) -> None:
        self.handlers[topic](message)

    def close(self) -> None:
        self.assistant.stop()


class Peer:
    """Another process, and this one as its DDS peer."""

    def __init__(self, command: list[str]) -> None:
        from vispeak_node.ros.dds import DdsNode

        environment = {"ROS_DOMAIN_ID": fresh_domain(), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        variables = (
            dict(os.environ) | environment | {"OMP_NUM_THREADS": "1", "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}
        )
        self.told = defaultdict(list)
        self.node = DdsNode("peer", environment)
        for topic in outputs(NAMES):
            self.node.subscribe(
                topic.name, topic.kind, self.told[topic.name].append, lambda *what: None, topic.delivery
            )
        for topic in inputs(NAMES, audio=False):
            self.node.advertise(topic.name, topic.kind)
        self.node.start()
        self.process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for topic in (NAMES.image, NAMES.query):
            if not self.node.wait_for_subscribers(topic, READY):
                pytest.fail(f"nobody subscribed to {topic}; the node says: {self.close()}")

    def send(self, topic: str, message: object) -> None:
        self.node.publish(topic, message)

    def close(self) -> str:
        """Ends the node; returns what it had to say."""
        self.process.terminate()
        _, said = self.process.communicate(timeout=SOON)
        self.node.close()
        return str(said, errors="replace")


def over_dds() -> Peer:
    pytest.importorskip("cyclonedds", reason="the DDS transport is not installed")
    return Peer([sys.executable, "-m", "vispeak_node", "node"])


def over_rclpy() -> Peer:
    reason = no_rclpy()
    if reason:
        pytest.skip(reason)
    remapped = []
    for field in vars(RELATIVE):
        remapped += ["-r", f"{getattr(RELATIVE, field)}:={getattr(NAMES, field)}"]
    return Peer([sys.executable, "-m", "vispeak_node.ros.ros2", "--ros-args", *remapped])


@pytest.fixture(scope="module", params=[InProcess, over_dds, over_rclpy], ids=["in-process", "dds", "rclpy"])
def graph(request):
    made = request.param()
    made.second = 0
    yield made
    made.close()


def wait(condition, what):
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, f"not within {SOON} s: {what}"
        time.sleep(0.005)


def show(graph, seconds, **change):
    """Grey frames, four a second; returns the stamps that a node at one frame a second reads."""
    stamps = []
    for _ in range(seconds):
        for quarter in range(4):
            stamp = START + graph.second * SECOND + quarter * SECOND // 4
            fields = {"height": 112, "width": 112, "encoding": "rgb8", "is_bigendian": 0, "step": 336}
            fields |= {"data": np.full(112 * 336, 90, np.uint8)} | change
            graph.send(NAMES.image, Image(Header(Time.from_ns(stamp), "optical"), **fields))
            time.sleep(0.01)  # best effort: a burst may overrun the reader's five places
        stamps.append(START + graph.second * SECOND)
        graph.second += 1
    return stamps


def test_every_second_is_scored_with_the_stamp_and_frame_of_its_input(graph):
    begin = len(graph.told[NAMES.attention])
    stamps = show(graph, 4)
    wait(lambda: len(graph.told[NAMES.attention]) - begin >= 4, "four scores")
    found = graph.told[NAMES.attention][begin:]
    assert [message.header.stamp.ns for message in found] == stamps
    assert {message.header.frame_id for message in found} == {"optical"}
    assert all(0 <= message.score <= 1 and message.threshold > 0 for message in found)


def test_a_question_is_answered_whole_and_in_pieces(graph):
    show(graph, 2)
    begin = len(graph.told[NAMES.response])
    graph.send(NAMES.query, String("What do you see?"))
    wait(lambda: len(graph.told[NAMES.response]) > begin, "a response")
    response = graph.told[NAMES.response][begin]
    assert response.is_final and response.trigger == response.CONSTANTS["TRIGGER_QUERY"][1] and response.text
    wait(lambda: String(response.text) in graph.told[NAMES.response_text], "the words alone")
    pieces = [piece.text for piece in graph.told[NAMES.partial] if piece.id == response.id]
    assert "".join(pieces) == response.text


def test_a_bad_frame_is_counted_and_life_goes_on(graph):
    graph.send(NAMES.image, Image(Header(Time.from_ns(START), ""), 4, 4, "rgb8", 0, 12, np.zeros(5, np.uint8)))

    def refused():
        statuses = [status for array in graph.told[NAMES.diagnostics] for status in array.status]
        return any(pair.key.startswith("refused") for status in statuses for pair in status.values)

    wait(refused, "a diagnosis that tells of the refusal")
    begin = len(graph.told[NAMES.attention])
    show(graph, 2)
    wait(lambda: len(graph.told[NAMES.attention]) > begin, "a score after it")


def test_state_and_anomaly_are_known_to_everybody(graph):
    show(graph, 2)
    wait(lambda: graph.told[NAMES.anomaly_active] and graph.told[NAMES.state], "the latched topics")
    assert graph.told[NAMES.anomaly_active][0] == Bool(False)
    states = {message.state for message in graph.told[NAMES.state]}
    assert states <= {value for _, value in State.CONSTANTS.values()}
    wait(lambda: graph.told[NAMES.state][-1].state == State.CONSTANTS["IDLE"][1], "idle when nothing comes any more")
