"""`vispeak doctor`: tells what there is and what to install, and never fails."""

from __future__ import annotations

import builtins
import sys

import pytest
import torch

from vispeak_node.cli import main
from vispeak_node.commands.doctor import Finding, advice, examine

NAMES = {
    "python", "torch", "cuda", "onnxruntime", "onnx", "tensorrt", "tensorrt-rtx", "cyclonedds", "rclpy", "sounddevice",
    "mujoco", "peft", "espeak-ng", "EGL",
}  # fmt: skip


def test_doctor_is_0_and_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line[2:].split()[0]: line[0] for line in lines[: len(NAMES)]}
    assert listed.keys() == NAMES
    assert listed["python"] == listed["torch"] == "+"
    assert torch.__version__ in lines[1]
    assert any(line.startswith("encoders: ") for line in lines)


def test_what_is_missing_comes_with_a_way_to_get_it() -> None:
    assert all(finding.found or finding.install for finding in examine())


def test_a_bare_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any optional module, program or library there is still an account."""
    optional = {"onnxruntime", "onnx", "onnxscript", "tensorrt", "tensorrt_rtx", "cyclonedds", "rclpy", "sounddevice"}
    real = builtins.__import__

    def bare(name, *args, **kwargs):
        if name.partition(".")[0] in optional:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    for name in optional:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(builtins, "__import__", bare)
    monkeypatch.setattr("vispeak_node.runtime.machine.is_installed", lambda _: False)
    monkeypatch.setattr("vispeak_node.runtime.machine.package_version", lambda _: None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert text.count("\n- ") == len(NAMES) - 2
    assert "encoders: torch on the CPU" in text
    for hint in ("pip install tensorrt-rtx", "apt install espeak-ng", "vispeak_node[export]", "apt install libegl1"):
        assert hint in text


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"cuda", "tensorrt"}, "tensorrt engines"),
        ({"cuda", "onnxruntime"}, "torch on the GPU"),
        ({"onnxruntime", "tensorrt-rtx"}, "ONNX graphs on the CPU"),
        (set(), "torch on the CPU"),
    ],
)
def test_advice_is_what_auto_would_choose(found: set[str], expected: str) -> None:
    lines = list(advice([Finding(name, "here", "") for name in found]))
    assert len(lines) == 1 and expected in lines[0]
