"""`vispeak doctor`: what this machine can run, and what to install for more."""

from __future__ import annotations

import argparse
import ctypes.util
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    name: str
    found: str  # what there is; empty if it is missing
    gives: str  # what it is good for
    install: str = ""  # how to get it


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """The command has none of its own."""


def run(_args: argparse.Namespace) -> int:
    """Prints the findings; always 0, since what is missing may not be wanted."""
    findings = list(examine())
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark, text = ("+", finding.found) if finding.found else ("-", "missing")
        sys.stdout.write(f"{mark} {finding.name:<{width}}  {text}\n")
    sys.stdout.write("\n")
    for line in advice(findings):
        sys.stdout.write(line + "\n")
    return 0


def examine() -> Iterator[Finding]:
    """Looks at this machine; nothing is changed and nothing is sent."""
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", "everything")
    yield from _torch()
    yield from _exported_encoders()
    yield from _ros()
    yield from _senses()


def advice(findings: list[Finding]) -> Iterator[str]:
    """How the encoders will run, and what would give more."""
    found = {finding.name for finding in findings if finding.found}
    toolkits = {"tensorrt", "tensorrt-rtx"} & found
    if "cuda" in found and toolkits:
        names = " or ".join(sorted(toolkits))
        yield f"encoders: {names} engines (make them with vispeak-export all), else torch on the GPU"
    elif "cuda" in found:
        yield "encoders: torch on the GPU"
    elif "onnxruntime" in found:
        yield "encoders: ONNX graphs on the CPU (make them with vispeak-export onnx), else torch on the CPU"
    else:
        yield "encoders: torch on the CPU"
    missing = [finding for finding in findings if not finding.found and finding.install]
    if missing:
        yield "for more:"
    for finding in missing:
        yield f"  {finding.gives}: {finding.install}"


def _torch() -> Iterator[Finding]:
    import torch  # noqa: PLC0415 - slow to import

    from vispeak_node.runtime.machine import NO_GPU, gpu_name  # noqa: PLC0415

    yield Finding("torch", f"{torch.__version__}, {torch.get_num_threads()} thread(s)", "everything")
    gpu = gpu_name()
    found = "" if gpu == NO_GPU else f"{gpu}, {torch.cuda.get_device_properties(0).total_memory / 1e9:.0f} GB"
    if found and torch.version.cuda:
        found += f", CUDA {torch.version.cuda}"
    how = "an NVIDIA driver and a torch build with CUDA (pytorch.org)"
    if torch.version.cuda and not found:
        how = f"an NVIDIA driver for this torch's CUDA {torch.version.cuda}"
    yield Finding("cuda", found, "models larger than the shipped one, in real time", how)


def _exported_encoders() -> Iterator[Finding]:
    from vispeak_node.runtime.machine import INSTALL, is_installed, package_version, toolkit_version  # noqa: PLC0415

    found = ""
    if is_installed("onnxruntime"):
        import onnxruntime  # noqa: PLC0415

        found = f"{onnxruntime.__version__}: {', '.join(onnxruntime.get_available_providers())}"
    yield Finding("onnxruntime", found, "encoders as ONNX graphs", INSTALL["onnxruntime"])
    versions = [package_version("onnx"), package_version("onnxscript")]
    found = f"onnx {versions[0]}, onnxscript {versions[1]}" if all(versions) else ""
    yield Finding("onnx", found, "writing ONNX graphs", "pip install 'vispeak_node[export]'")
    for module, name in (("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx")):
        version = toolkit_version(module) if is_installed(module) else "none"
        gives = f"encoders as {'TensorRT' if module == 'tensorrt' else 'TensorRT-RTX'} engines"
        yield Finding(name, "" if version == "none" else version, gives, INSTALL[module])


def _ros() -> Iterator[Finding]:
    from vispeak_node.runtime.machine import is_installed, package_version  # noqa: PLC0415

    version = package_version("cyclonedds") or ""
    yield Finding("cyclonedds", version, "a ROS 2 graph without a ROS installation", "docs/install.md")
    found = "found" if is_installed("rclpy") else ""
    yield Finding("rclpy", found, "a ROS 2 node with life cycle and parameters", "ROS 2 (docs.ros.org), then source it")


def _senses() -> Iterator[Finding]:
    from vispeak_node.runtime.machine import package_version  # noqa: PLC0415

    version, how = package_version("sounddevice") or "", "pip install 'vispeak_node[live]'"
    if version and platform.system() == "Linux" and not ctypes.util.find_library("portaudio"):
        version, how = "", "apt install libportaudio2 (sounddevice is here, its library is not)"
    yield Finding("sounddevice", version, "this machine's microphone", how)
    extras = (("mujoco", "rendering clips", "theatre"), ("peft", "training with LoRA", "train"))
    for package, gives, extra in extras:
        yield Finding(package, package_version(package) or "", gives, f"pip install 'vispeak_node[{extra}]'")
    speaker = shutil.which("espeak-ng") or ""
    yield Finding("espeak-ng", speaker, "synthetic voices for training clips", "apt install espeak-ng")
    library = ctypes.util.find_library("EGL") or ""
    yield Finding("EGL", library, "rendering clips without a screen", "apt install libegl1")
