"""`vispeak-theatre`: renders clips to look at and to play."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vispeak_training.theatre.acts import ACTS
from vispeak_training.theatre.scene import render_backend_error


def main(argv: list[str] | None = None) -> int:
    """Renders one clip; user errors become one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="vispeak-theatre", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    render = commands.add_parser("render", help="one clip as .mp4, and its annotation as .json beside it")
    render.add_argument("--out", type=Path, required=True, help="the .mp4 file")
    render.add_argument("--seed", type=int, default=0)
    render.add_argument("--act", metavar="NAME:SECONDS", action="append", default=[], help="what happens, in order")
    render.add_argument("--held-out", action="store_true", help="a figure and a room that no model was trained on")
    render.add_argument("--size", metavar="WxH", default="320x240", help="pixels")
    render.add_argument("--fps", type=int, default=15)
    arguments = parser.parse_args(argv)
    try:
        note = _render(arguments)
    except ValueError as error:
        sys.stderr.write(f"vispeak-theatre: {error}\n")
        return 2
    sys.stdout.write(json.dumps(note) + "\n")
    return 0


def _render(arguments: argparse.Namespace) -> object:
    acts = [_act(text) for text in arguments.act]
    width, _, height = arguments.size.partition("x")
    if not (width.isdigit() and height.isdigit() and 0 < int(width) <= 1920 and 0 < int(height) <= 1920):
        raise ValueError(f"--size {arguments.size}: expected WIDTHxHEIGHT, at most 1920 a side")
    if arguments.out.suffix != ".mp4" or not arguments.out.parent.is_dir():
        raise ValueError(f"--out {arguments.out}: must end in .mp4 and lie in a folder that exists")
    error = render_backend_error()
    if error:
        raise ValueError(f"nothing can be rendered here ({error}); install mujoco and a GL library such as libegl1")
    from vispeak_training.theatre.clip import render_clip  # noqa: PLC0415 - after cheap checks

    return render_clip(
        arguments.out, arguments.seed, acts or None, int(width), int(height), arguments.fps, arguments.held_out
    )


def _act(text: str) -> tuple[str, float]:
    name, _, length = text.partition(":")
    if name not in ACTS:
        raise ValueError(f"--act {text}: unknown act; known are {', '.join(ACTS)}")
    try:
        seconds = float(length)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 600:
        raise ValueError(f"--act {text}: expected NAME:SECONDS, such as wave:3")
    return name, seconds


if __name__ == "__main__":
    sys.exit(main())
