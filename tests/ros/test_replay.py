"""The same clip read from its file and played to a node over DDS: the same scores, replies and events."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.ros.test_behaviour import NAMES, READY, SOON, over_dds, wait
from vispeak_node.commands.clip import Clip
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.loading import load_session
from vispeak_node.runtime.outputs import ReplyFinished, Score
from vispeak_node.settings import default_model_dir
from vispeak_node.stream.events import SoundEvent


def test_a_clip_over_dds_is_the_clip_from_its_file():
    clip = default_model_dir() / "demo.mp4"
    session = load_session(default_model_dir(), SessionConfig())
    # the node was started without sound
    events = [event for event in Clip(clip).events() if not isinstance(event, SoundEvent)]
    expected = [output for event in events for output in session.push(event)]
    scores = [output for output in expected if isinstance(output, Score)]
    replies = [output for output in expected if isinstance(output, ReplyFinished)]
    graph = over_dds()
    try:
        variables = dict(os.environ) | {"ROS_DOMAIN_ID": str(graph.node.domain_id)}
        variables["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        command = [sys.executable, "-m", "vispeak_node", "play", str(clip), "--rate", "2"]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=READY, check=True)
        start = json.loads(done.stdout.splitlines()[0])["start"]
        last = scores[-1].stamp
        # the last tick is only certain when a later frame or nothing came; the one before it is
        wait(lambda: len(graph.told[NAMES.attention]) >= len(scores) - 1, f"scores up to {last}, within {SOON} s")
        told = graph.told[NAMES.attention]
        assert [message.header.stamp.ns - start for message in told] == [score.stamp for score in scores[: len(told)]]
        for message, score in zip(told, scores, strict=False):
            assert message.score == pytest.approx(score.score, abs=1e-5)
            assert message.total == pytest.approx(score.total, abs=1e-5)
        finished = [(reply.start, reply.text) for reply in replies if reply.end <= told[-1].header.stamp.ns - start]
        spoken = [(message.segment_start.ns - start, message.text) for message in graph.told[NAMES.response]]
        assert spoken == finished
    finally:
        graph.close()
