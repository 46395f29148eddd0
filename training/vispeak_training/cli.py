"""`vispeak-train`: the published stages, and the recipe of the small checkpoint, from nothing to a folder."""

from __future__ import annotations

import argparse
import logging
import sys

from vispeak_training import tiny_commands
from vispeak_training.data import commands as data
from vispeak_training.stages import commands as stages


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand; user errors become one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="vispeak-train", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    tiny_commands.add_commands(commands)
    stages.add_commands(commands)
    data.add_commands(commands)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        code: int = arguments.run(arguments)
        return code
    except ValueError as error:
        sys.stderr.write(f"vispeak-train: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
