"""An hour of silent seconds in one session: whether time and memory stay what they were.

    python benchmarks/steady.py [--seconds 3600] [--size full] [--write [FILE.md]]

Random weights; a frame of 640 x 480 and a second of sound each, as fast as they go. Memory is what torch holds on the
GPU, or this process on a CPU, at marks that follow each other tenfold.
"""

from __future__ import annotations

import argparse
import statistics
import sys

import torch
from long_run import resident
from report import add_write, foot, publish, table
from segment_latency import open_session
from sizes import Seconds, add_size, describe, random_model
from stopwatch import latency, percentile

from vispeak_node.model.vispeak import ViSpeakModel

NEAR = 50  # seconds around a mark whose times are compared


def held(model: ViSpeakModel) -> float:
    """MiB."""
    return torch.cuda.memory_allocated(model.device) / 2**20 if model.device.type == "cuda" else resident()


def reserved(model: ViSpeakModel) -> float:
    """MiB that torch took from the GPU, or 0."""
    return torch.cuda.memory_reserved(model.device) / 2**20 if model.device.type == "cuda" else 0.0


def measure(model: ViSpeakModel, seconds: int, context: int) -> tuple[list[float], dict[int, tuple[float, float]]]:
    """Milliseconds of every second, and memory at the marks."""
    stream = Seconds()
    session = open_session(model, context, stream)
    last = seconds - 1
    marks = {mark for mark in (min(100, last // 2), 1000, last) if mark <= last}
    times: list[float] = []
    memory: dict[int, tuple[float, float]] = {}

    def read() -> None:
        for event in stream.next():
            session.push(event)

    for second in range(seconds):
        times.append(latency(read, str(model.device)))
        if second in marks:
            memory[second] = held(model), reserved(model)
    return times, memory


def main() -> int:
    """Prints a report, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size(parser)
    parser.add_argument("--seconds", type=int, help="default: 3600 on CUDA, 300 on a CPU")
    parser.add_argument("--context", type=int, help="cached positions (default: all that a session keeps)")
    add_write(parser)
    arguments = parser.parse_args()
    cpu = torch.device(arguments.device).type == "cpu"
    torch.set_num_threads(1 if cpu else torch.get_num_threads())
    with torch.inference_mode():
        model = random_model(arguments)
        context = arguments.context or model.config.language.max_positions
        times, memory = measure(model, max(4, arguments.seconds or (300 if cpu else 3600)), context)
    rows = []
    for mark, (used, taken) in memory.items():
        near = times[max(0, mark - NEAR) : mark + 1]
        rows.append((mark, f"{statistics.median(near):.2f}", f"{used:.1f}", f"{taken:.1f}"))
    middle, most = statistics.median(times), percentile(times, 0.99)
    lines = [
        f"# {len(times)} silent seconds in one session",
        "",
        describe(model, arguments),
        "",
        *table(("second", f"p50 of the {NEAR} before, ms", "MiB held", "MiB reserved"), rows),
        "",
        f"All: p50 {middle:.2f} ms, p99 {most:.2f} ms, p99 / p50 {most / middle:.2f}.",
        *foot(arguments.device, remark="thread CPU time of one thread" if cpu else "wall clock"),
    ]
    publish("steady", lines, arguments.write, arguments.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
