"""What goes along with the node: the demo's processes, the camera and the microphone as publishers, the examples."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from ruamel.yaml import YAML

from tests.ros.domains import fresh_domain
from vispeak_node.cli import main
from vispeak_node.commands import demo
from vispeak_node.ros import camera, microphone
from vispeak_node.ros.images import decompress, to_rgb
from vispeak_node.ros.listen import kind_of, known_topics
from vispeak_node.ros.messages import AudioDataStamped, AudioInfo, CompressedImage, Image
from vispeak_node.ros.sound import check_info, to_samples
from vispeak_node.stream.items import FrameItem, SoundItem

NEVER = threading.Event()
SECOND = 1_000_000_000


class FakeNode:
    """Keeps what is published."""

    def __init__(self):
        self.sent = []

    def publish(self, topic, message):
        self.sent.append((topic, message))


def refuse(capsys, *argv):
    assert main([str(word) for word in argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# --- the demo


@pytest.mark.slow
def test_the_demo_fails_if_one_of_its_processes_does(monkeypatch, tmp_path, capsys):
    pytest.importorskip("cyclonedds", reason="the DDS transport is not installed")
    spawn, broken = demo._spawn, [sys.executable, "-c", "raise SystemExit(3)"]

    def spawn_with_a_broken_tree(arguments, environment):
        if arguments[0] != "tree":
            return spawn(arguments, environment)
        return demo.subprocess.Popen(broken, stdout=demo.subprocess.PIPE, text=True)

    monkeypatch.setattr(demo, "_spawn", spawn_with_a_broken_tree)
    assert main(["demo", "--plot", str(tmp_path / "out.png")]) == 2
    assert "the tree ended with exit code 3" in capsys.readouterr().err


def test_the_demo_without_py_trees_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["demo", "--plot", str(tmp_path / "out.png")]) == 2
    assert "vispeak_node[tree]" in capsys.readouterr().err


# --- the camera

PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def show(items, jpeg=False, fps=0.0, size=(0, 0)):
    node = FakeNode()
    shown = camera.Camera(node, "/cam", jpeg, fps, size, "frame")
    shown.show(items, NEVER)
    assert shown.count == len(node.sent)
    return node.sent


def test_frames_become_raw_messages():
    ((topic, message),) = show([FrameItem(3 * SECOND + 7, lambda: PICTURE), SoundItem(0, np.zeros(3, np.int16), 8000)])
    assert topic == "/cam" and isinstance(message, Image)
    assert (message.header.stamp.ns, message.header.frame_id) == (3 * SECOND + 7, "frame")
    assert np.array_equal(to_rgb(message), PICTURE)


def test_frames_become_jpeg_messages():
    ((topic, message),) = show([FrameItem(1, np.full((40, 60, 3), 90, np.uint8))], jpeg=True)
    assert topic == "/cam/compressed" and isinstance(message, CompressedImage)
    assert np.abs(decompress(message).astype(int) - 90).max() <= 3


@pytest.mark.parametrize(
    ("size", "shape"), [((3, 0), (2, 3)), ((0, 2), (2, 3)), ((5, 5), (5, 5)), ((0, 0), (4, 6)), ((1, 0), (1, 1))]
)
def test_frames_in_another_size(size, shape):
    ((_, message),) = show([FrameItem(1, PICTURE)], size=size)
    assert (message.height, message.width) == shape


@pytest.mark.parametrize(
    ("fps", "rate", "expected"), [(10, 30, 20), (10, 10, 20), (15, 10, 20), (10, 25, 20), (0, 30, 60)]
)
def test_the_rate_is_kept_on_average(fps, rate, expected):
    jitter = np.random.default_rng(1).integers(-3_000_000, 3_000_000, 2 * rate)
    stamps = [SECOND + k * SECOND // rate + int(jitter[k]) for k in range(2 * rate)]
    assert abs(len(show([FrameItem(stamp, PICTURE) for stamp in stamps], fps=fps)) - expected) <= 2


def test_a_broken_frame_is_left_out(caplog):
    def broken():
        raise ValueError("no picture")

    assert len(show([FrameItem(1, broken), FrameItem(2, PICTURE)])) == 1
    assert "no picture" in caplog.text


def test_asked_to_stop_it_stops():
    stop, node = threading.Event(), FakeNode()

    def endless():
        for stamp in range(1_000_000):
            if stamp == 5:
                stop.set()
            yield FrameItem(stamp, PICTURE)

    camera.Camera(node, "/cam", False, 0.0, (0, 0), "").show(endless(), stop)
    assert len(node.sent) == 5


def test_stamps_that_jump_do_not_make_it_wait():
    items = [FrameItem(stamp, PICTURE) for stamp in (0, 10_000 * SECOND, 10_000 * SECOND + 1, 5)]
    assert len(list(camera.paced(items, NEVER, longest=2.0))) == 4


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["none.mp4"], "none.mp4"),
        (["ftp://host/x"], "ftp:// is no camera's address"),
        (["http://user:secret@127.0.0.1:9/x"], "127.0.0.1:9/x: the camera cannot be opened"),
        (["/dev/video99"], "/dev/video99"),
        (["--fps", "-1"], "--fps"),
        (["--width", "100000"], "--width"),
        (["--jpeg", "--raw"], "--raw"),
    ],
)
def test_a_camera_that_is_none_is_one_line(capsys, argv, words):
    line = refuse(capsys, "camera", *argv)
    assert words in line and "secret" not in line


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.parametrize("over_http", [False, True])
def test_a_file_is_a_camera_over_dds(clip, over_http):
    pytest.importorskip("cyclonedds", reason="the DDS transport is not installed")
    domain = fresh_domain()
    environment = os.environ | {"ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    start = [sys.executable, "-m", "vispeak_node"]
    listen = [*start, "listen", "/cam/compressed", "--type", "sensor_msgs/CompressedImage", "--count", "2"]
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=clip.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    source = f"http://127.0.0.1:{server.server_port}/{clip.name}" if over_http else str(clip)
    show_ = [*start, "camera", source, "--topic", "/cam", "--jpeg", "--width", "48"]
    options = {"env": environment, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*listen, "--timeout", "60"], **options) as listener:
        # a player that begins before the listener is there is played again
        for _ in range(5):
            with subprocess.Popen(show_, **options) as player:
                assert player.stdout.readline().startswith("publishing")
                assert player.wait(60) == 0
            if listener.poll() is not None:
                break
        assert listener.wait(60) == 0
        lines = [json.loads(line) for line in listener.stdout]
    server.shutdown()
    server.server_close()
    assert [line["format"] for line in lines] == ["jpeg", "jpeg"]
    assert lines[0]["header"]["frame_id"] == "camera_optical_frame" and lines[0]["header"]["stamp"]["sec"] > 1.6e9


# --- the microphone

INPUTS = [(0, "HDA Intel: ALC257 (hw:0,0)"), (4, "USB Microphone"), (7, "USB Microphone Pro")]


def test_sound_becomes_messages_with_its_format_first():
    node = FakeNode()
    chunks = [SoundItem(SECOND + k * SECOND // 10, np.full(1600, k / 10, np.float32), 16_000) for k in range(5)]
    microphone.Ear(node, "/a", "/i", "mic").hear([*chunks, SoundItem(9, np.zeros(0, np.float32), 16_000)], NEVER)
    (topic, info), *sound = node.sent
    assert topic == "/i" and isinstance(info, AudioInfo) and (info.channels, info.sample_rate) == (1, 16_000)
    check_info(info)
    assert len(sound) == 5
    for number, (topic, message) in enumerate(sound):
        assert topic == "/a" and isinstance(message, AudioDataStamped)
        assert message.header.stamp.ns == SECOND + number * SECOND // 10
        samples = to_samples(message, info)
        assert samples.shape == (1600, 1) and abs(int(samples[0, 0]) - number * 3276.7) < 1


def test_the_format_is_told_again_for_late_readers(monkeypatch):
    clock = iter(np.arange(0, 100, 0.4))
    monkeypatch.setattr(microphone, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    node = FakeNode()
    items = [SoundItem(k, np.zeros(160, np.float32), 16_000) for k in range(10)]
    microphone.Ear(node, "/a", "/i", "").hear(items, NEVER)
    assert sum(topic == "/i" for topic, _ in node.sent) == 4  # at 0, 1.2, 2.4 and 3.6 s


@pytest.mark.parametrize(("wanted", "number"), [("4", 4), ("alc257", 0), ("USB Microphone", 4), ("pro", 7)])
def test_devices_by_name(wanted, number):
    assert microphone.find_device(wanted, INPUTS) == number


@pytest.mark.parametrize(("wanted", "words"), [("usb", "more than one"), ("webcam", "no such input"), ("99", "7 USB")])
def test_devices_that_cannot_be_told(wanted, words):
    with pytest.raises(ValueError, match=words):
        microphone.find_device(wanted, INPUTS)


def test_the_list_of_inputs(monkeypatch, capsys):
    found = [{"name": "Speaker", "max_input_channels": 0}, {"name": "USB Microphone", "max_input_channels": 2}]
    fake = SimpleNamespace(query_devices=lambda: found, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    assert main(["microphone", "--list"]) == 0
    assert capsys.readouterr().out == "  1  USB Microphone\n"


def test_a_camera_before_a_topic_leaves_its_type_known():
    usual = known_topics()["/vispeak/response"].kind
    assert kind_of("/front/vispeak/response", None) is kind_of("vispeak/response", None) is usual
    with pytest.raises(ValueError, match="add --type"):
        kind_of("/front/other/response", None)


@pytest.mark.parametrize("argv", [["--list"], ["--device", "x"], []])
def test_without_sounddevice_it_says_what_to_install(monkeypatch, capsys, argv):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert "vispeak_node[live]" in refuse(capsys, "microphone", *argv)


# --- the examples

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.xml")), ids=lambda path: path.name)
def test_example_trees_are_xml(path):
    root = ElementTree.parse(path).getroot()
    trees = {tree.get("ID") for tree in root.iter("BehaviorTree")}
    assert root.get("BTCPP_format") == "4" and root.get("main_tree_to_execute") in trees
    assert {tree.get("ID") for tree in root.iter("SubTree")} <= trees


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.json")), ids=lambda path: path.name)
def test_example_layouts_are_json(path):
    layout = json.loads(path.read_text())
    shown = layout["layout"]

    def leaves(node):
        return [node] if isinstance(node, str) else [*leaves(node["first"]), *leaves(node["second"])]

    assert sorted(leaves(shown)) == sorted(layout["configById"])


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_example_scripts_are_python(path):
    compile(path.read_text(), str(path), "exec")


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.rviz")), ids=lambda path: path.name)
def test_example_displays_are_yaml(path):
    displays = YAML(typ="safe").load(path.read_text())["Visualization Manager"]["Displays"]
    assert all(display["Class"].startswith("rviz_default_plugins/") for display in displays)


def test_examples_name_topics_that_exist():
    known = set(known_topics())
    texts = [path.read_text() for path in EXAMPLES.rglob("*") if path.is_file()]
    assert texts
    for text in texts:
        assert set(re.findall(r"/(?:vispeak|camera)/[a-z_/]+[a-z]", text)) <= known
