"""Runs Python in a process whose Triton interprets kernels on the CPU."""

import functools
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
TRIAL = "from tests.runtime import triton_trial; triton_trial.run()"

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def run_interpreted(program):
    """Skips where this Triton's interpreter cannot even run a loop: older ones do not with numpy 2.4."""
    if not _interprets():
        pytest.skip(f"Triton {importlib.metadata.version('triton')} interprets nothing with numpy {np.__version__}")
    subprocess.run([sys.executable, "-c", program], check=True, env=_environment(), timeout=300)


@functools.cache
def _interprets():
    done = subprocess.run(
        [sys.executable, "-c", TRIAL], env=_environment(), timeout=120, capture_output=True, check=False
    )
    return done.returncode == 0


def _environment():
    return os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
