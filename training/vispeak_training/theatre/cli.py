"""`vispeak-theatre`: renders labelled clips of people in rooms, to look at, to play and to learn from."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vispeak_training.theatre.acts import ACTS, BY_SUBTASK
from vispeak_training.theatre.dataset import SPLITS
from vispeak_training.theatre.room import photographs
from vispeak_training.theatre.scene import render_backend_error
from vispeak_training.theatre.script import DISTRACTORS


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand; user errors become one line and exit code 2."""
    arguments = _parser().parse_args(argv)
    try:
        note = {"render": _render, "dataset": _dataset, "frames": _frames, "sheet": _sheet}[arguments.command](
            arguments
        )
    except ValueError as error:
        sys.stderr.write(f"vispeak-theatre: {error}\n")
        return 2
    sys.stdout.write(json.dumps(note) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vispeak-theatre", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    render = commands.add_parser("render", help="one clip as .mp4, and its annotation as .json beside it")
    render.add_argument("--out", type=Path, required=True, help="the .mp4 file")
    render.add_argument("--act", metavar="NAME:SECONDS", action="append", default=[], help="what happens, in order")
    render.add_argument("--subtask", choices=[*BY_SUBTASK, DISTRACTORS], help="what kind of thing happens")
    render.add_argument("--held-out", action="store_true", help="a figure and a room that no model was trained on")
    render.add_argument("--size", metavar="WxH", default="320x240", help="pixels")
    render.add_argument("--fps", type=int, default=15)
    render.add_argument("--noisy", action="store_true", help="a cheap camera that shakes, and other people in the room")
    dataset = commands.add_parser("dataset", help="many clips with annotation files in the published format")
    dataset.add_argument("--out", type=Path, required=True, help="folder")
    dataset.add_argument("--count", type=int, default=350, help="clips, shared out among the seven subtasks")
    dataset.add_argument("--minutes", type=int, default=0, help="clips of a minute without anything to react to")
    dataset.add_argument("--split", choices=["train", "held_out"], default="train")
    dataset.add_argument("--size", metavar="WxH", default="256x256", help="pixels")
    dataset.add_argument("--fps", type=int, default=8)
    dataset.add_argument("--processes", type=int, default=2)
    for command in (render, dataset):
        command.add_argument("--speech", action="store_true", help="questions can be heard (needs espeak-ng)")
    frames = commands.add_parser("frames", help="many clips as one .npz with a frame a second, to train a model on")
    frames.add_argument("--out", type=Path, required=True, help="folder; the file is named after the split")
    frames.add_argument("--count", type=int, default=1000, help="clips")
    frames.add_argument("--split", choices=SPLITS, default="train")
    frames.add_argument("--size", type=int, default=112, help="pixels a side")
    frames.add_argument("--subtask", choices=[*BY_SUBTASK, DISTRACTORS], help="of all clips; drawn by default")
    frames.add_argument("--seconds", type=float, help="length of all clips; 8 to 14 by default")
    frames.add_argument("--processes", type=int, default=2)
    sheet = commands.add_parser("sheet", help="a picture with one row of moments for every act")
    sheet.add_argument("--out", type=Path, required=True, help="the .png file")
    sheet.add_argument("--size", type=int, default=128, help="pixels a side of each moment")
    sheet.add_argument("--held-out", action="store_true", help="figures and rooms that no model was trained on")
    sheet.add_argument("--clean", action="store_true", help="no noise, no shake, nobody else")
    for command in (render, sheet):
        command.add_argument("--seed", type=int, default=0)
    for command in (render, dataset, frames, sheet):
        command.add_argument("--photos", type=Path, metavar="FOLDER", help="photographs for some of the backgrounds")
    return parser


def _render(arguments: argparse.Namespace) -> object:
    acts = [_act(text) for text in arguments.act]
    width, height = _size(arguments.size)
    if arguments.out.suffix != ".mp4" or not arguments.out.parent.is_dir():
        raise ValueError(f"--out {arguments.out}: must end in .mp4 and lie in a folder that exists")
    _check_rate(arguments.fps)
    photos = photographs(arguments.photos)
    _check_backend()
    from vispeak_training.theatre.clip import render_clip  # noqa: PLC0415 - after cheap checks

    return render_clip(
        arguments.out,
        arguments.seed,
        acts or None,
        width,
        height,
        arguments.fps,
        arguments.held_out,
        arguments.subtask,
        speech=arguments.speech,
        clean=not arguments.noisy,
        photos=photos,
    )


def _dataset(arguments: argparse.Namespace) -> object:
    width, height = _size(arguments.size)
    _check_range("count", arguments.count, 0, 100_000)
    _check_range("minutes", arguments.minutes, 0, 100_000)
    _check_range("processes", arguments.processes, 1, 256)
    _check_rate(arguments.fps)
    _check_backend()
    from vispeak_training.theatre.collection import CollectionConfig, render_collection  # noqa: PLC0415

    config = CollectionConfig(
        arguments.count,
        arguments.split == "held_out",
        arguments.minutes,
        arguments.speech,
        width,
        height,
        arguments.fps,
        arguments.processes,
        arguments.photos,
    )
    return [str(path) for path in render_collection(arguments.out, config)]


def _frames(arguments: argparse.Namespace) -> object:
    _check_range("count", arguments.count, 1, 400_000)
    _check_range("size", arguments.size, 16, 512)
    _check_range("processes", arguments.processes, 1, 256)
    if arguments.seconds is not None and not 6 <= arguments.seconds <= 600:
        raise ValueError(f"--seconds {arguments.seconds:g}: expected 6 to 600")
    photographs(arguments.photos)
    _check_backend()
    from vispeak_training.theatre.dataset import render_dataset  # noqa: PLC0415

    return str(
        render_dataset(
            arguments.count,
            arguments.size,
            arguments.out,
            arguments.split,
            arguments.processes,
            arguments.photos,
            arguments.subtask,
            arguments.seconds,
        )
    )


def _sheet(arguments: argparse.Namespace) -> object:
    if arguments.out.suffix != ".png" or not arguments.out.parent.is_dir():
        raise ValueError(f"--out {arguments.out}: must end in .png and lie in a folder that exists")
    _check_range("size", arguments.size, 16, 512)
    photos = photographs(arguments.photos)
    _check_backend()
    from vispeak_training.theatre.sheet import render_sheet  # noqa: PLC0415

    return str(
        render_sheet(
            arguments.out,
            arguments.seed,
            size=arguments.size,
            held_out=arguments.held_out,
            clean=arguments.clean,
            photos=photos,
        )
    )


def _check_backend() -> None:
    error = render_backend_error()
    if error:
        raise ValueError(f"nothing can be rendered here ({error}): pip install 'vispeak_node[theatre]' and libegl1")


def _check_range(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"--{option} {value}: expected {low} to {high}")


def _check_rate(rate: int) -> None:
    _check_range("fps", rate, 1, 60)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and 0 < int(width) <= 1920 and 0 < int(height) <= 1920):
        raise ValueError(f"--size {text}: expected WIDTHxHEIGHT, at most 1920 a side")
    if int(width) % 2 or int(height) % 2:
        raise ValueError(f"--size {text}: videos need even numbers")
    return int(width), int(height)


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
