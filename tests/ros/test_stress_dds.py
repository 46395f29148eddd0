"""The node over DDS beside peers that flood, die, and send bytes that are no messages."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.ros.domains import fresh_domain
from vispeak_node.ros.messages import DiagnosticArray, Header, Image, Response, String, Time
from vispeak_node.ros.topics import Delivery, TopicNames
from vispeak_node.settings import default_model_dir

pytest.importorskip("cyclonedds", reason="the DDS transport is not installed")
from cyclonedds.idl import make_idl_struct, types
from cyclonedds.pub import DataWriter
from cyclonedds.topic import Topic

from vispeak_node.ros.dds import DdsNode, _quality, mangled
from vispeak_node.ros.idl import dds_name

NAMES = TopicNames()
SOON = 90  # s
VISPEAK = [sys.executable, "-m", "vispeak_node"]
CLIP = str(default_model_dir() / "demo.mp4")


class Graph:
    """A node in a process of its own, and one here that hears what it says."""

    def __init__(self):
        ours = {
            "ROS_DOMAIN_ID": fresh_domain(),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        }
        self.environment = os.environ | ours
        self.peer = DdsNode("peer", ours)
        self.replies, self.health = [], []
        self.peer.subscribe(NAMES.response, Response, self.replies.append, lambda *_: None, Delivery.RELIABLE)
        self.peer.subscribe(NAMES.diagnostics, DiagnosticArray, self.health.append, lambda *_: None, Delivery.RELIABLE)
        self.peer.advertise(NAMES.image, Image, Delivery.RELIABLE)
        self.peer.advertise(NAMES.query, String, Delivery.RELIABLE)
        self.peer.start()
        self.node = subprocess.Popen([*VISPEAK, "node"], env=self.environment, stdout=subprocess.PIPE, text=True)
        assert self.node.stdout.readline().startswith("ready")
        assert self.peer.wait_for_subscribers(NAMES.image, SOON) and self.peer.wait_for_subscribers(NAMES.query, SOON)

    def play(self, **options):
        return subprocess.Popen([*VISPEAK, "play", CLIP], env=self.environment, stdout=subprocess.DEVNULL, **options)

    def value(self, name):
        """What the newest diagnosis says, 0 if it says nothing."""
        pairs = {pair.key: pair.value for pair in self.health[-1].status[0].values} if self.health else {}
        return pairs.get(name, "0")

    def wait(self, condition):
        deadline = time.monotonic() + SOON
        while not condition():
            assert self.node.poll() is None, "the node is dead"
            assert time.monotonic() < deadline, f"it did not happen within {SOON} s"
            time.sleep(0.02)

    def close(self):
        self.node.terminate()
        code = self.node.wait(SOON)
        self.node.stdout.close()
        self.peer.close()
        assert code == 0


@pytest.fixture
def graph():
    made = Graph()
    yield made
    made.close()


def test_bytes_that_are_no_message(graph):
    """Another layout under the names of our types, and datagrams that only begin like DDS."""
    rng = random.Random(3)
    ours = {name: graph.environment[name] for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")}
    with DdsNode("stranger", ours) as stranger:
        for topic, kind, count in ((NAMES.image, Image, 40), (NAMES.query, String, 3)):
            name = dds_name(kind.NAME)
            layout = make_idl_struct(name.rpartition("::")[2], name, {"x": types.array[types.uint64, count]})
            qos = _quality(kind, Delivery.RELIABLE)
            writer = DataWriter(stranger._participant, Topic(stranger._participant, mangled(topic), layout, qos=qos))
            for _ in range(50):
                writer.write(layout(x=[rng.getrandbits(64) for _ in range(count)]))
        first = 7400 + 250 * int(ours["ROS_DOMAIN_ID"])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for port in range(first, first + 40):
                for length in (0, 1, 20, 200, 1400):
                    sender.sendto(b"RTPS\2\1\1\x10" + rng.randbytes(length), ("127.0.0.1", port))
        graph.peer.publish(NAMES.query, String("What do you see?"))
        graph.wait(lambda: int(graph.value(f"received {NAMES.query}")) >= 1)
    with graph.play() as player:
        graph.wait(lambda: any(reply.trigger_label == "wave" for reply in graph.replies))
        player.kill()


def test_a_flood_of_pictures(graph):
    pixels = np.zeros(640 * 480 * 3, np.uint8)
    begin, stop = time.time_ns(), time.monotonic() + 3
    sent = 0
    while time.monotonic() < stop:
        stamp = Time.from_ns(begin + sent * 1_000_000)
        graph.peer.publish(NAMES.image, Image(Header(stamp, "flood"), 480, 640, "rgb8", 0, 1920, pixels))
        sent += 1
    graph.wait(lambda: int(graph.value("frames in")) > 100)
    assert int(graph.value("deepest queue")) <= 16
    # the flood's stamps lie near the player's, which goes on from there
    with graph.play() as player:
        graph.wait(lambda: any(reply.trigger_label == "wave" for reply in graph.replies))
        player.kill()


def test_a_peer_that_dies_in_the_middle(graph):
    with graph.play() as player:
        graph.wait(lambda: int(graph.value("frames in")) > 10)
        player.send_signal(signal.SIGKILL)
    with graph.play() as player:
        graph.wait(lambda: any(reply.trigger_label == "wave" for reply in graph.replies))
        player.kill()
