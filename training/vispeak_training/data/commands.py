"""What a person runs over training data: `check`, `show` and `pack`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from vispeak_node.model.config import ModelConfig
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.settings import add_config_flags, config_from_args, default_model_dir
from vispeak_training.data.options import BuildOptions, Quirks
from vispeak_training.data.packing import MOST, pack, packed_length
from vispeak_training.data.record import OFFLINE
from vispeak_training.data.registry import Source, read_registry
from vispeak_training.data.sample import SampleError

_OWN_FLAGS = ("quirks", "shuffle", "seed")  # fields of BuildOptions that these commands set themselves


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the commands to a parser's; each sets `run`, a function of the arguments that gives the exit code."""
    check = subparsers.add_parser("check", help="read every sample once and list what is wrong")
    check.add_argument("--workers", type=int, default=0, help="processes that read")
    check.add_argument("--plot", type=Path, metavar="PNG", help="draw the lengths")
    check.add_argument("--all", action="store_true", help="name every problem, not only the first ones")
    check.set_defaults(run=_check)
    show = subparsers.add_parser("show", help="draw a sample's two streams, targets and head labels")
    show.add_argument("--sample", default="0", metavar="N", help="number in the registry, or FILE#INDEX")
    show.add_argument("--plot", type=Path, metavar="PNG", help="draw a picture too")
    show.set_defaults(run=_show)
    packer = subparsers.add_parser("pack", help="join short offline samples into longer ones")
    packer.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the joined files go")
    packer.add_argument("--most", type=int, default=MOST, help="positions of a joined sample")
    packer.add_argument("--seed", type=int, default=42, help="of the mixing")
    packer.set_defaults(run=_pack)
    for parser in (check, show, packer):
        parser.add_argument("registry", type=Path, metavar="YAML", help="list of annotation files")
        parser.add_argument("--model", type=Path, metavar="DIR", help="checkpoint whose sizes and tokenizer count")
    for parser in (check, show):
        add_config_flags(parser, BuildOptions, skip=_OWN_FLAGS)
        add_config_flags(parser, Quirks)
        parser.add_argument("--published", action="store_true", help="all quirks of the published code")


def _check(arguments: argparse.Namespace) -> int:
    """Prints the report; 0 if all is well, else 1."""
    from vispeak_training.data.check import check, plot_lengths  # noqa: PLC0415 - torch takes a second to import
    from vispeak_training.data.dataset import TrainingSet  # noqa: PLC0415

    vocabulary, config = _model(arguments.model)
    report = check(TrainingSet(arguments.registry, vocabulary, config, _options(arguments)), arguments.workers)
    for line in report.lines(sys.maxsize if arguments.all else 40):
        sys.stdout.write(line + "\n")
    if arguments.plot is not None:
        plot_lengths(report.lengths, arguments.plot)
    return 0 if report.ok else 1


def _show(arguments: argparse.Namespace) -> int:
    """Prints one sample; 1 if it cannot be built."""
    from vispeak_training.data.dataset import TrainingSet  # noqa: PLC0415 - torch takes a second to import
    from vispeak_training.data.drawing import plot, table  # noqa: PLC0415

    vocabulary, config = _model(arguments.model)
    samples = TrainingSet(arguments.registry, vocabulary, config, _options(arguments))
    number = int(arguments.sample) if arguments.sample.isdecimal() else samples.find(arguments.sample)
    if number >= len(samples):
        raise ValueError(f"sample {number}: the registry has {len(samples)}, counted from 0")
    try:
        sample = samples.builder.build(samples.record(number))
    except SampleError as error:
        sys.stdout.write(f"{samples.name(number)}: {error}\n")
        return 1
    for line in table(sample, vocabulary, config.event_labels):
        sys.stdout.write(line + "\n")
    if arguments.plot is not None:
        plot(sample, vocabulary, arguments.plot, config.event_labels)
    return 0


def _pack(arguments: argparse.Namespace) -> int:
    """Writes a joined file for every source; 1 if samples had to be left out."""
    vocabulary, config = _model(arguments.model)
    sources = read_registry(arguments.registry)
    for source in sources:
        if source.kind != OFFLINE:
            raise ValueError(f"{source.file}: only offline samples can be packed, not {source.kind}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    return max(_pack_source(source, vocabulary, config, arguments) for source in sources)


def _pack_source(source: Source, vocabulary: Vocabulary, config: ModelConfig, arguments: argparse.Namespace) -> int:
    entries, lengths, left_out = [], [], 0
    for index, raw in enumerate(tqdm(source.load(), desc=source.file.name, disable=None)):
        try:
            record = source.record(raw, index)
            lengths.append(packed_length(record, vocabulary, config.tokens_per_image, config.vision.image_size))
            entries.append(raw)
        except SampleError as error:
            sys.stderr.write(f"{source.name(index)} is left out: {error}\n")
            left_out += 1
    packed = pack(entries, lengths, arguments.seed, arguments.most)
    target = arguments.out / f"{source.file.stem}_packed.json"
    target.write_text(json.dumps(packed, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{target}: {len(entries)} samples in {len(packed)}, {left_out} left out\n")
    return int(left_out > 0)


def _model(folder: Path | None) -> tuple[Vocabulary, ModelConfig]:
    """Tokenizer and sizes of a checkpoint, without its weights."""
    folder = folder or default_model_dir()
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder}: config.json is missing")
    try:
        raw = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not a readable JSON file") from error
    return Vocabulary.from_folder(folder), ModelConfig.from_dict(raw)


def _options(arguments: argparse.Namespace) -> BuildOptions:
    """The options that the flags describe; samples stay in the registry's order."""
    quirks = Quirks.published() if arguments.published else config_from_args(Quirks, arguments)
    fields = {name: getattr(arguments, name) for name in BuildOptions.__dataclass_fields__ if name not in _OWN_FLAGS}
    return replace(BuildOptions(**fields), quirks=quirks, shuffle=False)
