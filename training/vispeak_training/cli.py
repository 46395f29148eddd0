"""`vispeak-train`: the published stages, and the recipe of the small checkpoint, from nothing to a folder."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import shutil
import sys
from pathlib import Path

from vispeak_training.data import commands as data
from vispeak_training.stages import commands as stages
from vispeak_training.theatre.dataset import SampledClip, read_dataset, render_dataset, render_frames
from vispeak_training.theatre.scene import render_backend_error
from vispeak_training.theatre.script import DISTRACTORS
from vispeak_training.tiny_config import TinyConfig


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand; user errors become one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="vispeak-train", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    tiny = commands.add_parser("tiny", help="render clips, train the small model, write a checkpoint")
    tiny.add_argument("--out", type=Path, default=Path("models/vispeak-tiny"), help="checkpoint folder")
    tiny.add_argument("--data", type=Path, default=Path("out/theatre"), help="where rendered frames are kept")
    tiny.add_argument("--work", type=Path, default=Path("out/tiny"), help="runs and checkpoints between the stages")
    tiny.add_argument("--photos", type=Path, default=None, help="folder with photographs for backgrounds")
    tiny.add_argument("--clips", type=int, default=3000, help="training clips")
    tiny.add_argument("--rooms", type=int, default=3000, help="rooms of eight single frames, for learning to see")
    tiny.add_argument("--held-out", type=int, default=300, help="clips for measuring, of other figures and rooms")
    tiny.add_argument(
        "--quiet", type=int, default=100, help="minutes of held-out clips in which nothing calls for words"
    )
    tiny.add_argument("--validation", type=int, default=120, help="clips for choosing the threshold")
    for field in dataclasses.fields(TinyConfig):
        kind = type(field.default)
        tiny.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help="see TinyConfig")
    measure = commands.add_parser("measure", help="how well a checkpoint notices held-out clips")
    measure.add_argument("--model", type=Path, default=Path("models/vispeak-tiny"))
    measure.add_argument("--data", type=Path, default=Path("out/theatre"))
    measure.add_argument("--held-out", type=int, default=300)
    measure.add_argument("--quiet", type=int, default=100)
    tiny.set_defaults(run=_tiny)
    measure.set_defaults(run=_measure)
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


def _dataset(arguments: argparse.Namespace, count: int, size: int, kind: str) -> list[SampledClip]:
    """Clips of a kind, rendered at the first time."""
    folder, photos = arguments.data, getattr(arguments, "photos", None)
    quiet = kind == "quiet"
    path = folder / ("held_out-distractors.npz" if quiet else f"{kind}.npz")
    if not path.is_file():
        error = render_backend_error()
        if error:
            raise ValueError(f"nothing can be rendered here ({error}); install mujoco and a GL library such as libegl1")
        if kind == "frames":
            render_frames(count, size, folder, photos=photos)
        elif quiet:
            render_dataset(count, size, folder, "held_out", subtask=DISTRACTORS, duration=60.0)
        else:
            render_dataset(count, size, folder, kind, photos=photos)
    clips = read_dataset(path)
    if len(clips) != count:
        raise ValueError(f"{path}: {len(clips)} clips, {count} are asked for; remove it, or ask for as many")
    return clips


def _tiny(arguments: argparse.Namespace) -> int:
    import torch  # noqa: PLC0415 - slow to import

    from vispeak_node.model.checkpoint import load_model, save_checkpoint  # noqa: PLC0415
    from vispeak_node.model.tokens import Vocabulary  # noqa: PLC0415
    from vispeak_training import recipe, seeing, tiny  # noqa: PLC0415
    from vispeak_training.calibrate import calibrate  # noqa: PLC0415

    config = TinyConfig(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(TinyConfig)})
    clips = _dataset(arguments, arguments.clips, config.image_size, kind="train")
    rooms = _dataset(arguments, arguments.rooms, config.image_size, kind="frames")
    sees = arguments.work / "sees"
    if not sees.is_dir():
        held_out = _dataset(arguments, arguments.held_out, config.image_size, kind="held_out")
        vocabulary = tiny.write_tokenizer(arguments.work / "tokenizer")
        model = tiny.build_model(len(vocabulary), config)
        accuracy = seeing.train_vision(model, clips + rooms, held_out, config)
        logging.info("held-out frames told right: %.3f", accuracy)
        seeing.fold_scale(model, rooms[:100])
        partial = sees.with_name("sees.partial")
        save_checkpoint(model, partial)
        shutil.copy(arguments.work / "tokenizer" / "tokenizer.json", partial)
        (partial / "accuracy.json").write_text(json.dumps({"held_out_frames": accuracy}) + "\n")
        partial.rename(sees)
    trained = recipe.train_stages(sees, arguments.work, clips, rooms, config)
    arguments.out.mkdir(parents=True, exist_ok=True)
    shutil.copy(trained / "tokenizer.json", arguments.out)
    save_checkpoint(load_model(trained), arguments.out, dtype=torch.float16)
    validation = _dataset(arguments, arguments.validation, config.image_size, kind="validation")
    rounded = load_model(arguments.out)  # the weights as they are stored
    logging.info("threshold: %g", calibrate(rounded, Vocabulary.from_folder(arguments.out), validation))
    save_checkpoint(rounded, arguments.out, dtype=torch.float16)
    return _measure(argparse.Namespace(**vars(arguments) | {"model": arguments.out}))


def _measure(arguments: argparse.Namespace) -> int:
    from vispeak_node.model.checkpoint import load_model  # noqa: PLC0415
    from vispeak_node.model.tokens import Vocabulary  # noqa: PLC0415
    from vispeak_training.measure import measure, questions_answered  # noqa: PLC0415

    model, vocabulary = load_model(arguments.model), Vocabulary.from_folder(arguments.model)
    size = model.config.vision.image_size
    clips = _dataset(arguments, arguments.held_out, size, kind="held_out")
    quiet = _dataset(arguments, arguments.quiet, size, kind="quiet")
    result = measure(model, vocabulary, clips + quiet)
    result["questions_answered_right"] = round(questions_answered(model, vocabulary, clips), 3)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
