"""`vispeak-train`: the published stages, and the recipe of the small checkpoint, from nothing to a folder."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from vispeak_node.model.checkpoint import save_checkpoint
from vispeak_training.data import commands as data
from vispeak_training.stages import commands as stages
from vispeak_training.theatre.dataset import read_dataset, render_dataset, render_frames
from vispeak_training.theatre.scene import render_backend_error
from vispeak_training.tiny_config import TinyConfig


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand; user errors become one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="vispeak-train", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    tiny = commands.add_parser("tiny", help="render clips, train the small model, write a checkpoint")
    tiny.add_argument("--out", type=Path, default=Path("models/vispeak-tiny"), help="checkpoint folder")
    tiny.add_argument("--data", type=Path, default=Path("out/theatre"), help="where rendered frames are kept")
    tiny.add_argument("--clips", type=int, default=2400, help="training clips")
    tiny.add_argument("--rooms", type=int, default=3200, help="rooms of eight single frames, for learning to see")
    tiny.add_argument("--held-out", type=int, default=200, help="clips for measuring, of other figures and rooms")
    tiny.add_argument("--validation", type=int, default=150, help="clips for choosing the threshold")
    tiny.add_argument("--vision-epochs", type=int, default=None)
    tiny.add_argument("--picture-steps", type=int, default=None)
    tiny.add_argument("--stream-steps", type=int, default=None)
    tiny.add_argument("--seed", type=int, default=0)
    measure = commands.add_parser("measure", help="how well a checkpoint notices held-out clips")
    measure.add_argument("--model", type=Path, default=Path("models/vispeak-tiny"))
    measure.add_argument("--data", type=Path, default=Path("out/theatre"))
    measure.add_argument("--held-out", type=int, default=200)
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


def _dataset(folder: Path, count: int, size: int, kind: str) -> Path:
    path = folder / f"{kind}.npz"
    if path.is_file():
        return path
    error = render_backend_error()
    if error:
        raise ValueError(f"nothing can be rendered here ({error}); install mujoco and a GL library such as libegl1")
    if kind == "frames":
        return render_frames(count, size, folder)
    return render_dataset(count, size, folder, kind)


def _tiny(arguments: argparse.Namespace) -> int:
    from vispeak_node.model.checkpoint import load_model  # noqa: PLC0415 - torch is slow to import
    from vispeak_training import seeing, speaking, tiny  # noqa: PLC0415
    from vispeak_training.calibrate import calibrate  # noqa: PLC0415

    names = ("picture_steps", "stream_steps", "seed")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.vision_epochs is not None:
        given["vision_cycles"] = (arguments.vision_epochs,)
    config = TinyConfig(**given)
    clips = read_dataset(_dataset(arguments.data, arguments.clips, config.image_size, kind="train"))
    held_out = read_dataset(_dataset(arguments.data, arguments.held_out, config.image_size, kind="held_out"))
    rooms = read_dataset(_dataset(arguments.data, arguments.rooms, config.image_size, kind="frames"))
    vocabulary = tiny.write_tokenizer(arguments.out)
    model = tiny.build_model(len(vocabulary), config)
    accuracy = seeing.train_vision(model, clips + rooms, held_out, config)
    logging.info("held-out frames told right: %s", accuracy)
    seeing.fold_scale(model, rooms[:100])
    history = speaking.train_streams(model, rooms + clips, clips, vocabulary, config)
    _save(model, arguments.out)
    validation = read_dataset(_dataset(arguments.data, arguments.validation, config.image_size, kind="validation"))
    rounded = load_model(arguments.out)  # the weights as they are stored
    logging.info("threshold: %g", calibrate(rounded, vocabulary, validation))
    _save(rounded, arguments.out)
    record = {"config": asdict(config), "clips": len(clips), "frame_accuracy": accuracy, "loss": history}
    (arguments.data / "training.json").write_text(json.dumps(record) + "\n")
    return _measure(argparse.Namespace(model=arguments.out, data=arguments.data, held_out=arguments.held_out))


def _save(model: object, folder: Path) -> None:
    import torch  # noqa: PLC0415

    from vispeak_node.model.vispeak import ViSpeakModel  # noqa: PLC0415

    assert isinstance(model, ViSpeakModel)
    save_checkpoint(model, folder, dtype=torch.float16)


def _measure(arguments: argparse.Namespace) -> int:
    from vispeak_node.model.checkpoint import load_model  # noqa: PLC0415
    from vispeak_node.model.tokens import Vocabulary  # noqa: PLC0415
    from vispeak_training.measure import measure  # noqa: PLC0415

    model, vocabulary = load_model(arguments.model), Vocabulary.from_folder(arguments.model)
    size = model.config.vision.image_size
    clips = read_dataset(_dataset(arguments.data, arguments.held_out, size, kind="held_out"))
    sys.stdout.write(json.dumps(measure(model, vocabulary, clips), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
