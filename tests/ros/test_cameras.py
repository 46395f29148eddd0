"""Several cameras on one node over DDS: topics of their own, one set of weights, no mixing."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.ros.domains import fresh_domain
from vispeak_node.ros.messages import Attention, DiagnosticArray, Response
from vispeak_node.ros.node import under
from vispeak_node.ros.topics import Delivery, TopicNames
from vispeak_node.settings import default_model_dir

SOON = 60  # s


def test_names_under_a_camera():
    names = TopicNames()
    assert under(names, "") == names
    front = under(names, "front")
    assert front.image == "/front/camera/image_raw" and front.response == "/front/vispeak/response"
    assert front.diagnostics == names.diagnostics


def test_each_camera_gets_its_own_replies(monkeypatch):
    pytest.importorskip("cyclonedds", reason="the DDS transport is not installed")
    from vispeak_node.ros.dds import DdsNode

    domain = fresh_domain()
    graph = {"ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    vispeak = [sys.executable, "-m", "vispeak_node"]
    heard = {camera: [] for camera in ("front", "rear")}
    scores = {camera: [] for camera in heard}
    health = []
    with DdsNode("listener", graph) as node:
        for camera, replies in heard.items():
            names = under(TopicNames(), camera)
            node.subscribe(names.response, Response, replies.append, lambda *_: None, Delivery.RELIABLE)
            node.subscribe(names.attention, Attention, scores[camera].append, lambda *_: None, Delivery.RELIABLE)
        node.subscribe("/diagnostics", DiagnosticArray, health.append, lambda *_: None, Delivery.RELIABLE)
        node.start()
        served = subprocess.Popen(
            [*vispeak, "node", "--cameras", "front,rear"], env=os.environ | graph, stdout=subprocess.PIPE, text=True
        )
        try:
            assert "/front/camera/image_raw, /rear/camera/image_raw" in served.stdout.readline()
            clip = str(default_model_dir() / "demo.mp4")
            play = [*vispeak, "play", clip, "--rate", "2", "--image-topic", "/front/camera/image_raw"]
            subprocess.run(play, env=os.environ | graph, check=True, timeout=SOON, capture_output=True)
            deadline = time.monotonic() + SOON
            while len(heard["front"]) < 2 or len({status.name for array in health for status in array.status}) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            served.terminate()
            assert served.wait(SOON) == 0
            served.stdout.close()
    assert [reply.trigger_label for reply in heard["front"]] == ["wave", "hit"]
    assert scores["front"] and not heard["rear"] and not scores["rear"]
    assert {s.name for array in health for s in array.status} == {f"vispeak: assistant {name}" for name in heard}
