"""The ROS packages: interfaces equal to the dataclasses, metadata equal to pyproject.toml, files where ROS looks."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
import sys
import types
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vispeak_node.ros import play
from vispeak_node.ros.interfaces import PACKAGE, differing, files, main
from vispeak_node.ros.messages import OURS
from vispeak_node.ros.parameters import parameters
from vispeak_node.ros.schema import type_hash
from vispeak_node.ros.topics import RELATIVE, inputs, outputs

ROOT = Path(__file__).parent.parent.parent
ROSIDL_HASHES = {  # what rosidl_generator_type_description of Jazzy makes of the committed files
    "Response": "RIHS01_324868d99df0a9dc242005c9d0433136ada891b61f6d0ae43a56cd8fbc580ce6",
    "Anomaly": "RIHS01_4be07d2e32ef10002880edf764a187cc3f53456d6d5820b7bad3155ad94aaf3e",
    "Gesture": "RIHS01_aed8fb0ca7b09b45a4013a2d61699214efcfbe608d77c736fb302bebd1aeb485",
    "Attention": "RIHS01_98f9bb533bb71e6b25c4b3e6722c4359f6b7b7953eb4f82b5adef6d4eb0b83cd",
    "State": "RIHS01_91ceb5b26611a4e757fb8b551810991c2ba3e8618af220fd538c40ea8e44ef16",
}
OPTIONAL = {"audio_common_msgs"}  # of microphones; two packages have the name


def test_generated_files_are_those_of_the_classes():
    assert differing(ROOT) == [], "run python -m vispeak_node.ros.interfaces"


def test_a_changed_file_is_named_and_written_anew(tmp_path, capsys):
    assert main(["--root", str(tmp_path)]) == 0 and differing(tmp_path) == []
    changed = next(iter(files()))
    (tmp_path / changed).write_text("string other\n")
    capsys.readouterr()
    assert main(["--root", str(tmp_path), "--check"]) == 1
    assert capsys.readouterr().out.split() == [str(changed)]


def test_the_committed_interfaces_have_the_hashes_that_we_announce():
    store = get_typestore(Stores.ROS2_JAZZY)
    for kind in OURS:
        text = (ROOT / PACKAGE / "msg" / f"{kind.__name__}.msg").read_text()
        store.register(get_types_from_msg(text, kind.NAME))
    assert {kind: store.hash_rihs01(kind.NAME) for kind in OURS} == {kind: type_hash(kind) for kind in OURS}
    assert {kind.__name__: type_hash(kind) for kind in OURS} == ROSIDL_HASHES


def test_a_constant_keeps_its_comment():
    lines = files()[PACKAGE / "msg/Response.msg"].splitlines()
    assert "uint8 TRIGGER_QUERY=0  # somebody asked" in lines and "uint8 TRIGGER_GESTURE=1" in lines


def test_interfaces_are_ascii_as_rosidl_writes_them_on_in_latin_1():
    assert [path for path, text in files().items() if not text.isascii()] == []


def test_the_action_has_three_parts_that_are_messages():
    parts = (ROOT / PACKAGE / "action/Ask.action").read_text().split("---\n")
    names = [
        [field[0] for field in get_types_from_msg(part, f"vispeak_msgs/msg/Ask{index}").popitem()[1][1]]
        for index, part in enumerate(parts)
    ]
    assert names == [["text"], ["text", "interrupted", "reply_id"], ["delta"]]


def test_cmake_lists_every_interface():
    text = (ROOT / PACKAGE / "CMakeLists.txt").read_text()
    listed = set(re.findall(r'"((?:msg|action)/\w+\.\w+)"', text))
    assert listed == {str(path.relative_to(PACKAGE)) for path in files() if path.is_relative_to(PACKAGE)}


def arguments_of_setup() -> dict[str, ast.expr]:
    tree = ast.parse((ROOT / "setup.py").read_text())
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup")
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def test_three_metadata_files_tell_the_same():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    setup = arguments_of_setup()
    assert project["name"] == package.findtext("name") == "vispeak_node"
    assert project["version"] == package.findtext("version") == ast.literal_eval(setup["version"])
    scripts = {f"{name} = {target}" for name, target in project["scripts"].items()}
    assert scripts == set(ast.literal_eval(setup["entry_points"])["console_scripts"])
    # colcon fails on what newer setuptools makes of it in pyproject.toml
    assert "requires-python" in project["dynamic"] and "requires-python" not in project
    assert ast.literal_eval(setup["python_requires"]) == ">=3.10"


@pytest.mark.parametrize("folder", [Path(), PACKAGE])
def test_package_files_ask_for_packages_that_rosdep_can_install(folder):
    package = ElementTree.parse(ROOT / folder / "package.xml").getroot()
    assert package.get("format") == "3"
    needed = [entry.text or "" for entry in package if entry.tag.endswith("depend")]
    assert needed and not any(name.endswith("-pip") for name in needed)


def test_every_ros_package_that_the_node_uses_is_a_dependency():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    needed = {entry.text for entry in package if entry.tag.endswith("depend")}
    used = {topic.kind.NAME.partition("/")[0] for topic in [*inputs(RELATIVE), *outputs(RELATIVE)]}
    for path in [ROOT / "vispeak_node/ros/ros2.py", *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                used.add((node.module or "").partition(".")[0])
    own = {"vispeak_node", "torch"}
    assert used - set(sys.stdlib_module_names) - own - OPTIONAL <= needed


def test_what_ament_needs_is_there():
    assert (ROOT / "resource/vispeak_node").is_file()
    assert "executable = /usr/bin/env python3" in (ROOT / "setup.cfg").read_text()
    link = ROOT / "ros2_ws/src/vispeak_node"
    assert link.is_symlink() and link.resolve() == ROOT.resolve()


def load_launch_file(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"launch/{name}.launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["assistant", "replay"])
def test_launch_files_describe_a_launch(name):
    for library in ("launch.actions", "launch_ros"):
        pytest.importorskip(library, reason="needs a sourced ROS 2 environment")
    described = load_launch_file(name).generate_launch_description().get_launch_arguments()
    assert "image_topic" in {argument.name for argument in described}


@pytest.fixture
def launch_file(monkeypatch):
    """Loads a launch file where there is no launch, for what it computes itself."""
    paths = [ROOT / "launch/assistant.launch.py", ROOT / "launch/replay.launch.py"]
    modules = {
        node.module
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("launch")
    }
    for module in modules:
        monkeypatch.setitem(sys.modules, module, mock.MagicMock())
    return load_launch_file


def test_launch_arguments_set_parameters_and_topics_that_the_node_has(launch_file):
    assistant = launch_file("assistant")
    defaults = {parameter.name: parameter.default for parameter in parameters()}
    assert {name: type(defaults[name]) for name in assistant.OVERRIDES} == assistant.OVERRIDES
    assert set(assistant.OVERRIDES) <= set(assistant.ARGUMENTS)
    assert [old for old, _ in assistant.image_remappings("/cam", "")] == [RELATIVE.image, RELATIVE.compressed]
    assert Path(assistant.PARAMETERS) == ROOT / "config/assistant.yaml"


def test_one_kind_of_images_or_both_are_read(launch_file):
    remapped = launch_file("assistant").image_remappings
    raw, compressed = "/cam", "/cam/compressed"
    read = {given: {new for _, new in remapped("/cam", given)} & {raw, compressed} for given in ("", "true", "false")}
    assert read == {"": {raw, compressed}, "true": {compressed}, "false": {raw}}


def test_another_python_runs_the_same_module_that_is_installed(launch_file):
    program = launch_file("assistant").program
    installed = program("")
    scripts = ast.literal_eval(arguments_of_setup()["entry_points"])["console_scripts"]
    module = dict(script.split(" = ") for script in scripts)[installed["executable"]].partition(":")[0]
    assert program("/venv/bin/python") == {"executable": "/venv/bin/python", "arguments": ["-m", module]}


@pytest.mark.parametrize("compressed", ["", "true", "false"])
def test_a_replayed_video_is_one_that_the_player_understands(launch_file, compressed):
    python, _, package, name, *rest = launch_file("replay").command(
        "walk.mp4", "2.0", "/cam", compressed, "/mic", "/venv/bin/python"
    )
    parser = argparse.ArgumentParser()
    play.add_arguments(parser)
    args = parser.parse_args(rest)
    assert (python, package, name) == ("/venv/bin/python", "vispeak_node", "play")
    assert (args.rate, args.encoding) == (2.0, "jpeg" if compressed == "true" else "rgb8")
    assert (args.image_topic, args.audio_topic, args.audio_info_topic) == ("/cam", "/mic", "/mic_info")


def test_anything_else_is_replayed_as_a_bag(launch_file):
    assert launch_file("replay").command("walk", "1.0", "/cam", "", "/mic", "")[:4] == ["ros2", "bag", "play", "walk"]
