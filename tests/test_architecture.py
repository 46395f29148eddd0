"""The parts import each other in one direction only, and files stay small and named after what they hold."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "vispeak_node": ROOT / "vispeak_node",
    "vispeak_training": ROOT / "training" / "vispeak_training",
    "vispeak_export": ROOT / "export" / "vispeak_export",
}
PATHS = [path for place in PACKAGES.values() for path in sorted(place.rglob("*.py"))]
FILES = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in PATHS]

# what each part may import besides itself; the top-level files belong to no part and are listed by name
ALLOWED = {
    "vispeak_node": set(),
    "vispeak_node.settings": set(),
    "vispeak_node.stream": set(),
    "vispeak_node.model": set(),
    "vispeak_node.runtime": {"vispeak_node.model", "vispeak_node.stream"},
    "vispeak_node.ros": {"vispeak_node.runtime", "vispeak_node.stream", "vispeak_node.settings", "vispeak_node"},
    "vispeak_node.commands": {
        "vispeak_node.ros",
        "vispeak_node.runtime",
        "vispeak_node.model",
        "vispeak_node.stream",
        "vispeak_node.settings",
    },
    "vispeak_node.cli": {"vispeak_node"},
    "vispeak_node.__main__": {"vispeak_node.cli"},
    # validation asks whether a session decides the same with the exported encoders
    "vispeak_export": {"vispeak_node.model", "vispeak_node.runtime", "vispeak_node.stream", "vispeak_node.settings"},
    "vispeak_training": {"vispeak_node.model", "vispeak_node.runtime", "vispeak_node.stream", "vispeak_node.settings"},
}
FOREIGN = {  # parts that must not know these libraries
    "vispeak_node.stream": {"torch", "cyclonedds", "rclpy", "rosbags"},
    "vispeak_node.model": {"cyclonedds", "rclpy", "rosbags", "av"},
    "vispeak_node.runtime": {"cyclonedds", "rclpy", "rosbags", "av"},
    "vispeak_training": {"cyclonedds", "rclpy"},
}


def part_of(module: str) -> str:
    """The longest listed part that a dotted name lies in."""
    fitting = [part for part in ALLOWED if module == part or module.startswith(part + ".")]
    return max(fitting, key=len, default="")


def module_of(path: Path) -> str:
    for name, place in PACKAGES.items():
        if path.is_relative_to(place):
            parts = path.relative_to(place).with_suffix("").parts
            return ".".join([name, *(part for part in parts if part != "__init__")])
    raise AssertionError(path)


def imports_of(path: Path) -> set[str]:
    """Dotted names that a file imports, at its top or anywhere inside."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES)
def test_imports_run_one_way(path: Path) -> None:
    part = part_of(module_of(path))
    allowed = ALLOWED[part] | {part}
    for name in imports_of(path):
        target = part_of(name)
        assert not target or target in allowed, f"{part} must not import {name}"
        assert name.partition(".")[0] not in FOREIGN.get(part, set()), f"{part} must not know {name}"


@pytest.mark.parametrize("path", FILES)
def test_files_are_small_and_named(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
    assert path.stem not in {"utils", "util", "helpers", "misc", "common"}
    assert ast.get_docstring(ast.parse(path.read_text())), "a file says what lives in it"


@pytest.mark.parametrize("path", FILES)
def test_libraries_do_not_print(path: Path) -> None:
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    assert not [call.lineno for call in calls if isinstance(call, ast.Name) and call.id == "print"]


def test_every_module_belongs_to_a_part() -> None:
    names = [module_of(path) for path in PATHS]
    strays = [name for name in names if part_of(name) == "vispeak_node" and name != "vispeak_node"]
    assert not strays
