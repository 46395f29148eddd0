"""How benchmarks take time: in turns, on the GPU's clock, the wall's, or this thread's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

Work = Callable[[], object]


def milliseconds(work: Work, device: str) -> float:
    """One run alone: CPU time of this thread, or the GPU's own between two events."""
    if torch.device(device).type == "cpu":
        begin = time.thread_time()
        work()
        return (time.thread_time() - begin) * 1e3
    begin_event, end_event = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin_event.record()
    work()
    end_event.record()
    torch.cuda.synchronize()
    return begin_event.elapsed_time(end_event)


def latency(work: Work, device: str) -> float:
    """What somebody who waits for it waits, ms: on a GPU wall clock until it is idle, on a CPU this thread's time.

    The wall clock of a CPU that others use too says more of them than of the work.
    """
    if torch.device(device).type == "cpu":
        return milliseconds(work, device)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) * 1e3


def samples(
    works: Mapping[str, Work],
    device: str,
    rounds: int,
    warm: int = 2,
    clock: Callable[[Work, str], float] = milliseconds,
) -> dict[str, list[float]]:
    """Milliseconds of each work in each round, taken in turns so that all share the machine's moods."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        for _ in range(warm):
            work()
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(clock(work, device))
    return times


def interleaved(works: Mapping[str, Work], device: str, rounds: int) -> dict[str, float]:
    """Median milliseconds of each, measured in turns."""
    return {name: statistics.median(values) for name, values in samples(works, device, rounds).items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed; of few values the greatest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median of the ratios of neighbours in time."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def copy_bandwidth(device: str, num_bytes: int = 0) -> float:
    """GB/s of a copy, read and write counted.

    Args:
        device: where.
        num_bytes: of the copied block; 0 is 1 GiB on a GPU and 256 MiB on a CPU.
    """
    num_bytes = num_bytes or (2**28 if torch.device(device).type == "cpu" else 2**30)
    source = torch.ones(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = samples({"copy": lambda: target.copy_(source)}, device, 20)["copy"]
    return 2 * num_bytes / statistics.median(times) / 1e6
