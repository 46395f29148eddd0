"""Real DDS on the loopback interface: two processes, raw bytes, and settings from ROS's variables."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.ros.domains import fresh_domain
from vispeak_node.ros.dds import DdsNode, configuration, domain_id, mangled
from vispeak_node.ros.messages import Header, Image, String, Time
from vispeak_node.ros.topics import Delivery

pytest.importorskip("cyclonedds", reason="the DDS transport is not installed")

SENDER = """
import sys, numpy as np
from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.messages import Header, Image, String, Time
with DdsNode("sender") as node:
    node.advertise("/t/text", String)
    node.advertise("/t/image", Image)
    assert node.wait_for_subscribers("/t/text", 20) and node.wait_for_subscribers("/t/image", 20)
    for k in range(5):
        pixels = np.full(921600, k, np.uint8)
        node.publish("/t/text", String(f"message {k} \\u2603"))
        node.publish("/t/image", Image(Header(Time(k, 1), "cam"), 480, 640, "rgb8", 0, 1920, pixels))
    node.wait_for_acknowledgement("/t/text", 5)
    node.wait_for_acknowledgement("/t/image", 5)
    sys.stdin.readline()
"""


@pytest.fixture
def environment():
    return {"ROS_DOMAIN_ID": fresh_domain(), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def wait(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.01)


def test_messages_cross_between_processes(environment):
    texts, images, bad = [], [], []
    with DdsNode("receiver", environment) as node:
        complain = lambda topic, error: bad.append((topic, error))  # noqa: E731
        node.subscribe("/t/text", String, texts.append, complain, Delivery.RELIABLE)
        node.subscribe("/t/image", Image, images.append, complain, Delivery.RELIABLE)
        node.start()
        command = [sys.executable, "-c", SENDER]
        with subprocess.Popen(command, env=os.environ | environment, stdin=subprocess.PIPE, text=True) as sender:
            try:
                wait(lambda: len(texts) == 5 and len(images) == 5)
            finally:
                sender.communicate("\n", timeout=20)
        assert sender.returncode == 0
        # a writer that leaves makes samples without data: the reader must survive them
        with DdsNode("again", environment) as second:
            second.advertise("/t/text", String)
            assert second.wait_for_subscribers("/t/text", 10)
            second.publish("/t/text", String("after"))
            wait(lambda: len(texts) == 6)
    assert [text.data for text in texts] == [*(f"message {k} \u2603" for k in range(5)), "after"]
    assert [int(image.data[0]) for image in images] == list(range(5)) and images[0].data.shape == (921_600,)
    assert images[3].header == Header(Time(3, 1), "cam") and not bad


def test_text_that_is_not_utf8_is_told_and_life_goes_on(environment, monkeypatch):
    """Cyclone itself drops bytes that cannot be the type; what it lets through is this."""
    texts, bad = [], []
    with DdsNode("receiver", environment) as node, DdsNode("sender", environment) as sender:
        node.subscribe("/t/text", String, texts.append, lambda *what: bad.append(what), Delivery.RELIABLE)
        node.start()
        sender.advertise("/t/text", String)
        assert sender.wait_for_subscribers("/t/text", 10)
        with monkeypatch.context() as patch:
            patch.setattr("vispeak_node.ros.dds.encode", lambda _: b"\0\1\0\0\4\0\0\0\xff\xfe\xfd\0")
            sender.publish("/t/text", String(""))
        sender.publish("/t/text", String("still here"))
        wait(lambda: texts == [String("still here")])
    assert len(bad) == 1 and bad[0][0] == "/t/text" and "\n" not in str(bad[0][1])


@pytest.mark.parametrize("value", ["-1", "233", "x", "1.5"])
def test_a_domain_that_is_none(value):
    with pytest.raises(ValueError, match="ROS_DOMAIN_ID"):
        domain_id({"ROS_DOMAIN_ID": value})


def test_discovery_follows_the_variables():
    assert "AllowMulticast" not in configuration({})
    for variables in ({"ROS_LOCALHOST_ONLY": "1"}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}):
        text = configuration(variables)
        assert "<AllowMulticast>false</AllowMulticast>" in text and 'address="localhost"' in text
    peers = configuration({"ROS_STATIC_PEERS": "10.0.0.5;robot.local"})
    assert 'address="10.0.0.5"' in peers and 'address="robot.local"' in peers
    with pytest.raises(ValueError, match="ROS_STATIC_PEERS"):
        configuration({"ROS_STATIC_PEERS": '"/><Evil/>'})
    with pytest.raises(ValueError, match="DISCOVERY_RANGE"):
        configuration({"ROS_AUTOMATIC_DISCOVERY_RANGE": "MOON"})


@pytest.mark.parametrize("topic", ["", "camera", "/", "//a", "/a/", "/a b", "/1a"])
def test_names_that_are_no_topic(topic):
    with pytest.raises(ValueError, match=r"topic|empty"):
        mangled(topic)


def test_a_late_subscriber_gets_the_newest_of_a_latched_topic(environment):
    with DdsNode("early", environment) as early:
        early.advertise("/t/state", String, Delivery.LATCHED)
        for number in range(5):
            early.publish("/t/state", String(str(number)))
        got = []
        with DdsNode("late", environment) as late:
            late.subscribe("/t/state", String, got.append, lambda *what: got.append(what), Delivery.LATCHED)
            late.start()
            deadline = time.monotonic() + 20
            while not got and time.monotonic() < deadline:
                time.sleep(0.01)
        assert got == [String("4")]


def test_the_graph_sees_a_node_with_its_endpoints(environment):
    """Read back as another node of the graph would: rmw_dds_common's topic, transient local."""
    from cyclonedds.core import Policy, Qos
    from cyclonedds.domain import DomainParticipant
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic
    from cyclonedds.util import duration

    from vispeak_node.ros.idl import raw_type
    from vispeak_node.ros.schema import decode
    from vispeak_node.ros.standard import ParticipantEntitiesInfo

    with DdsNode("shown", environment) as node:
        node.advertise("/t/text", String)
        node.subscribe("/t/other", String, lambda message: None, lambda *what: None)
        node.start()
        participant = DomainParticipant(node.domain_id)
        qos = Qos(Policy.Reliability.Reliable(duration(seconds=1)), Policy.Durability.TransientLocal)
        topic = Topic(participant, "ros_discovery_info", raw_type(ParticipantEntitiesInfo), qos=qos)
        reader = DataReader(participant, topic, qos=qos)
        deadline = time.monotonic() + 20
        samples = []
        while not samples and time.monotonic() < deadline:
            samples = [sample for sample in reader.take(10) if sample.sample_info.valid_data]
            time.sleep(0.01)
        info = decode(ParticipantEntitiesInfo, samples[-1].cdr)
        shown = info.node_entities_info_seq[0]
        assert (shown.node_namespace, shown.node_name) == ("/", "shown")
        assert len(shown.reader_gid_seq) == len(shown.writer_gid_seq) == 1
        assert len({gid.data.tobytes() for gid in (info.gid, *shown.reader_gid_seq, *shown.writer_gid_seq)}) == 3
        assert all(gid.data.tobytes()[:12] == info.gid.data.tobytes()[:12] for gid in shown.writer_gid_seq)


def test_nodes_come_and_go_in_one_process(environment):
    for number in range(3):
        with DdsNode(f"node{number}", environment) as node:
            node.advertise("/t/text", String)
        del node


def test_localhost_means_the_loopback_interface_and_static_peers_keep_the_network():
    local = configuration({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"})
    assert 'address="127.0.0.1"' in local and "autodetermine" not in local
    peers = configuration({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "192.0.2.7"})
    assert 'address="127.0.0.1"' in peers and "autodetermine" in peers and "192.0.2.7" in peers
    assert "NetworkInterface" not in configuration({})


def test_quality_that_does_not_fit_is_seen(environment):
    with DdsNode("mine", environment) as mine, DdsNode("other", environment) as other:
        mine.subscribe("/t/fits", String, lambda _: None, lambda *_: None, Delivery.SENSOR)
        mine.subscribe("/t/asks", String, lambda _: None, lambda *_: None, Delivery.LATCHED)
        mine.advertise("/t/gives", String, Delivery.RELIABLE)
        other.advertise("/t/fits", String)
        other.advertise("/t/asks", String, Delivery.RELIABLE)  # volatile
        other.subscribe("/t/gives", String, lambda _: None, lambda *_: None, Delivery.LATCHED)
        wait(lambda: mine.mismatches().keys() == {"/t/asks", "/t/gives"})
        assert set(mine.mismatches().values()) == {"durability"}


def test_a_partition_hears_only_itself(environment):
    from cyclonedds.core import Policy, Qos
    from cyclonedds.pub import DataWriter, Publisher

    from vispeak_node.ros.dds import _quality
    from vispeak_node.ros.idl import raw_type
    from vispeak_node.ros.schema import encode

    heard, open_to_all = [], []
    with DdsNode("mine", environment) as mine, DdsNode("other", environment) as other:
        mine.subscribe("/t/query", String, heard.append, lambda *_: None, Delivery.RELIABLE, partition="operator")
        mine.subscribe("/t/all", String, open_to_all.append, lambda *_: None, Delivery.RELIABLE)
        mine.start()
        other.advertise("/t/query", String)
        other.advertise("/t/all", String)
        qos = _quality(String, Delivery.RELIABLE)
        inside = Publisher(other._participant, Qos(Policy.Partition(["operator"])))
        writer = DataWriter(inside, other._topic("/t/query", String, qos), qos=qos)
        wait(lambda: writer.get_matched_subscriptions() and other.num_subscribers("/t/all"))
        assert not other.num_subscribers("/t/query")
        other.publish("/t/query", String("from anybody"))
        writer.write(raw_type(String)(encode(String("from the operator"))))
        other.publish("/t/all", String("to all"))
        wait(lambda: heard and open_to_all)
    assert heard == [String("from the operator")] and open_to_all == [String("to all")]
