"""Where the time of a silent frame and of a spoken word goes, kernel by kernel.

    python benchmarks/kernels.py [--most 15] [--graphs never] [--size full] [--write [FILE.md]]

Random weights, torch's profiler. On CUDA these are the GPU's kernels, graphs included; on a CPU torch's operators.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from decode import Speaker
from report import add_write, foot, publish, table
from segment_latency import language_alone
from sizes import add_size, describe, random_model
from torch.profiler import ProfilerActivity, profile

REPEATS = 5
TOKENS = 32


def account(
    work: Callable[[], object], cuda: bool, units: int, most: int
) -> tuple[list[tuple[str, str, str, str]], float]:
    """Rows of the largest, and the milliseconds of all of them, of one unit of work."""
    work()
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with profile(activities=activities) as found:
        for _ in range(REPEATS):
            work()
    attribute = "self_device_time_total" if cuda else "self_cpu_time_total"
    times = [(entry.key, getattr(entry, attribute) / 1e3, entry.count) for entry in found.key_averages()]
    scale = REPEATS * units
    total = float(sum(took for _, took, _ in times) / scale)
    times.sort(key=lambda entry: -entry[1])
    rows = [
        (f"`{name[:90]}`", f"{took / scale:.3f}", f"{took / scale / total:.1%}", f"{count / scale:.0f}")
        for name, took, count in times[:most]
    ]
    return rows, total


def main() -> int:
    """Prints a report, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size(parser)
    parser.add_argument("--most", type=int, default=15, help="rows of a table")
    parser.add_argument("--graphs", choices=("auto", "static", "never"), default="auto")
    parser.add_argument("--kernels", choices=("auto", "never"), default="auto")
    parser.add_argument("--context", type=int, help="cached positions (default: 4700 on CUDA, 390 on a CPU)")
    add_write(parser)
    arguments = parser.parse_args()
    cuda = torch.device(arguments.device).type == "cuda"
    torch.set_num_threads(torch.get_num_threads() if cuda else 1)
    context = arguments.context or (4700 if cuda else 390)
    settings = {"graphs": arguments.graphs, "kernels": arguments.kernels}
    with torch.inference_mode():
        model = random_model(arguments)
        works = {
            "a silent second, the language model alone": (language_alone(model, context, settings), 1),
            "a spoken word": (Speaker(model, context, TOKENS, settings).speak, TOKENS),
        }
        ways = f"graphs {arguments.graphs}, kernels {arguments.kernels}"
        lines = ["# Kernels", "", f"{describe(model, arguments)} About {context} cached positions; {ways}."]
        for name, (work, units) in works.items():
            rows, total = account(work, cuda, units, arguments.most)
            lines += ["", f"## {name}: {total:.2f} ms in all", "", *table(("what", "ms", "share", "times"), rows)]
    lines += foot(arguments.device, "triton", remark="of the words' table a part is the frame that starts the reply")
    publish("kernels", lines, arguments.write, arguments.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
