"""Files that follow from the config and message classes: vispeak_msgs' interfaces and the node's parameter file.

`python -m vispeak_node.ros.interfaces` writes them into a checkout; with `--check` it only says which ones differ.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path

from vispeak_node.ros.message import Message
from vispeak_node.ros.messages import OURS
from vispeak_node.ros.parameters import parameter_file
from vispeak_node.ros.schema import msg_text

PACKAGE = Path("ros2_ws/src/vispeak_msgs")
ASK = """# A question to the assistant; its answer in pieces, then whole.
string text
---
string text  # the whole answer; where there is none, why
bool interrupted  # cut short
string reply_id
---
string delta  # what is new
"""
_CONSTANT_COMMENT = re.compile(r'^\s+"(\w+)": \(.*?\),\s*#\s*(.+?)\s*$', re.MULTILINE)


def constant_comments(kind: type[Message]) -> dict[str, str]:
    """What the comments behind a message's constants say."""
    return {match[1]: match[2] for match in _CONSTANT_COMMENT.finditer(inspect.getsource(kind))}


def files() -> dict[Path, str]:
    """Every generated file, by its path in a checkout."""
    made = {PACKAGE / "msg" / f"{kind.__name__}.msg": msg_text(kind, constant_comments(kind)) for kind in OURS}
    return made | {PACKAGE / "action/Ask.action": ASK, Path("config/assistant.yaml"): parameter_file()}


def differing(root: Path) -> list[Path]:
    """The files that are missing or not what they should be."""
    return [path for path, text in files().items() if not (root / path).is_file() or (root / path).read_text() != text]


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks; 1 if a checked file differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="of the checkout (default: here)")
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args(arguments)
    wrong = differing(args.root)
    for path in wrong:
        sys.stdout.write(f"{path}\n")
        if not args.check:
            (args.root / path).parent.mkdir(parents=True, exist_ok=True)
            (args.root / path).write_text(files()[path])
    return int(args.check and bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
