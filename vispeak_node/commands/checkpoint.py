"""`vispeak checkpoint DIR`: whether a folder holds a model that could run, and if not, what it lacks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("folder", metavar="DIR", nargs="?", type=Path, help="config.json, tokenizer.json, safetensors")
    parser.add_argument("--vision", metavar="DIR", type=Path, help="vision tower in a folder of its own")
    parser.add_argument("--audio", metavar="DIR", type=Path, help="audio encoder in a folder of its own")
    parser.add_argument("--all", action="store_true", help="name every tensor that is wrong, not only the first ones")
    parser.add_argument(
        "--convert", metavar=("IN", "OUT"), nargs=2, type=Path, help="rewrite a pickle of plain tensors as safetensors"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the account; 0 if the model could run, else 1."""
    if args.convert is not None:
        return _convert(*args.convert)
    if args.folder is None:
        raise ValueError("name a checkpoint folder, or use --convert IN OUT; see vispeak checkpoint --help")
    from vispeak_node.model.checkpoint import inspect_checkpoint  # noqa: PLC0415 - torch takes a second to import

    report = inspect_checkpoint(args.folder, args.vision, args.audio)
    for line in report.lines(sys.maxsize if args.all else 40):
        sys.stdout.write(line + "\n")
    return 0 if report.ok else 1


def _convert(source: Path, target: Path) -> int:
    from vispeak_node.model.checkpoint import convert_pickle  # noqa: PLC0415 - torch takes a second to import

    if not target.parent.is_dir():
        raise ValueError(f"{target.parent}: no such folder")
    count = convert_pickle(source, target)
    sys.stdout.write(f"{target}: {count} tensors\n")
    return 0
