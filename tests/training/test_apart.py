"""A function in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vispeak_training.apart import ProcessKilledError, run_apart

BOUND = 60.0  # s


def whose(folder: Path, name: str) -> int:
    (folder / name).write_text(str(os.getpid()))
    return os.getpid()


def refuse(words: str) -> None:
    raise KeyError(words)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stay(folder: Path) -> None:
    whose(folder, "child")
    time.sleep(10 * BOUND)


def test_what_is_returned_and_raised_comes_back(tmp_path):
    child = run_apart(whose, tmp_path, name="pid")
    assert child == int((tmp_path / "pid").read_text()) != os.getpid()
    with pytest.raises(KeyError, match="no such thing"):
        run_apart(refuse, "no such thing")


def test_its_own_processes_begin_as_those_of_its_parent():
    assert run_apart(multiprocessing.get_start_method) == multiprocessing.get_start_method()


def test_a_killed_process_is_told_from_one_that_failed():
    with pytest.raises(ProcessKilledError, match="die was killed"):
        run_apart(die)


def test_it_ends_with_the_process_that_waits_for_it(tmp_path):
    code = "import sys; from pathlib import Path; from tests.training.test_apart import run_apart, stay\n"
    code += "if __name__ == '__main__': run_apart(stay, Path(sys.argv[1]))"
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2])
    try:
        child = int(_within(lambda: (tmp_path / "child").is_file() and (tmp_path / "child").read_text()))
        assert _alive(child)
    finally:
        parent.kill()
        parent.wait()
    _within(lambda: not _alive(child))


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _within(condition):
    end = time.monotonic() + BOUND
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {BOUND} s")
