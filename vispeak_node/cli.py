"""The `vispeak` command: finds the subcommand, runs it, and turns what goes wrong into one line and an exit code.

0 done, 1 the answer is no, 2 bad input, 130 interrupted, 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from vispeak_node import __version__

COMMANDS = {
    "watch": ("vispeak_node.commands.watch", "watch a video file and print what the assistant says"),
    "node": ("vispeak_node.ros.node", "run the assistant on camera, sound and query topics"),
    "play": ("vispeak_node.ros.play", "publish a video file as a camera and a microphone"),
    "listen": ("vispeak_node.ros.listen", "print the messages of a topic as JSON lines"),
    "camera": ("vispeak_node.ros.camera", "publish a webcam, a network camera or a file as a camera"),
    "microphone": ("vispeak_node.ros.microphone", "publish a microphone of this machine"),
    "bag": ("vispeak_node.ros.record", "play, record or describe a ROS 2 bag"),
    "tree": ("vispeak_node.ros.tree", "run a behaviour tree on the node's topics: stop, warn, greet, idle"),
    "checkpoint": ("vispeak_node.commands.checkpoint", "check a checkpoint folder, or rewrite a pickle as safetensors"),
    "doctor": ("vispeak_node.commands.doctor", "what this machine can run, and what to install for more"),
    "demo": ("vispeak_node.commands.demo", "node, player and listener on the shipped clip, as processes of their own"),
}


class OneLineParser(argparse.ArgumentParser):
    """Reports a usage error as one line, like every other bad input."""

    def error(self, message: str) -> NoReturn:
        """Raises the error instead of printing the usage."""
        raise ValueError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except ValueError as error:
        _complain(error)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the interpreter flushes stdout once more when it exits: give it somewhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(argv: list[str]) -> int:
    args = _build_parser(argv).parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.WARNING,
        format="%(levelname).1s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # libraries that log at DEBUG drown what is ours
    for name in ("matplotlib", "PIL", "libav"):
        logging.getLogger(name).setLevel(logging.WARNING)
    module = importlib.import_module(COMMANDS[args.command][0])
    return module.run(args)


def _build_parser(argv: list[str]) -> OneLineParser:
    """All commands' names, but only the chosen one's module: `vispeak --help` imports no torch."""
    parser = OneLineParser(prog="vispeak", description="Watches, listens and decides by itself when to speak.")
    parser.add_argument("--version", action="version", version=f"vispeak {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens to stderr")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        command.add_argument("-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        if name == chosen:
            importlib.import_module(module).add_arguments(command)
    return parser


def _complain(error: ValueError) -> None:
    message = " ".join(str(error).split())
    sys.stderr.write(f"vispeak: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
