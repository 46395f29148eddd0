"""What one stage is: its YAML file as a frozen dataclass that refuses what it does not know."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from vispeak_node.model.config import COMBINATIONS
from vispeak_node.model.subtasks import check_labels
from vispeak_training.stages.parts import PARTS

WEIGHTS = ("auto", "float32", "bfloat16")
_MAX_YAML_BYTES = 2**20
_QWEN_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class TrainingStoppedError(ValueError):
    """Training ended early for a reason that a person must look at; the last good checkpoint is kept."""


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters of the language model; the defaults are the published ones."""

    r: int = 128  # rank
    alpha: int = 256  # the update is scaled by alpha / r
    dropout: float = 0.05  # share of an adapter's inputs that are zeroed
    targets: tuple[str, ...] = _QWEN_LINEARS  # names of linear layers; only the language model has these


@dataclass(frozen=True)
class StageConfig:
    """One stage; the field names are the keys of its YAML file. Defaults are what the published stages share."""

    name: str  # for logs
    base: str  # folder of the checkpoint to start from
    data: str  # YAML registry of the datasets
    output: str  # folder for checkpoints and logs; a run that lies there is resumed
    train: tuple[str, ...]  # parts that learn beside the adapters: names of `parts.PARTS`
    lora: LoraSettings | None = field(default_factory=LoraSettings)  # null: no adapters
    combination: str = "adaptive_combine"  # built fresh where the base has none (VITA-1.5)
    pooling_size: int = 2  # side of the square of image tokens that becomes one
    fresh_informative_head: bool = False  # true: forget the base's head, as the published stage 3 does
    event_labels: tuple[str, ...] = ()  # classes of the event head, `none` first; with labels, the head is trained
    focal_weight: float = 1.0  # of the informative head's loss; the text loss weighs 1
    event_weight: float = 0.5  # of the event head's loss (ours)
    learning_rate: float = 1e-4  # peak
    projector_learning_rate: float | None = 1e-5  # of image projector and audio adapter; null: the same as the rest
    matrix_learning_rate: float | None = None  # of the decoder's matrices, by Muon, from nothing; null: AdamW
    batch_size: int = 2  # samples in a micro-batch of one device
    accumulation: int = 4  # micro-batches in a step
    epochs: float = 1.0  # passes over the data
    max_steps: int = -1  # stop after so many steps instead; -1: epochs decide
    weight_decay: float = 0.0
    warmup_ratio: float = 0.03  # share of the steps in which the rate climbs; a cosine follows
    max_gradient_norm: float = 1.0  # gradients are clipped to this norm
    max_length: int = 6200  # positions; longer samples are cut
    gradient_checkpointing: bool = True  # layers are computed again in the backward pass to save memory
    weights: str = "auto"  # type of the frozen weights: auto is bfloat16 on CUDA, float32 elsewhere; the rest: float32
    dither: float = 0.0  # noise in the mel features; the published encoder was trained with 1.0
    seed: int = 42  # of fresh layers, data order and dropout
    workers: int = 4  # processes that load data, per device
    save_steps: int = 500  # between checkpoints
    save_limit: int = 10  # checkpoints kept
    max_bad_share: float = 0.01  # stop when more than this share of the samples cannot be used
    peak_flops: float | None = None  # of one device, for MFU; null: looked up for known GPUs
    vision_folder: str | None = None  # an InternViT in a folder of its own, for bases that hold none
    audio_folder: str | None = None  # an audio encoder in a folder of its own, likewise
    data_options: Mapping[str, Any] = field(default_factory=dict)  # how samples are built: see docs/training.md
    fsdp: Mapping[str, Any] | None = None  # transformers' `fsdp_config`; null: no sharding
    deepspeed: str | None = None  # a DeepSpeed configuration file; null: no DeepSpeed

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of all parts that learn, the event head included where it has labels."""
        event_head = ("event_head",) if self.event_labels and "event_head" not in self.train else ()
        return self.train + event_head

    def check(self) -> None:
        """Refuses values that make no sense, alone or together.

        Raises:
            ValueError: names the key.
        """
        for part in self.train:
            if part not in PARTS:
                raise ValueError(f"train: {part!r} is unknown; parts are {', '.join(PARTS)}")
        if not self.train and self.lora is None:
            raise ValueError("train: nothing would learn; name parts, or give lora settings")
        if self.lora is not None and "language_model" in self.train:
            raise ValueError("train: language_model learns either as a whole or by lora; set `lora: null` or drop it")
        if "event_head" in self.train and not self.event_labels:
            raise ValueError("event_labels: the event head needs the names of its classes")
        check_labels(self.event_labels)
        if self.combination not in COMBINATIONS:
            raise ValueError(f"combination: {self.combination!r} is unknown; expected one of {', '.join(COMBINATIONS)}")
        if self.weights not in WEIGHTS:
            raise ValueError(f"weights: {self.weights!r} is unknown; expected one of {', '.join(WEIGHTS)}")
        if self.fsdp is not None and self.deepspeed is not None:
            raise ValueError("fsdp, deepspeed: set only one of them")
        whole = "language_model" in self.train and self.fsdp is None and self.deepspeed is None
        if self.matrix_learning_rate is not None and not self.matrix_learning_rate > 0:
            raise ValueError(f"matrix_learning_rate: must be above 0, not {self.matrix_learning_rate!r}; null is AdamW")
        if self.matrix_learning_rate is not None and not whole:
            raise ValueError("matrix_learning_rate: needs language_model in train, and neither fsdp nor deepspeed")
        self._check_numbers()

    def _check_numbers(self) -> None:
        positive = ["pooling_size", "learning_rate", "batch_size", "accumulation", "epochs", "max_length", "save_steps"]
        positive += ["save_limit", "max_gradient_norm"]
        for key in positive:
            if not getattr(self, key) > 0:
                raise ValueError(f"{key}: must be above 0, not {getattr(self, key)!r}")
        for key in ("warmup_ratio", "max_bad_share"):
            if not 0 <= getattr(self, key) < 1:
                raise ValueError(f"{key}: must be at least 0 and below 1, not {getattr(self, key)!r}")
        for key in ("workers", "weight_decay", "focal_weight", "event_weight", "dither", "seed"):
            if not getattr(self, key) >= 0:
                raise ValueError(f"{key}: must not be negative, not {getattr(self, key)!r}")
        if self.lora is not None and not (self.lora.r > 0 and self.lora.alpha > 0 and 0 <= self.lora.dropout < 1):
            raise ValueError("lora: r and alpha must be above 0, dropout at least 0 and below 1")
        if self.max_length < 2:
            raise ValueError("max_length: a sample needs two positions for a prediction")


def read_stage(path: str | Path, changes: Mapping[str, Any] | None = None) -> StageConfig:
    """A stage from its YAML file.

    Args:
        path: the file.
        changes: values that overrule the file's, for example from the command line.

    Raises:
        ValueError: the file cannot be read, a key is unknown or missing, or a value makes no sense.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.stat().st_size > _MAX_YAML_BYTES:
        raise ValueError(f"{path}: larger than {_MAX_YAML_BYTES} bytes")
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, Mapping):
        raise ValueError(f"{path}: expected keys and values at the top")
    try:
        return stage_from_dict({**raw, **(changes or {})})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def stage_from_dict(raw: Mapping[str, Any]) -> StageConfig:
    """A checked stage from plain values, as YAML or JSON hold them.

    Raises:
        ValueError: a key is unknown or missing, or a value makes no sense.
    """
    config = _build(StageConfig, raw, "")
    config.check()
    return config


def stage_to_dict(config: StageConfig) -> dict[str, Any]:
    """The plain values that `stage_from_dict` reads, tuples as lists."""
    return _plain(dataclasses.asdict(config))


Section = typing.TypeVar("Section")


def _build(kind: type[Section], raw: Mapping[str, Any], place: str) -> Section:
    hints = typing.get_type_hints(kind)
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [key for key in raw if key not in fields]
    if unknown:
        raise ValueError(f"{place}{unknown[0]}: unknown; keys are {', '.join(fields)}")
    for name, entry in fields.items():
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and name not in raw:
            raise ValueError(f"{place}{name}: missing")
    return kind(**{key: _value(place + key, hints[key], value) for key, value in raw.items()})


def _value(place: str, hint: Any, value: Any) -> Any:
    """`value` as the type that a field wants; a whole number passes for a float."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    kind = next(kind for kind in kinds if kind is not type(None))
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _build(typing.cast(type[Any], kind), value, f"{place}.")
    if origin is tuple and isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if (
        origin is None
        and isinstance(kind, type)
        and isinstance(value, kind)
        and (kind is bool or not isinstance(value, bool))
    ):
        return value
    if origin is not None and origin is not tuple and isinstance(value, Mapping):
        return dict(value)
    raise ValueError(f"{place}: {value!r} is not a {_spelling(kind, origin)}")


def _spelling(kind: Any, origin: Any) -> str:
    if origin is tuple:
        return "list of names"
    if origin is not None or dataclasses.is_dataclass(kind):
        return "section of keys and values"
    return {int: "whole number", float: "number", bool: "true or false", str: "text"}[kind]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
