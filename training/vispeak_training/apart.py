"""Runs a function in a process of its own: when it is done, all its memory is free again."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


class ProcessKilledError(ValueError):
    """The process was ended from outside, as when the machine's memory is used up."""


def run_apart(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Calls a function in a fresh process and waits for it.

    Args:
        function: of a module's top level; what it is given and returns has to be picklable.
        args: for it.
        kwargs: for it.

    Raises:
        ProcessKilledError: the process was killed.
        Exception: what the function raises.
    """
    context = multiprocessing.get_context("spawn")  # a fork would begin with this process' memory and locks
    ours = (logging.getLogger().level, multiprocessing.get_start_method())
    with ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=ours) as pool:
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool as error:
            raise ProcessKilledError(
                f"the process of {function.__name__} was killed, maybe for want of memory; start again, it goes on "
                "where it was"
            ) from error


def _begin(level: int, method: str) -> None:
    # a spawned process would spawn its own, too: a loader's workers would each be sent all clips, not share them
    multiprocessing.set_start_method(method, force=True)
    logging.basicConfig(level=level, format="%(message)s")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Two processes that write into one run's folder would be worse than none."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
