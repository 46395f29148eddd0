"""What every benchmark ends with: a report on the terminal and, where asked, `<what>_<hardware>_<date>.md`."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
_OWN = Path()  # stands for the report's own name


def add_write(parser: argparse.ArgumentParser) -> None:
    """The option that all benchmarks share."""
    parser.add_argument(
        "--write", metavar="FILE.md", type=Path, nargs="?", const=_OWN,
        help="write the report to a file (without a name: benchmarks/WHAT_HARDWARE_DATE.md)",
    )  # fmt: skip


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table."""
    return [_row(header), "|" + "---|" * len(header), *(_row(row) for row in rows)]


def publish(what: str, lines: Iterable[str], write: Path | None, device: str = "cpu") -> None:
    """Prints a report and writes it if it was asked for.

    Args:
        what: first part of the file's own name, such as silent-second.
        lines: of the report.
        write: the value of the `--write` option.
        device: that was measured.
    """
    text = "\n".join(lines).rstrip("\n") + "\n"
    print(text)
    if write is not None:
        day = datetime.date.today().isoformat()
        file = write if write != _OWN else FOLDER / f"{what}_{hardware(device)}_{day}.md"
        file.write_text(text, encoding="utf-8")


def command() -> str:
    """How this was started, without the folder it lay in."""
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def hardware(device: str = "cpu") -> str:
    """A short name for file names: x86-2core, h100-80gb-hbm3."""
    if torch.device(device).type == "cpu":
        return f"{platform.machine().split('_', maxsplit=1)[0]}-{os.cpu_count()}core"
    return torch.cuda.get_device_name(device).lower().replace("nvidia", "").strip().replace(" ", "-")


def machine(device: str = "cpu") -> str:
    """Processor, graphics card and how busy it is, for a line under a table."""
    found = f"{_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    if torch.device(device).type == "cuda":
        found += f"; {torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return found


def versions(*packages: str) -> str:
    """Of Python, torch, numpy and others, in a line; what is not installed is said so."""
    found = [f"Python {platform.python_version()}"]
    for name in ("torch", "numpy", *packages):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def foot(device: str, *packages: str, remark: str = "") -> list[str]:
    """The last lines: how to get it again, on what, with what."""
    end = f"; {remark}." if remark else "."
    return ["", f"Command: `{command()}`; {versions(*packages)}; {machine(device)}{end}"]


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
