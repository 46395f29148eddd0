"""The subcommands about the small checkpoint: train it, measure it, take its recipe apart, draw its losses."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from vispeak_training.theatre.dataset import (
    Footage,
    SampledClip,
    count_clips,
    read_dataset,
    render_dataset,
    render_frames,
)
from vispeak_training.theatre.scene import render_backend_error
from vispeak_training.theatre.script import DISTRACTORS
from vispeak_training.tiny_config import TinyConfig

logger = logging.getLogger(__name__)

_MODEL = Path("models/vispeak-tiny")
_QUIET = {"train": 30.0, "validation": 60.0, "held_out": 60.0}  # s, a clip in which nothing calls for words


def add_commands(commands: Any) -> None:
    """Adds them to an argparse subparsers object."""
    tiny = commands.add_parser("tiny", help="render clips, train the small model, write a checkpoint")
    tiny.add_argument("--out", type=Path, default=_MODEL, help="checkpoint folder")
    _add_data(tiny)
    _add_training(tiny)
    tiny.set_defaults(run=_tiny)
    measure = commands.add_parser("measure", help="how well a checkpoint notices held-out clips")
    measure.add_argument("--model", type=Path, default=_MODEL, help="checkpoint folder")
    _add_data(measure)
    measure.set_defaults(run=_measure)
    ablate = commands.add_parser("ablate", help="the small model's stages again, each time without one part of them")
    ablate.add_argument("--out", type=Path, default=Path("ablation.md"), help="the table")
    _add_data(ablate)
    _add_training(ablate)
    ablate.set_defaults(run=_ablate)
    curves = commands.add_parser("curves", help="draw the losses of a run")
    curves.add_argument("work", type=Path, help="--work of tiny, or the output folder of one stage")
    curves.add_argument("--out", type=Path, default=Path("curves.png"), help="the picture")
    curves.set_defaults(run=_curves)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("out/theatre"), help="where rendered frames are kept")
    parser.add_argument("--held-out", type=int, default=300, help="clips for measuring, of other figures and rooms")
    parser.add_argument("--quiet", type=int, default=100, help="minutes of held-out clips with nothing to react to")


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, default=Path("out/tiny"), help="runs and checkpoints between the stages")
    parser.add_argument("--photos", type=Path, default=None, help="folder with photographs for backgrounds")
    parser.add_argument("--clips", type=int, default=5000, help="training clips")
    parser.add_argument("--rooms", type=int, default=7000, help="rooms of eight single frames, for learning to see")
    parser.add_argument("--quiet-clips", type=int, default=600, help="training clips with nothing to react to")
    parser.add_argument("--validation", type=int, default=400, help="clips for choosing the threshold")
    parser.add_argument("--quiet-validation", type=int, default=100, help="minutes for it with nothing to react to")
    parser.add_argument("--tower", type=Path, default=None, help="checkpoint whose tower goes on learning")
    for field in dataclasses.fields(TinyConfig):
        name, kind = f"--{field.name.replace('_', '-')}", type(field.default)
        if kind is bool:
            parser.add_argument(
                name, action=argparse.BooleanOptionalAction, default=field.default, help="see TinyConfig"
            )
        else:
            parser.add_argument(name, type=kind, default=field.default, help="see TinyConfig")


def _config(arguments: argparse.Namespace) -> TinyConfig:
    return TinyConfig(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(TinyConfig)})


def _rendered(arguments: argparse.Namespace, count: int, size: int, kind: str, quiet: bool = False) -> Path:
    """File with clips of a kind, rendered at the first time; quiet ones have nothing to react to."""
    folder, photos = arguments.data, getattr(arguments, "photos", None)
    path = Path(folder / (f"{kind}-{DISTRACTORS}.npz" if quiet else f"{kind}.npz"))
    if not path.is_file():
        error = render_backend_error()
        if error:
            raise ValueError(f"nothing can be rendered here ({error}): pip install 'vispeak_node[theatre]' and libegl1")
        if kind == "frames":
            render_frames(count, size, folder, photos=photos)
        elif quiet:
            render_dataset(count, size, folder, kind, photos=photos, subtask=DISTRACTORS, duration=_QUIET[kind])
        else:
            render_dataset(count, size, folder, kind, photos=photos)
    found = count_clips(path)
    if found != count:
        raise ValueError(f"{path}: {found} clips, {count} are asked for; remove it, or ask for as many")
    return path


def _dataset(arguments: argparse.Namespace, count: int, size: int, kind: str, quiet: bool = False) -> list[SampledClip]:
    return read_dataset(_rendered(arguments, count, size, kind, quiet))


def _tiny(arguments: argparse.Namespace) -> int:
    import torch  # noqa: PLC0415 - slow to import

    from vispeak_node.model.checkpoint import load_model, save_checkpoint  # noqa: PLC0415
    from vispeak_node.model.tokens import Vocabulary  # noqa: PLC0415
    from vispeak_training import recipe  # noqa: PLC0415
    from vispeak_training.calibrate import calibrate  # noqa: PLC0415

    config = _config(arguments)
    footage = _footage(arguments, config.image_size)
    trained = recipe.train_stages(_sees(arguments, footage), arguments.work, footage, config)
    arguments.out.mkdir(parents=True, exist_ok=True)
    shutil.copy(trained / "tokenizer.json", arguments.out)
    save_checkpoint(load_model(trained), arguments.out, dtype=torch.float16)
    validation = _validation(arguments, config)
    rounded = load_model(arguments.out)  # the weights as they are stored
    logger.info("threshold: %g", calibrate(rounded, Vocabulary.from_folder(arguments.out), validation))
    save_checkpoint(rounded, arguments.out, dtype=torch.float16)
    return _measure(argparse.Namespace(**vars(arguments) | {"model": arguments.out}))


def _footage(arguments: argparse.Namespace, size: int) -> Footage:
    clips = _rendered(arguments, arguments.clips, size, kind="train")
    quiet = _rendered(arguments, arguments.quiet_clips, size, kind="train", quiet=True)
    return Footage((clips, quiet), _rendered(arguments, arguments.rooms, size, kind="frames"))


def _validation(arguments: argparse.Namespace, config: TinyConfig) -> list[SampledClip]:
    clips = _dataset(arguments, arguments.validation, config.image_size, kind="validation")
    return clips + _dataset(arguments, arguments.quiet_validation, config.image_size, kind="validation", quiet=True)


def _held_out(arguments: argparse.Namespace, size: int) -> tuple[list[SampledClip], list[SampledClip]]:
    """Clips, and minutes with nothing to react to."""
    return (
        _dataset(arguments, arguments.held_out, size, kind="held_out"),
        _dataset(arguments, arguments.quiet, size, kind="held_out", quiet=True),
    )


def _sees(arguments: argparse.Namespace, footage: Footage) -> Path:
    """A checkpoint whose tower sees, from which the stages start; trained at the first time."""
    from vispeak_training.apart import run_apart  # noqa: PLC0415 - slow to import

    sees = Path(arguments.work / "sees")
    if not sees.is_dir():
        config = _config(arguments)
        held_out = _rendered(arguments, arguments.held_out, config.image_size, kind="held_out")
        run_apart(_learn_to_see, sees, footage, held_out, config, arguments.tower)
    return sees


def _learn_to_see(sees: Path, footage: Footage, held_out: Path, config: TinyConfig, tower: Path | None) -> None:
    from vispeak_node.model.checkpoint import load_model, save_checkpoint  # noqa: PLC0415 - slow to import
    from vispeak_training import seeing, tiny  # noqa: PLC0415
    from vispeak_training.curves import VISION_LOG  # noqa: PLC0415

    work = sees.parent
    vocabulary = tiny.write_tokenizer(work / "tokenizer")
    model = tiny.build_model(len(vocabulary), config)
    if tower is not None:
        seeing.inherit_tower(model, load_model(tower))
    clips, rooms = footage.read()
    log = work / VISION_LOG
    log.unlink(missing_ok=True)
    accuracy = seeing.train_vision(model, clips + rooms, read_dataset(held_out), config, log)
    logger.info("held-out frames told right: %.3f", accuracy)
    seeing.fold_scale(model, rooms[:100])
    partial = sees.with_name("sees.partial")
    save_checkpoint(model, partial)
    shutil.copy(work / "tokenizer" / "tokenizer.json", partial)
    (partial / "accuracy.json").write_text(json.dumps({"held_out_frames": accuracy}) + "\n")
    partial.rename(sees)


def _measure(arguments: argparse.Namespace) -> int:
    from vispeak_node.model.checkpoint import load_model  # noqa: PLC0415
    from vispeak_node.model.tokens import Vocabulary  # noqa: PLC0415
    from vispeak_training.measure import measure, questions_answered  # noqa: PLC0415

    model, vocabulary = load_model(arguments.model), Vocabulary.from_folder(arguments.model)
    size = model.config.vision.image_size
    clips, quiet = _held_out(arguments, size)
    result = measure(model, vocabulary, clips + quiet)
    result["questions_answered_right"] = round(questions_answered(model, vocabulary, clips), 3)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 0


def _ablate(arguments: argparse.Namespace) -> int:
    from vispeak_training.ablation import Splits, ablate, table  # noqa: PLC0415

    config = _config(arguments)
    footage = _footage(arguments, config.image_size)
    sees = _sees(arguments, footage)
    held_out, quiet = _held_out(arguments, config.image_size)
    splits = Splits(footage, _validation(arguments, config), held_out + quiet)
    text = table(ablate(sees, arguments.work, splits, config))
    arguments.out.write_text(text)
    sys.stdout.write(text)
    return 0


def _curves(arguments: argparse.Namespace) -> int:
    from vispeak_training.curves import draw_curves  # noqa: PLC0415

    draw_curves(arguments.work, arguments.out)
    sys.stdout.write(f"{arguments.out}\n")
    return 0
