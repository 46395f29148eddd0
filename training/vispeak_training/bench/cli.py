"""`vispeak-bench`: runs a checkpoint through ViSpeak-Bench or a theatre split, and scores what came out."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from vispeak_training.bench.annotations import annotation_file, read_annotations
from vispeak_training.bench.chart import check_chart_path, draw_chart
from vispeak_training.bench.endpoint import EndpointConfig, EndpointJudge
from vispeak_training.bench.judge import Judge, NoJudge, RubricJudge
from vispeak_training.bench.record import read_records, write_text
from vispeak_training.bench.report import Report
from vispeak_training.bench.run import Run, check_videos, claim, fingerprint, run_task
from vispeak_training.bench.scoring import score_task
from vispeak_training.bench.tasks import TASKS, Task, find_tasks

_DTYPES = ("float32", "bfloat16", "float16")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; user errors become one line and exit code 2, Ctrl-C exit code 130."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if arguments.plot is not None:
            if arguments.command == "vispeak" and arguments.plot.parent == arguments.out:
                arguments.out.mkdir(parents=True, exist_ok=True)
            check_chart_path(arguments.plot)
        if arguments.command == "vispeak":
            _run(arguments)
        _score(arguments)
    except ValueError as error:
        sys.stderr.write(f"vispeak-bench: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("vispeak-bench: stopped; the same command goes on from here\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vispeak-bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("vispeak", help="run a checkpoint, then score it; goes on where it was stopped")
    run.add_argument("--model", type=Path, required=True, metavar="DIR", help="checkpoint folder")
    run.add_argument("--videos", type=Path, required=True, metavar="DIR", help="what the annotations' paths start from")
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results are kept")
    run.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: cpu)")
    run.add_argument("--dtype", choices=_DTYPES, help="of the weights (default: the device's)")
    run.add_argument("--threshold", type=float, default=0.0, metavar="X", help="of the trigger (default: checkpoint's)")
    run.add_argument(
        "--speak-ahead",
        type=int,
        default=0,
        metavar="N",
        help="reply tokens per event (default: 0, published lockstep)",
    )
    run.add_argument("--prefill-order", choices=("trained", "reference"), default="trained", help="see docs/bench.md")
    run.add_argument("--skip-missing", action="store_true", help="leave out items whose video cannot be read")
    score = commands.add_parser("score", help="score results that are there, also of other programs")
    score.add_argument("out", type=Path, metavar="OUT_DIR", help="folder with the results")
    score.add_argument("--name", help="the model's name in the table (default: the folder's)")
    for command in (run, score):
        command.add_argument("--annotations", type=Path, required=True, metavar="DIR", help="the seven JSON files")
        command.add_argument("--tasks", nargs="+", metavar="TASK", default=[], help=f"of {_codes()} (default: all)")
        command.add_argument("--judge", choices=("none", "rubric", "openai"), default="none", help="(default: none)")
        command.add_argument("--plot", type=Path, metavar="FILE.png", help="draw bars (needs matplotlib)")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    tasks = _tasks(arguments)
    _judge(arguments)  # what it lacks is told before the work begins
    run = Run(arguments.videos, arguments.out, arguments.skip_missing)
    items = {task.code: read_annotations(arguments.annotations, task) for task in tasks}
    for found in items.values():
        check_videos(run, found)
    import torch  # noqa: PLC0415 - slow, after cheap checks

    from vispeak_node.model.checkpoint import load_model  # noqa: PLC0415
    from vispeak_node.model.tokens import Vocabulary  # noqa: PLC0415
    from vispeak_training.bench.answerer import AnswerConfig, SessionAnswerer  # noqa: PLC0415

    dtype = None if arguments.dtype is None else getattr(torch, arguments.dtype)
    model = load_model(arguments.model, arguments.device, dtype)
    config = AnswerConfig(arguments.threshold, arguments.speak_ahead, prefill_order=arguments.prefill_order)
    answer = SessionAnswerer(model, Vocabulary.from_folder(arguments.model), config)
    for task in tasks:
        answer.session(task)  # what the checkpoint lacks is told before the work begins
    settings = {
        "model": arguments.model.resolve().name,
        "weights": fingerprint(arguments.model),
        "annotations": fingerprint(arguments.annotations),
        "dtype": str(model.dtype),
        "threshold": arguments.threshold,
        "speak_ahead": arguments.speak_ahead,
        "prefill_order": arguments.prefill_order,
    }
    claim(arguments.out, settings)
    for task in tasks:
        run_task(task, items[task.code], answer, run)


def _score(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.out
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    judge = _judge(arguments)
    results = []
    for task in _tasks(arguments):
        records = read_records(folder, task)
        if records is not None:
            results.append(score_task(read_annotations(arguments.annotations, task), records, judge))
    if not results:
        raise ValueError(f"{folder}: no results of these tasks; they are called like {TASKS[0].name}_output.json")
    report = Report(_name(arguments), judge.name, results)
    details = [json.dumps(detail, ensure_ascii=False) for result in results for detail in result.details]
    write_text(folder / "scored_items.jsonl", "\n".join(details) + "\n")
    write_text(folder / "scores.json", report.json())
    write_text(folder / "scores.md", report.markdown())
    sys.stdout.write(report.markdown())
    if arguments.plot is not None:
        draw_chart(report, arguments.plot)


def _tasks(arguments: argparse.Namespace) -> list[Task]:
    """The tasks that were asked for, or those that have annotations."""
    if not arguments.annotations.is_dir():
        raise ValueError(f"{arguments.annotations}: no such folder")
    if arguments.tasks:
        return find_tasks(arguments.tasks)
    tasks = [task for task in TASKS if annotation_file(arguments.annotations, task)]
    if not tasks:
        raise ValueError(f"{arguments.annotations}: no annotation file such as {TASKS[0].files[0]}")
    return tasks


def _judge(arguments: argparse.Namespace) -> Judge:
    if arguments.judge == "openai":
        return EndpointJudge(EndpointConfig.from_environment(), arguments.out / "judge")
    return RubricJudge() if arguments.judge == "rubric" else NoJudge()


def _name(arguments: argparse.Namespace) -> str:
    if arguments.command == "vispeak":
        return str(arguments.model.resolve().name)
    return arguments.name or str(arguments.out.resolve().name)


def _codes() -> str:
    return " ".join(task.code for task in TASKS)


if __name__ == "__main__":
    sys.exit(main())
