"""The behaviour tree: what it does after messages by hand, and as a process over DDS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ros.domains import fresh_domain
from vispeak_node.cli import main
from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.messages import Anomaly, Bool, Gesture, Header, Time
from vispeak_node.ros.topics import Delivery, TopicNames

pytest.importorskip("py_trees", reason="the behaviour tree is not installed")

from vispeak_node.ros.behaviours import WAVING, Robot

HEADER = Header(Time(1, 0), "cam")
NAMES = TopicNames()


def anomaly(name: str, active: bool = True) -> Anomaly:
    return Anomaly(HEADER, name, 1, "fall", f"{name} fell", 0.9, Time(1, 0), active)


def gesture(number: int = WAVING) -> Gesture:
    return Gesture(HEADER, number, "wave", 0.9, "")


def robot_and_log() -> tuple[Robot, list[tuple[str, str]]]:
    log: list[tuple[str, str]] = []
    return Robot(lambda branch, text: log.append((branch, text))), log


def test_idle_is_entered_once_and_again_after_an_interruption():
    robot, log = robot_and_log()
    assert [robot.tick() for _ in range(3)] == ["idle"] * 3
    robot.inbox.on_gesture(gesture())
    assert [robot.tick() for _ in range(3)] == ["greet", "idle", "idle"]
    assert log == [("idle", ""), ("greet", "wave"), ("idle", "")]


def test_stop_comes_before_warn_and_warn_before_greet():
    robot, log = robot_and_log()
    robot.inbox.on_gesture(gesture())
    robot.inbox.on_anomaly(anomaly("Ann"))
    assert [robot.tick() for _ in range(3)] == ["warn", "greet", "idle"]
    robot.inbox.on_active(Bool(True))
    robot.inbox.on_gesture(gesture())
    assert [robot.tick() for _ in range(3)] == ["stop"] * 3
    robot.inbox.on_anomaly(anomaly("Bob"))  # the words come later than the alarm
    assert robot.tick() == "stop"
    robot.inbox.on_active(Bool(False))
    assert robot.tick() == "idle"  # the wave is forgotten
    told = [("warn", "Ann fell"), ("greet", "wave"), ("idle", ""), ("stop", "the base holds still")]
    assert log == [*told, ("warn", "Bob fell"), ("idle", "")]


def test_other_gestures_and_cleared_anomalies_do_nothing():
    robot, _ = robot_and_log()
    robot.inbox.on_gesture(gesture(Gesture.CONSTANTS["POINTING"][1]))
    robot.inbox.on_anomaly(anomaly("Ann", active=False))
    assert robot.tick() == "idle"


def test_an_anomaly_without_words_is_announced_by_its_category():
    robot, log = robot_and_log()
    robot.inbox.on_anomaly(Anomaly(HEADER, "", 1, "fall", "", 0.9, Time(1, 0), True))
    robot.tick()
    assert log == [("warn", "fall")]


MESSAGES = st.one_of(
    st.booleans().map(Bool),
    st.builds(anomaly, st.sampled_from("abcdef"), st.booleans()),
    st.builds(gesture, st.sampled_from([WAVING, 0, 64])),
    st.none(),  # a tick
)


@settings(deadline=None, max_examples=150)
@given(st.lists(MESSAGES, max_size=40))
def test_any_messages_give_stop_exactly_while_active_and_every_warning_once(messages):
    robot, log = robot_and_log()
    active, raised = False, set()
    for message in messages:
        if message is None:
            stopped = robot.tick() == "stop"
            assert stopped == active
        elif isinstance(message, Bool):
            active = message.data
            robot.inbox.on_active(message)
        elif isinstance(message, Anomaly):
            raised |= {message.description} if message.active else set()
            robot.inbox.on_anomaly(message)
        else:
            robot.inbox.on_gesture(message)
    for _ in range(8):
        assert (robot.tick() == "stop") == active
    warned = [text for branch, text in log if branch == "warn"]
    assert sorted(warned) == sorted(raised)


def test_a_flood_is_bounded():
    robot, log = robot_and_log()
    for number in range(1000):
        robot.inbox.on_anomaly(anomaly(str(number)))
        robot.inbox.on_gesture(gesture())
    for _ in range(200):
        robot.tick()
    warned = [text for branch, text in log if branch == "warn"]
    assert warned == [f"{number} fell" for number in range(950, 1000)]
    assert sum(branch == "greet" for branch, _ in log) == 1


def test_without_py_trees_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "py_trees", None)
    assert main(["tree"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "vispeak_node[tree]" in line


class Lines:
    """The JSON lines of a process, read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.branches: list[tuple[str, str]] = []
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            values = json.loads(line)
            self.branches.append((values["branch"], values["text"]))

    def wait(self, *expected: tuple[str, str], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while self.branches[-len(expected) :] != list(expected):
            assert time.monotonic() < deadline, f"after {seconds} s it did only {self.branches}"
            time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_as_a_process_over_dds(number):
    pytest.importorskip("cyclonedds", reason="the DDS transport is not installed")
    domain = fresh_domain()
    environment = {"ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    command = [sys.executable, "-m", "vispeak_node", "tree", "--json"]
    with DdsNode("tests", environment) as node:
        node.advertise(NAMES.anomaly_active, Bool, Delivery.LATCHED)
        node.advertise(NAMES.anomaly, Anomaly)
        node.advertise(NAMES.gesture, Gesture)
        node.publish(NAMES.anomaly_active, Bool(True))  # before the tree is there
        with subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True) as process:
            lines = Lines(process)
            try:
                lines.wait(("stop", "the base holds still"))
                assert node.wait_for_subscribers(NAMES.anomaly, 20) and node.wait_for_subscribers(NAMES.gesture, 20)
                node.publish(NAMES.anomaly, anomaly("Ann"))
                lines.wait(("warn", "Ann fell"))
                node.publish(NAMES.anomaly_active, Bool(False))
                lines.wait(("idle", ""))
                node.publish(NAMES.gesture, gesture())
                lines.wait(("greet", "wave"), ("idle", ""))
            finally:
                process.send_signal(number)
        assert process.wait(20) == 0
