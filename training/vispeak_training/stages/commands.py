"""`vispeak-train run` and `vispeak-train merge`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Adds both to a parser's subcommands; each sets `run` to what carries it out."""
    run = commands.add_parser("run", help="run one stage; started again, it goes on where it was")
    run.add_argument("stage", type=Path, help="its YAML file, for example training/configs/stage2.yaml")
    run.add_argument("--base", help="checkpoint to start from, in place of the file's")
    run.add_argument("--data", help="YAML registry of the datasets, in place of the file's")
    run.add_argument("--output", help="folder of the run, in place of the file's")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any other key of the file, the value in YAML"
    )
    run.set_defaults(run=_run)
    merge = commands.add_parser("merge", help="fold what a stage trained into its base: a checkpoint")
    merge.add_argument("folder", type=Path, help="a run's `final`, or one of its checkpoints")
    merge.add_argument("--base", type=Path, required=True, help="the checkpoint that the stage started from")
    merge.add_argument("--out", type=Path, required=True, help="folder to write")
    merge.add_argument("--dtype", help="float16, bfloat16 or float32; by default the base's")
    merge.add_argument("--vision", type=Path, help="an InternViT in a folder of its own")
    merge.add_argument("--audio", type=Path, help="an audio encoder in a folder of its own")
    merge.set_defaults(run=_merge)


def _run(arguments: argparse.Namespace) -> int:
    from vispeak_training.stages.config import read_stage  # noqa: PLC0415 - torch is slow to import

    given = {key: getattr(arguments, key) for key in ("base", "data", "output") if getattr(arguments, key) is not None}
    config = read_stage(arguments.stage, {**_changes(arguments.set), **given})
    run_stage = _needs_extra("run").run_stage
    run_stage(config)
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    merge = _needs_extra("merge").merge
    merge(arguments.folder, arguments.base, arguments.out, arguments.dtype, arguments.vision, arguments.audio)
    return 0


def _needs_extra(module: str) -> Any:
    import importlib  # noqa: PLC0415

    try:
        importlib.import_module("peft")
        importlib.import_module("accelerate")
        return importlib.import_module(f"vispeak_training.stages.{module}")
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed; stages need `pip install 'vispeak_node[train]'`") from error


def _changes(given: list[str]) -> dict[str, Any]:
    from ruamel.yaml import YAML  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    changes = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text}: expected KEY=VALUE")
        try:
            changes[key.strip()] = YAML(typ="safe", pure=True).load(value)
        except YAMLError as error:
            raise ValueError(f"--set {text}: the value is no YAML") from error
    return changes
