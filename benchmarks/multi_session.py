"""Several cameras on one set of weights: a second of all of them against a second of one.

    python benchmarks/multi_session.py [--sessions 4] [--rounds 50] [--write [FILE.md]]

Random weights, silent sessions, a frame and a second of sound each. The arms take turns: one session; so many, one
after the other; and the batched group (`vispeak_node.runtime.group`) where this version has one.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import sys
from collections.abc import Callable

import torch
from report import add_write, foot, publish, table
from segment_latency import open_session
from sizes import SILENT, Seconds, add_size, describe, random_model, vocabulary
from stopwatch import latency, percentile, ratio, samples

from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.config import SessionConfig

GROUP = "vispeak_node.runtime.group"


def one_by_one(model: ViSpeakModel, count: int, context: int) -> Callable[[], None]:
    """A second of each of so many sessions."""
    streams = [Seconds() for _ in range(count)]
    sessions = [open_session(model, context, stream) for stream in streams]

    def run() -> None:
        for session, stream in zip(sessions, streams, strict=True):
            for event in stream.next():
                session.push(event)

    return run


def batched(model: ViSpeakModel, count: int, context: int) -> Callable[[], None] | None:
    """A second of a group of so many streams; none if this version has no groups."""
    if importlib.util.find_spec(GROUP) is None:
        return None
    group = importlib.import_module(GROUP).SessionGroup(
        model, vocabulary(), SessionConfig(threshold=SILENT, recognition="never")
    )
    streams = {f"camera {number}": Seconds() for number in range(count)}
    for key in streams:
        group.join(key)

    def run() -> None:
        seconds = {key: stream.next() for key, stream in streams.items()}
        for index in range(2):
            group.push({key: events[index] for key, events in seconds.items()})

    for _ in range(context // (model.config.tokens_per_image + model.config.tokens_per_second + 2) + 1):
        run()
    return run


def main() -> int:
    """Prints a report, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size(parser)
    parser.add_argument("--sessions", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--rounds", type=int, help="default: 50 on CUDA, 10 on a CPU")
    parser.add_argument("--context", type=int, help="cached positions (default: 4700 on CUDA, 390 on a CPU)")
    add_write(parser)
    arguments = parser.parse_args()
    cpu = torch.device(arguments.device).type == "cpu"
    torch.set_num_threads(1 if cpu else torch.get_num_threads())
    context, note = arguments.context or (390 if cpu else 4700), ""
    with torch.inference_mode():
        model = random_model(arguments)
        works = {"1 session": one_by_one(model, 1, context)}
        for count in arguments.sessions:
            works[f"{count} sessions, one after the other"] = one_by_one(model, count, context)
            group = batched(model, count, context)
            if group is None:
                note = f"No batched arm: this version has no {GROUP}."
            else:
                works[f"{count} sessions, batched"] = group
        times = samples(works, arguments.device, arguments.rounds or (10 if cpu else 50), clock=latency)
    rows = [
        (name, f"{statistics.median(values):.2f}", f"{percentile(values, 0.99):.2f}",
         f"{ratio(values, times['1 session']):.2f}")
        for name, values in times.items()
    ]  # fmt: skip
    lines = [
        "# Several sessions on one set of weights",
        "",
        f"{describe(model, arguments)} About {context} cached positions each.",
        "",
        *table(("a silent second of", "p50, ms", "p99, ms", "times one session"), rows),
        "",
        note,
        *foot(arguments.device, remark="thread CPU time of one thread" if cpu else "wall clock"),
    ]
    publish("multi-session", lines, arguments.write, arguments.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
