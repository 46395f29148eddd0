"""A silent second through a session, with its encoders and without, against the published algorithm, in turns.

    python benchmarks/segment_latency.py [--rounds 200] [--size full] [--write [FILE.md]]

Random weights; on CUDA the released size in bfloat16, on a CPU a small one. A second is a frame of 640 x 480 and a
second of sound; a session reads the sound with the frame that comes next. The published algorithm, written anew: the
same encoders, then one pass and both heads at every position, on a cache that grows by concatenation, eager, over as
many cached positions. The language model alone reads what was encoded before; on CUDA by each way through its layers.
On a GPU what is measured is what one waits for (wall clock, the GPU idle before and after); on a CPU the CPU time of
one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from report import add_write, foot, publish, table
from silent_second import ConcatenatingCache, published_loop
from sizes import SILENT, Seconds, add_size, describe, random_model, vocabulary
from stopwatch import latency, percentile
from torch import Tensor

from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.encoders import Kind, Segment, SegmentEncoder
from vispeak_node.runtime.requests import Steps
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import Event, ImageEvent, SoundEvent

CPU_WAYS = {"plain": {}, "static": {"graphs": "static"}}
WAYS = {  # through the layers, on CUDA
    "graphs, kernels": {},
    "graphs, torch's layers": {"kernels": "never"},
    "no graphs": {"graphs": "never"},
}
ALONE = "the language model alone, "
NAMES = {
    "second": "a silent second, session",
    "frame": "of it the frame, and the sound before it",
    "sound": "of it the sound, its encoder only",
    "encoders": "both encoders alone, torch, eager",
    "published": "the published algorithm, with the same encoders",
    "published alone": "the published algorithm, the language model alone",
}
CHUNK = 512  # positions that fill the published arm's cache at once


def open_session(model: ViSpeakModel, context: int, stream: Seconds, **settings: object) -> Session:
    """A session that has read at least so many positions, or as many as it keeps."""
    config = SessionConfig(recognition="never", **{"threshold": SILENT, **settings})  # type: ignore[arg-type]
    session = Session(model, vocabulary(), config)
    while session.num_positions < context and not session.num_left:
        for event in stream.next():
            session.push(event)
        session.finish()
    return session


class Published:
    """The published way to read a second, encoders included."""

    def __init__(self, model: ViSpeakModel, context: int) -> None:
        self._model, self._context = model, context
        self._encoder = SegmentEncoder(model, vocabulary(), 512)
        self._pad_1D = self._encoder.embed([vocabulary().pad])
        self._cache = ConcatenatingCache()
        shape = (1, CHUNK, model.config.language.hidden_size)
        for start in range(0, context, CHUNK):
            rows = torch.randn(shape, device=model.device).to(model.dtype)[:, : context - start]
            model.forward_embeds(rows, start, self._cache, wanted=1)

    def read(self, events: tuple[ImageEvent, SoundEvent]) -> float:
        """A second; what it leaves in the cache is forgotten again."""
        rows_TD = torch.cat([self._encoder.segment(event).user_TD for event in reversed(events)])
        pad_TD = self._pad_1D.expand(len(rows_TD), -1)
        return published_loop(self._model, rows_TD, pad_TD, self._cache.fork(), self._context)

    def read_rows(self, rows_TD: Tensor) -> float:
        """The language model alone, over rows that were encoded before."""
        pad_TD = self._pad_1D.expand(len(rows_TD), -1)
        return published_loop(self._model, rows_TD, pad_TD, self._cache.fork(), self._context)

    def encode(self, events: tuple[ImageEvent, SoundEvent]) -> Tensor:
        """The encoders alone."""
        return torch.cat([self._encoder.segment(event).user_TD for event in reversed(events)])


class Encoded:
    """Stands in for a session's encoder: every frame, and every second of sound, is the same one, encoded before."""

    def __init__(self, encoder: SegmentEncoder, events: tuple[ImageEvent, SoundEvent]) -> None:
        self._encoder = encoder
        self._segments = {segment.kind: segment for segment in map(encoder.segment, events)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encoding(self, event: Event) -> Steps[Segment]:
        kind = Kind.IMAGE if isinstance(event, ImageEvent) else Kind.SOUND
        return dataclasses.replace(self._segments[kind], stamp=event.stamp)
        yield  # a generator, as the encoder's own


def language_alone(model: ViSpeakModel, context: int, settings: dict[str, str]) -> Callable[[], None]:
    """Reads a second whose encoders ran before."""
    stream = Seconds()
    session = open_session(model, context, stream, **settings)
    session._encoder = Encoded(session._encoder, stream.next())  # type: ignore[assignment]

    def read() -> None:
        for event in stream.next():
            session.push(event)

    return read


def measure(model: ViSpeakModel, rounds: int, every: int, context: int) -> dict[str, list[float]]:
    """Milliseconds: of whole seconds, of their two events, of their parts alone, and of the published way."""
    device, stream = str(model.device), Seconds()
    session = open_session(model, context, stream)
    published = Published(model, session.num_positions)
    rows_TD = published.encode(stream.next())
    ways = WAYS if model.device.type == "cuda" else CPU_WAYS
    alone = {ALONE + name: language_alone(model, context, settings) for name, settings in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in (*NAMES, *alone)}
    for number in range(-3, rounds):
        frame, sound = stream.next()
        took = {
            "frame": latency(partial(session.push, frame), device),
            "sound": latency(partial(session.push, sound), device),
        }
        took["second"] = took["frame"] + took["sound"]
        took |= {name: latency(read, device) for name, read in alone.items()}
        if number % every == 0:
            took["encoders"] = latency(partial(published.encode, (frame, sound)), device)
            took["published"] = latency(partial(published.read, (frame, sound)), device)
            took["published alone"] = latency(partial(published.read_rows, rows_TD), device)
        if number >= 0:  # the first ones warm up
            for name, value in took.items():
                times[name].append(value)
    return times


def main() -> int:
    """Prints a report, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size(parser)
    parser.add_argument("--rounds", type=int, help="seconds that are timed (default: 200 on CUDA, 20 on a CPU)")
    parser.add_argument("--every", type=int, help="the published way reads every so many (default: a tenth of them)")
    parser.add_argument("--context", type=int, help="cached positions (default: 4700 on CUDA, 390 on a CPU)")
    add_write(parser)
    arguments = parser.parse_args()
    cpu = torch.device(arguments.device).type == "cpu"
    torch.set_num_threads(1 if cpu else torch.get_num_threads())
    rounds = arguments.rounds or (20 if cpu else 200)
    with torch.inference_mode():
        model = random_model(arguments)
        context = arguments.context or (390 if cpu else 4700)
        times = measure(model, rounds, arguments.every or max(1, rounds // 10), context)
    rows = [
        (NAMES.get(name, name), len(values), f"{statistics.median(values):.2f}", f"{percentile(values, 0.99):.2f}")
        for name, values in times.items()
    ]
    medians = {name: statistics.median(values) for name, values in times.items()}
    whole = medians["published"] / medians["second"]
    alone = medians["published alone"] / min(value for name, value in medians.items() if name.startswith(ALONE))
    lines = [
        "# A silent second with its encoders",
        "",
        f"{describe(model, arguments)} About {context} cached positions.",
        "",
        *table(("what", "times", "p50, ms", "p99, ms"), rows),
        "",
        f"A session is {whole:.1f} times as fast as the published algorithm, {alone:.1f} times without the encoders "
        "(medians, measured in turns).",
        *foot(arguments.device, remark="thread CPU time of one thread" if cpu else "wall clock"),
    ]
    publish("segment-latency", lines, arguments.write, arguments.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
