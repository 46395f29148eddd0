"""Captures work as CUDA graphs, one at a time in a process, and leaves torch as it was where that fails."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Made = TypeVar("Made")

WARM_UPS = 3  # runs before a capture, as torch's documentation has it: libraries and kernels set themselves up

# The GPU allows one capture at a time, and a wait for the whole device breaks it, which torch does before each:
# sessions are opened one after the other, whichever threads open them.
opening = threading.RLock()


def capture(work: Callable[[], Made], device: torch.device, pool: Any, stream: Any) -> tuple[Any, Made]:
    """The graph, and what the captured work gave: the places to which every replay writes.

    Hold `opening` around it.

    Args:
        work: touches nothing of the host.
        device: of the graph.
        pool: a handle of memory that graphs share which never run at the same time.
        stream: on which they are captured.

    Raises:
        RuntimeError: something in the work cannot be captured.
    """
    with torch.cuda.device(device):
        current = torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                work()
        current.wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                made = work()
        except BaseException:
            # torch leaves the capture's stream in place, and its allocator in the belief that it goes on
            torch.cuda.set_stream(current)
            _end_allocation(pool)
            raise
    return graph, made


def _end_allocation(pool: Any) -> None:
    end = getattr(torch._C, "_cuda_endAllocateToPool", None)
    if end is not None:
        with contextlib.suppress(RuntimeError):  # it has ended
            end(torch.cuda.current_device(), pool)
