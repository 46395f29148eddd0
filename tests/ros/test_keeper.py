"""A node's memory outlives it: taken up at the next start, whole or not at all; and a node writes nothing else."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.ros.test_stress import STAND, Rig, weights
from vispeak_node.ros.keeper import FileKeeper, NoKeeper, keeper_of
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.session import Session
from vispeak_node.runtime.snapshot import load_snapshot

CONFIG = SessionConfig(memory="pyramid")

WORKER = """
import sys, time
import numpy as np
from pathlib import Path
from vispeak_node.ros.assistant import Assistant, AssistantConfig
from vispeak_node.ros.messages import Header, Image, Time
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.loading import load_session
from vispeak_node.settings import default_model_dir
session = load_session(default_model_dir(), SessionConfig(memory="pyramid"))
config = AssistantConfig(snapshot=sys.argv[1], snapshot_period=0.1)
node = Assistant(session, config, lambda *_: None)
node.start()
print("begun", session.past.memory.num_offered, flush=True)
for k in range(10**6):
    pixels = np.full(48 * 64 * 3, k % 250, np.uint8)
    node.on_image(Image(Header(Time.from_ns((1000 + k) * 10**9), ""), 48, 64, "rgb8", 0, 192, pixels))
    while node.num_waiting:
        time.sleep(0.001)
"""


def session():
    return Session(*weights(), CONFIG)


def kill_in_the_middle(path, times):
    draw, whole, refused = random.Random(1), 0, path.with_name(path.name + ".refused")
    for _ in range(times):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path)], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        assert worker.stdout.readline().startswith("begun")
        deadline = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(draw.uniform(0.1, 0.6))  # somewhere among its saves
        worker.send_signal(signal.SIGKILL)
        worker.wait(30)
        worker.stdout.close()
        load_snapshot(session(), path)
        assert not refused.exists(), "a later start met a broken file"
        whole += 1
    return whole


def test_a_kill_leaves_the_old_or_the_new_file(tmp_path):
    assert kill_in_the_middle(tmp_path / "memory.safetensors", 2) == 2


@pytest.mark.slow
def test_fifty_kills_leave_the_old_or_the_new_file(tmp_path):
    assert kill_in_the_middle(tmp_path / "memory.safetensors", 50) == 50


def test_what_cannot_be_taken_up_is_kept_aside(tmp_path, caplog):
    path = tmp_path / "memory.safetensors"
    path.write_bytes(b"no snapshot")
    FileKeeper(session(), path, 1.0).begin()
    assert not path.exists() and path.with_name("memory.safetensors.refused").read_bytes() == b"no snapshot"
    assert str(path) in caplog.text


def test_files_that_were_refused_are_not_written_over(tmp_path):
    """Trying other settings twice must not cost what the first file held; their number is bounded."""
    path, kept = tmp_path / "memory.safetensors", []
    for number in range(7):
        path.write_bytes(b"no snapshot %d" % number)
        FileKeeper(session(), path, 1.0).begin()
        kept = sorted(file.read_bytes() for file in tmp_path.iterdir())
        assert len(kept) == min(number + 1, 5)
        if number < 5:
            assert kept == [b"no snapshot %d" % earlier for earlier in range(number + 1)]
    assert b"no snapshot 6" in kept


def test_a_full_disk_is_said_once_and_stops_nothing(tmp_path, caplog):
    keeper = FileKeeper(session(), tmp_path / "missing" / "memory.safetensors", 1.0)
    for _ in range(3):
        keeper.end()
    assert caplog.text.count("cannot be written") == 1


def test_each_camera_has_its_own_file(tmp_path):
    assert isinstance(keeper_of(object(), "", "front", 1.0), NoKeeper)
    paths = {
        keeper_of(object(), str(tmp_path / "m.safetensors"), name, 1.0)._path.name for name in ("", "front", "rear")
    }
    assert paths == {"m.safetensors", "m-front.safetensors", "m-rear.safetensors"}


WATCHED = """
import sys
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[1] and set(arguments[1]) & set("wax+"):
        raise SystemExit(f"wrote {arguments[0]}")
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.system"):
        raise SystemExit(f"{event} {arguments}")
import numpy as np
from vispeak_node.ros.assistant import Assistant, AssistantConfig
from vispeak_node.ros.messages import Header, Image, String, Time
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.loading import load_session
from vispeak_node.settings import default_model_dir
session = load_session(default_model_dir(), SessionConfig(memory="pyramid"))
node = Assistant(session, AssistantConfig(), lambda *_: None)
sys.addaudithook(watch)
failed = []
import threading
threading.excepthook = lambda what: failed.append(what)
node.start()
pixels = np.zeros(48 * 64 * 3, np.uint8)
for k in range(8):
    node.on_image(Image(Header(Time.from_ns((1000 + k) * 10**9), ""), 48, 64, "rgb8", 0, 192, pixels))
node.on_query(String("What do you see?"))
while node.num_waiting:
    pass
node.stop()
assert not failed and not node.report.errors, (failed, node.report.last_error)
print("quiet", node.report.read)
"""


def test_a_node_opens_no_connection_and_writes_no_file():
    done = subprocess.run([sys.executable, "-c", WATCHED], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("quiet") and int(done.stdout.split()[1]) >= 8


def test_memory_is_taken_up_at_the_next_start(tmp_path):
    path = tmp_path / "memory.safetensors"
    first = Rig(snapshot=str(path))
    first.show(3, STAND)
    first.node.stop()
    assert path.exists()
    second = Rig(snapshot=str(path))
    second.wait(lambda: second.session.num_positions > 0)
    second.now = first.now
    second.greeted()
    second.node.stop()
