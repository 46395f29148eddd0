"""`vispeak-export`: the encoders of a checkpoint to ONNX graphs and engines.

    vispeak-export all --model DIR --out ENGINES

0 done, 1 an encoder does not say what torch says, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from vispeak_node.settings import default_model_dir

_STEPS = {
    "onnx": "write ONNX graphs and compare them with torch",
    "engine": "build engines from the graphs in a folder",
    "all": "both",
}
_PARTS = ("vision", "audio")
_PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")


class _Parser(argparse.ArgumentParser):
    """Reports a usage error as one line, like every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    try:
        args = _build_parser().parse_args(argv)
        logging.basicConfig(
            level=logging.DEBUG if args.verbose else logging.WARNING,
            format="%(levelname).1s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        return _run(args)
    except ValueError as error:
        sys.stderr.write(f"vispeak-export: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="vispeak-export", description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    for name, summary in _STEPS.items():
        step = steps.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        step.add_argument("--model", metavar="DIR", type=Path, help="checkpoint (default: the shipped small one)")
        step.add_argument("--out", metavar="ENGINES", type=Path, required=True, help="folder of the exported encoders")
        step.add_argument("--part", choices=(*_PARTS, "all"), default="all", help="which encoder (default: all)")
        step.add_argument(
            "--max-batch", metavar="N", type=int, default=8, help="frames that an engine takes at once (default: 8)"
        )
        step.add_argument(
            "--inputs", metavar="N", type=int, default=32, help="noise and real inputs to compare on (default: 32)"
        )
        step.add_argument(
            "--clip", metavar="FILE", type=Path,
            help="where the real inputs come from and what decisions are compared on, which loads the language model "
            "too (default: the checkpoint's own demo.mp4, if it has one)",
        )  # fmt: skip
        step.add_argument("-v", "--verbose", action="store_true", help="log what happens to stderr")
        if name != "engine":  # an engine takes its graph's
            usual = "fp32" if name == "onnx" else "fp16"
            step.add_argument(
                "--precision", choices=_PRECISIONS, default=usual,
                help=f"int8 and fp8: of the vision encoder, by NVIDIA ModelOpt (default: {usual})",
            )  # fmt: skip
            step.add_argument(
                "--calibrate", metavar="PATH", type=Path, dest="calibration",
                help="folder of pictures, or video, that int8 and fp8 take their ranges from, beside noise "
                "(default: the clip)",
            )  # fmt: skip
        if name != "onnx":
            step.add_argument(
                "--toolkit", choices=("auto", "tensorrt", "tensorrt_rtx"), default="auto",
                help="auto is TensorRT where it and a GPU are, else TensorRT-RTX (default: auto)",
            )  # fmt: skip
    return parser


def _run(args: argparse.Namespace) -> int:
    from vispeak_export.steps import ExportConfig, export_engine, export_onnx  # noqa: PLC0415 - torch is slow to import

    model = args.model or default_model_dir()
    clip = args.clip or (model / "demo.mp4" if (model / "demo.mp4").is_file() else None)
    optional = {name: getattr(args, name) for name in ("precision", "toolkit", "calibration") if hasattr(args, name)}
    config = ExportConfig(model, args.out, max_batch=args.max_batch, num_inputs=args.inputs, clip=clip, **optional)
    if args.step == "all":
        _check_builder(args.toolkit)
    code = 0
    for part in _PARTS if args.part == "all" else (args.part,):
        for step, export in (("onnx", export_onnx), ("engine", export_engine)):
            if args.step not in (step, "all"):
                continue
            code = max(code, _report(export(config, part), args.out))
            if code:
                break  # no engine is built from a graph that is wrong
    return code


def _check_builder(toolkit: str) -> None:
    """Refuses before the work begins what would end half way.

    Raises:
        ValueError: no engine could be built here.
    """
    from vispeak_export.engine import choose_toolkit  # noqa: PLC0415

    try:
        choose_toolkit(toolkit)
    except ValueError as error:
        raise ValueError(f"{error}. `vispeak-export onnx` writes the graphs alone") from error


def _report(sidecar: object, out: Path) -> int:
    """One line on what was made; 1 if it failed."""
    from vispeak_node.runtime.sidecar import FAILED, PASSED, Sidecar, data_path, encoder_path  # noqa: PLC0415

    assert isinstance(sidecar, Sidecar)
    file = encoder_path(out, sidecar.part, sidecar.kind)
    size = sum(path.stat().st_size for path in (file, data_path(file)) if path.is_file()) / 1e6
    found = sidecar.validation
    words = [f"{file}: {sidecar.kind}, {sidecar.precision}, {size:.1f} MB, {sidecar.build_seconds:.1f} s"]
    if found.status in (PASSED, FAILED):
        words.append(
            f"cosine with torch float32 at least {found.cosine_min:.6f} over {found.num_inputs} inputs "
            f"(largest difference {found.max_abs:.2g}, not finite: {found.num_not_finite})"
        )
    if found.num_decisions:
        replies = "the same" if found.same_replies else "NOT the same"
        words.append(f"{found.decision_agreement:.1%} of {found.num_decisions} decisions agree, replies {replies}")
    words.append(f"validation {found.status}")
    sys.stdout.write("; ".join(words) + "\n")
    sys.stdout.flush()
    return 1 if found.status == FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
