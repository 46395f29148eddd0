"""`vispeak watch FILE`: a session over a file, as fast as it can."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from vispeak_node.commands.clip import Clip
from vispeak_node.commands.plot import Said, Timeline, draw, require_matplotlib, thumbnail
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import Output, ReplyFinished, ReplyStarted, Score, TextDelta
from vispeak_node.settings import add_config_flags, config_from_args, default_model_dir
from vispeak_node.stream.events import Event, ImageEvent, TextEvent, nanoseconds, seconds

if TYPE_CHECKING:
    import torch

_NAMES = {Score: "score", ReplyStarted: "reply_started", TextDelta: "text", ReplyFinished: "reply_finished"}
_DTYPES = ("float32", "bfloat16", "float16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a video or sound file, or a ROS 2 bag")
    parser.add_argument("--model", metavar="DIR", type=Path, help="checkpoint folder (default: the shipped small one)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: cpu)")
    parser.add_argument("--dtype", choices=_DTYPES, help="of the weights (default: float32 on the CPU, else bfloat16)")
    parser.add_argument("--weights", choices=("int8", "int4", "fp8"), help="packed on loading (docs/quantisation.md)")
    parser.add_argument(
        "--ask", metavar="TIME:TEXT", type=parse_question, action="append", default=[],
        help='ask something at a time in seconds, e.g. 3.2:"What is this?"; may be repeated',
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print every score and every step of a reply as JSON lines")
    parser.add_argument("--plot", metavar="OUT.png", type=Path, help="draw the timeline (needs matplotlib)")
    add_config_flags(parser, SessionConfig)


def run(args: argparse.Namespace) -> int:
    """Watches the file; the exit code is 0 whether or not the assistant spoke."""
    config = config_from_args(SessionConfig, args)
    if args.plot is not None:
        check_plot_path(args.plot)
    clip = Clip(args.file)
    duration = clip.duration
    _check_questions(duration, args.ask)
    from vispeak_node.runtime.loading import load_session  # noqa: PLC0415 - after cheap checks of the arguments

    dtype = parse_dtype(args.dtype)
    session = load_session(args.model or default_model_dir(), config, args.device, dtype, args.weights or "")
    timeline = Timeline(args.file.name, session.config.threshold, questions=args.ask)
    write = write_json if args.json else write_reply
    with tqdm(total=duration, unit="s", disable=None, file=sys.stderr, bar_format=_BAR) as bar:
        events, following = itertools.tee(with_questions(clip.events(), args.ask))
        next(following, None)
        for event, then in itertools.zip_longest(events, following):
            for output in session.push(event, then):
                _tell(output, timeline, write, bar)
            _advance(bar, seconds(event.stamp))
            if args.plot is not None and isinstance(event, ImageEvent):
                timeline.frames.append((seconds(event.stamp), thumbnail(event.image)))
        for output in session.finish():
            _tell(output, timeline, write, bar)
        _advance(bar, duration)
    if args.plot is not None:
        draw(timeline, args.plot)
    return 0


_BAR = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}, {rate_fmt}]"


def parse_question(text: str) -> tuple[float, str]:
    """`3.2:What is this?` as seconds and words.

    Raises:
        ArgumentTypeError: it is not of that form.
    """
    time, colon, words = text.partition(":")
    try:
        value = float(time)
    except ValueError:
        value = -1.0
    if not colon or not words.strip() or not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f'expected TIME:TEXT such as 3.2:"What is this?", not {text!r}')
    return value, words.strip()


def parse_dtype(name: str | None) -> torch.dtype | None:
    """The type of that name; none leaves the choice to the device."""
    import torch  # noqa: PLC0415 - after cheap checks of the arguments

    return None if name is None else getattr(torch, name)


def check_plot_path(path: Path) -> None:
    """Refuses, before the work begins, a picture that could not be written at its end.

    Raises:
        ValueError: matplotlib or the folder is missing, or the suffix is no picture's.
    """
    require_matplotlib()
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"{path}: a plot's name ends in .png, .svg or .pdf")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder")


def with_questions(events: Iterable[Event], questions: Iterable[tuple[float, str]]) -> Iterator[Event]:
    """Puts questions where they belong: before the first event that is later than they are."""
    waiting = [TextEvent(nanoseconds(time), text) for time, text in sorted(questions)]
    for event in events:
        while waiting and waiting[0].stamp < event.stamp:
            yield waiting.pop(0)
        yield event
    yield from waiting


def write_reply(output: Output, stream: TextIO) -> None:
    """A finished reply as `time  text`; repeated words and everything else as nothing."""
    if isinstance(output, ReplyFinished) and not output.duplicate:
        stream.write(f"{seconds(output.start):.1f}  {' '.join(output.text.split())}\n")
        stream.flush()


def write_json(output: Output, stream: TextIO) -> None:
    """Any output as one JSON object; stamps are nanoseconds, `time` is seconds."""
    fields = dataclasses.asdict(output)
    stamp = fields["start"] if isinstance(output, ReplyFinished) else fields["stamp"]
    line: dict[str, Any] = {"event": _NAMES[type(output)], "time": round(seconds(stamp), 3)} | fields
    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    stream.flush()


def _check_questions(duration: float, questions: list[tuple[float, str]]) -> None:
    for time, text in questions:
        if time > duration:
            raise ValueError(f"--ask {time:g}:{text}: the file ends at {duration:.1f} s")


def _tell(output: Output, timeline: Timeline, write: Any, bar: tqdm) -> None:
    """To stdout and into the picture."""
    if isinstance(output, Score):
        timeline.scores.append((seconds(output.stamp), output.total))
        if output.fired:
            timeline.fired.append((seconds(output.stamp), output.total))
    elif isinstance(output, ReplyFinished):
        said = Said(seconds(output.start), seconds(output.end), output.text, output.trigger.value, output.interrupted)
        timeline.replies.append(said)
    if not bar.disable:
        bar.clear()  # or the line would be written into the bar
    write(output, sys.stdout)


def _advance(bar: tqdm, time: float) -> None:
    bar.update(max(0.0, min(time, bar.total or time) - bar.n))
