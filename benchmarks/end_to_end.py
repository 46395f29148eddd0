"""From a frame's stamp to the first word of the reply that it caused, through segmenter and session.

    python benchmarks/end_to_end.py [--replies 50] [--ahead 1 8 64] [--write [FILE.md]]

A camera at 10 Hz and a microphone in pieces of 100 ms are played by their stamps, so that nothing waits for the wall
clock: what an event waits in the segmenter is counted in stream time (the stamp of what let it out, less the frame's),
what a session takes is measured, and both are added. Random weights; every frame is made to start a reply. Random words
have no letters in the small vocabulary: what counts is the first token after the marker. The session hands words over
when `push` returns, so all `speak_ahead` tokens are part of it. On a CPU the session's time is the CPU time of one
thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator

import numpy as np
import torch
from report import add_write, foot, publish, table
from segment_latency import open_session
from sizes import Seconds, add_size, describe, random_model
from stopwatch import latency, percentile

from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.outputs import Output, ReplyStarted
from vispeak_node.stream.events import SAMPLE_RATE, Event, ImageEvent, nanoseconds
from vispeak_node.stream.segmenter import Segmenter, SegmenterConfig

RATE = 10  # frames and pieces of sound a second
PHASE = 0.03  # s that the camera lags behind the ticks


def play(seconds: int) -> Iterator[tuple[int, Event]]:
    """Events, each with the stamp in ns at which it came out."""
    dice = np.random.default_rng(0)
    picture = dice.integers(0, 255, (480, 640, 3), dtype=np.uint8)
    piece = dice.normal(0, 0.1, SAMPLE_RATE // RATE).astype(np.float32)
    segmenter = Segmenter(SegmenterConfig(has_video=True, has_sound=True))
    for number in range(seconds * RATE):
        now, begin = nanoseconds(number / RATE + PHASE), nanoseconds(number / RATE)
        heard = nanoseconds((number + 1) / RATE)
        for event in segmenter.push_frame(now, picture):
            yield now, event
        for event in segmenter.push_sound(begin, piece, SAMPLE_RATE):
            yield heard, event  # a piece is there when its last sample is


def measure(model: ViSpeakModel, replies: int, ahead: int, context: int) -> dict[str, list[float]]:
    """Milliseconds for each reply: waiting for the tick, then the session, then both together."""
    session = open_session(
        model, context, Seconds(), threshold=1e-9, first_score_is_zero=False, refractory=0.0, speak_ahead=ahead
    )
    session.reset(0)
    times: dict[str, list[float]] = {"segmenter": [], "session": [], "stamp to first word": []}
    for now, event in play(replies + 4):
        outputs: list[Output] = []

        def push(event: Event = event, outputs: list[Output] = outputs) -> None:
            outputs.extend(session.push(event))

        took = latency(push, str(model.device))
        if not isinstance(event, ImageEvent) or not starts(outputs) or event.stamp < nanoseconds(3):
            continue  # the first seconds warm up
        waited = (now - event.frame_stamp) / 1e6
        for name, value in zip(times, (waited, took, waited + took), strict=True):
            times[name].append(value)
    return times


def starts(outputs: list[Output]) -> bool:
    """Whether a reply began."""
    return any(isinstance(output, ReplyStarted) for output in outputs)


def main() -> int:
    """Prints a report, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size(parser)
    parser.add_argument("--replies", type=int, help="for each value of --ahead (default: 200 on CUDA, 10 on a CPU)")
    parser.add_argument("--ahead", nargs="+", type=int, default=[1, 8, 64], help="tokens a push may speak ahead")
    parser.add_argument("--context", type=int, default=0, help="cached positions that the buffers were used for before")
    add_write(parser)
    arguments = parser.parse_args()
    cpu = torch.device(arguments.device).type == "cpu"
    torch.set_num_threads(1 if cpu else torch.get_num_threads())
    replies = arguments.replies or (10 if cpu else 200)
    rows = []
    with torch.inference_mode():
        model = random_model(arguments)
        for ahead in arguments.ahead:
            for name, values in measure(model, replies, ahead, arguments.context).items():
                both = (f"{statistics.median(values):.2f}", f"{percentile(values, 0.99):.2f}") if values else ("-", "-")
                rows.append((ahead, name, len(values), *both))
    lines = [
        "# From a frame's stamp to the first word",
        "",
        describe(model, arguments),
        "",
        *table(("speak_ahead", "what", "replies", "p50, ms", "p99, ms"), rows),
        *foot(arguments.device, remark="session: " + ("thread CPU time of one thread" if cpu else "wall clock")),
    ]
    publish("end-to-end", lines, arguments.write, arguments.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
