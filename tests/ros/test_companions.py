"""What goes along with the node: the demo's processes, the camera and the microphone as publishers, the examples."""

from __future__ import annotations

import sys

import pytest

from vispeak_node.cli import main
from vispeak_node.commands import demo

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
