"""The ROS packages: interfaces equal to the dataclasses, metadata equal to pyproject.toml, files where ROS looks."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vispeak_node.ros.interfaces import PACKAGE, differing, files, main
from vispeak_node.ros.messages import OURS
from vispeak_node.ros.schema import type_hash

ROOT = Path(__file__).parent.parent.parent


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


@pytest.mark.parametrize("folder", [Path(), PACKAGE])
def test_package_files_ask_for_packages_that_rosdep_can_install(folder):
    package = ElementTree.parse(ROOT / folder / "package.xml").getroot()
    assert package.get("format") == "3"
    needed = [entry.text or "" for entry in package if entry.tag.endswith("depend")]
    assert needed and not any(name.endswith("-pip") for name in needed)


def test_what_ament_needs_is_there():
    assert (ROOT / "resource/vispeak_node").is_file()
    assert "executable = /usr/bin/env python3" in (ROOT / "setup.cfg").read_text()
    link = ROOT / "ros2_ws/src/vispeak_node"
    assert link.is_symlink() and link.resolve() == ROOT.resolve()


@pytest.mark.parametrize("name", ["assistant", "replay"])
def test_launch_files(name):
    path = ROOT / f"launch/{name}.launch.py"
    compile(path.read_text(), str(path), "exec")
    for library in ("launch", "launch_ros"):
        pytest.importorskip(library, reason="needs a sourced ROS 2 environment")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    described = {argument.name for argument in module.generate_launch_description().get_launch_arguments()}
    assert "image_topic" in described
