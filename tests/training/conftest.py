"""Fixtures of the stages' tests: a random checkpoint and one whole small run on it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="package")
def base(tmp_path_factory):
    """A random checkpoint; tests may not change it."""
    from tests.training.stage_worker import write_base

    return write_base(tmp_path_factory.mktemp("stages") / "base")


@pytest.fixture(scope="package")
def finished(base):
    """A whole small run with dropout, and its log; tests may not change it."""
    pytest.importorskip("peft")
    pytest.importorskip("accelerate")
    from tests.training.stage_worker import MadeUp, settings
    from vispeak_training.stages.run import run_stage

    output = base.parent / "finished"
    run_stage(settings(base, output), MadeUp(base))
    return output
