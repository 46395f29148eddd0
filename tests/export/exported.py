"""The shipped checkpoint's encoders, exported once for all tests that want them."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import shutil
import tempfile
from pathlib import Path

import pytest

from vispeak_export.cli import main
from vispeak_node.settings import default_model_dir

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed: pip install tensorrt-rtx"
)


@functools.cache
def exported() -> Path:
    """A folder of float32 graphs, compared on the demo clip; do not change it."""
    folder = Path(tempfile.mkdtemp(prefix="vispeak-export-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    words = ["onnx", "--model", str(default_model_dir()), "--out", str(folder), "--precision", "fp32", "--inputs", "20"]
    assert main(words) == 0
    return folder


@functools.cache
def engines() -> Path:
    """The same folder copied, with engines by TensorRT-RTX beside the graphs; do not change it."""
    folder = Path(tempfile.mkdtemp(prefix="vispeak-export-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(exported(), folder, dirs_exist_ok=True)
    words = ["engine", "--model", str(default_model_dir()), "--out", str(folder), "--toolkit", "tensorrt_rtx"]
    assert main(words) == 0
    return folder
