"""A stream's 10,000th segment against its 100th: time, bytes, and growth of the process.

    python benchmarks/long_run.py [--write [FILE.md]]

Two sessions on the same weights, one young and one old, take the same events in turn: one thread, thread CPU time,
medians of the ratios of neighbours. Both windows are full: it is the age that differs. The process's growth is its
resident memory from the old session's segment 2,000 on, beside that of a loop that only makes the same events, both
over the same number of segments.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from report import add_write, foot, publish, table

from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import ImageEvent, SoundEvent, nanoseconds

TINY = Path(__file__).parent.parent / "models/vispeak-tiny"
OLD = 10_000  # segments
YOUNG = 100  # segments
SETTLED = 2_000  # segments after which the process should not grow any more
SECONDS = 16  # of distinct pictures and sound, repeated


class Stream:
    """A frame and a second of sound, in turn, for ever."""

    def __init__(self) -> None:
        dice = np.random.default_rng(0)
        self._frames = [dice.integers(0, 255, (120, 160, 3), dtype=np.uint8) for _ in range(SECONDS)]
        self._sounds = [dice.normal(0, 0.1, 16_000).astype(np.float32) for _ in range(SECONDS)]

    def event(self, number: int) -> ImageEvent | SoundEvent:
        second, is_sound = divmod(number, 2)
        if is_sound:
            return SoundEvent(nanoseconds(second) + 1, self._sounds[second % SECONDS].copy())
        return ImageEvent(nanoseconds(second), self._frames[second % SECONDS].copy(), nanoseconds(second))


def resident() -> float:
    """MiB of this process."""
    gc.collect()
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 2**20


def timed(session: Session, stream: Stream, number: int) -> float:
    """Seconds of CPU for one segment."""
    event = stream.event(number)
    begin = time.thread_time()
    session.push(event)
    return time.thread_time() - begin


def measure(memory: str, window: int, rounds: int, old_age: int) -> dict[str, float]:
    """Ratio of old to young, bytes, growth."""
    model, words = load_model(TINY), Vocabulary.from_folder(TINY)
    # silent throughout: the measure is of what happens at every segment
    config = SessionConfig(threshold=100.0, memory=memory, window_positions=window, reply_positions=128)
    stream, old = Stream(), Session(model, words, config)
    sizes = set()
    marks: dict[int, float] = {}
    for number in range(old_age + SETTLED):
        old.push(stream.event(number))
        if number in (SETTLED, old_age + SETTLED - 1):
            marks[number] = resident()
        if number >= SETTLED and number % 500 == 0:
            sizes.add((old._context.cache.num_bytes, old.past.memory.num_bytes))
    growth = marks[old_age + SETTLED - 1] - marks[SETTLED]
    idle = _idle_growth(stream, old_age)
    times: list[tuple[float, float]] = []
    young = Session(model, words, config)
    for number in range(YOUNG):
        young.push(stream.event(number))
    age, at = YOUNG, old_age + SETTLED
    for _ in range(rounds):
        # both take the same kind of event; who goes first alternates
        if age % 4 < 2:
            first, second = timed(old, stream, at), timed(young, stream, age)
        else:
            second, first = timed(young, stream, age), timed(old, stream, at)
        times.append((first, second))
        age, at = age + 1, at + 1
    pairs = [(times[i][0] + times[i + 1][0], times[i][1] + times[i + 1][1]) for i in range(0, len(times) - 1, 2)]
    return {
        "ratio": statistics.median(a / b for a, b in pairs),
        "old": statistics.median(a for a, _ in pairs) * 1e3,
        "young": statistics.median(b for _, b in pairs) * 1e3,
        "growth": growth,
        "idle": idle,
        "cache": old._context.cache.num_bytes / 2**20,
        "memory": old.past.memory.num_bytes / 2**20,
        "constant": float(len(sizes) == 1),
        "left": old.num_left,
    }


def _idle_growth(stream: Stream, segments: int) -> float:
    """MiB that a loop grows by which makes the same events and does nothing with them."""
    begin = resident()
    for number in range(segments):
        stream.event(number)
    return resident() - begin


def main() -> int:
    """Prints a table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300, help="segments that are timed for each age")
    parser.add_argument("--segments", type=int, default=OLD, help="age of the old stream")
    parser.add_argument("--window", type=int, default=400, help="positions of the window")
    parser.add_argument("--memory", nargs="+", default=["none", "pyramid"])
    add_write(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    header = (
        "memory",
        "a second when young, CPU ms",
        "when old, CPU ms",
        "ratio",
        "cache MiB",
        "memory MiB",
        "constant",
    )
    rows = []
    for memory in arguments.memory:
        found = measure(memory, arguments.window, arguments.rounds, arguments.segments)
        times = (f"{found['young']:.2f}", f"{found['old']:.2f}", f"{found['ratio']:.3f}")
        sizes = (f"{found['cache']:.2f}", f"{found['memory']:.2f}", "yes" if found["constant"] else "NO")
        rows.append((memory, *times, *sizes, f"{found['growth']:+.2f}", f"{found['idle']:+.2f}"))
    lines = [
        f"# A stream after {arguments.segments} segments against one after {YOUNG}",
        "",
        *table((*header, "process growth MiB", "an empty loop's"), rows),
        *foot("cpu", remark="one thread, thread CPU time, interleaved, medians: only the ratios carry over"),
        f"vispeak-tiny, a window of {arguments.window} positions, a frame and a second of sound in turn, silent.",
    ]
    publish("long-run", lines, arguments.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
