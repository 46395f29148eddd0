"""Reading and writing checkpoints in the released layout: config.json, safetensors, tokenizer.json.

Nothing from a checkpoint is executed, and no tensor is read before its header was checked against the model, so a
damaged or hostile folder costs a clear message and no memory.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vispeak_node.model.config import ModelConfig
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.model.weight_files import Shape, Source, headers, read_json

logger = logging.getLogger(__name__)

VISION_PREFIX = "model.vision_tower.vision_tower."
AUDIO_PREFIX = "model.audio_encoder."
_HEAD = "informative_head."
_EVENT_HEAD = "event_head."


@dataclass
class CheckpointReport:
    """The account of a folder: what the model needs against what is there."""

    folder: Path
    config: ModelConfig
    sources: dict[str, Source]
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    misshapen: list[tuple[str, Shape, Shape]] = field(default_factory=list)  # name, found, needed
    vocabulary_size: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the model could run; extra tensors do no harm."""
        return not self.missing and not self.misshapen and self.vocabulary_size is not None

    def lines(self, most: int = 40) -> Iterator[str]:
        """The account for a person, at most `most` names a kind."""
        language, vision, audio = self.config.language, self.config.vision, self.config.audio
        count = sum(_product(source.shape) for source in self.sources.values())
        dtypes = ", ".join(sorted({source.dtype for source in self.sources.values()})) or "none"
        files = len({source.file for source in self.sources.values()})
        yield f"{self.folder}: {len(self.sources)} tensors, {count / 1e6:.2f} M values ({dtypes}) in {files} file(s)"
        yield (
            f"language model: {language.num_layers} layers x {language.hidden_size}, vocabulary {language.vocab_size}; "
            f"vision: {vision.num_layers} x {vision.hidden_size} at {vision.image_size} px, "
            f"{self.config.tokens_per_image} tokens an image; audio: {audio.num_layers} x {audio.hidden_size}"
        )
        head = "present" if self.config.informative_head else "absent: the model cannot speak up by itself"
        yield f"combination: {self.config.combination}; informative head: {head}"
        if self.config.event_labels:
            yield f"event head: {', '.join(self.config.event_labels)}"
        yield from self.notes
        yield from _listing("missing", self.missing, most)
        shapes = [f"{name}: found {list(found)}, needs {list(needed)}" for name, found, needed in self.misshapen]
        yield from _listing("misshapen", shapes, most)
        yield from _listing("extra (ignored)", self.extra, most)
        yield "the model can run" if self.ok else "the model can NOT run"


def inspect_checkpoint(
    folder: str | Path, vision_folder: str | Path | None = None, audio_folder: str | Path | None = None
) -> CheckpointReport:
    """Compares a folder's headers with the model that its config.json describes; reads no weights.

    Args:
        folder: config.json, tokenizer.json and the safetensors.
        vision_folder: an InternViT in a folder of its own, for checkpoints that hold none.
        audio_folder: an audio encoder in a folder of its own, likewise.

    Raises:
        ValueError: the folder is no checkpoint, or a file in it cannot be read.
    """
    folder = Path(folder)
    raw = _read_config(folder)
    sources = dict(headers(folder))
    notes = _add_towers(sources, raw, folder, vision_folder, audio_folder)
    config = _reconcile(ModelConfig.from_dict(_with_defaults(raw, sources)), sources)
    report = CheckpointReport(folder, config, sources, notes=notes)
    with torch.device("meta"):
        needed = {name: tuple(tensor.shape) for name, tensor in ViSpeakModel(config).state_dict().items()}
    report.missing = sorted(needed.keys() - sources.keys())
    report.extra = sorted(sources.keys() - needed.keys())
    report.misshapen = [
        (name, sources[name].shape, shape)
        for name, shape in sorted(needed.items())
        if name in sources and sources[name].shape != shape
    ]
    try:
        report.vocabulary_size = len(Vocabulary.from_folder(folder))
    except ValueError as error:
        report.notes.append(str(error))
    else:
        if report.vocabulary_size > config.language.vocab_size:
            raise ValueError(
                f"{folder}: the tokenizer has {report.vocabulary_size} tokens, "
                f"the embedding {config.language.vocab_size} rows"
            )
    return report


def load_model(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    vision_folder: str | Path | None = None,
    audio_folder: str | Path | None = None,
) -> ViSpeakModel:
    """A model ready to run, its tensors streamed from the shards one by one.

    Args:
        folder: see `inspect_checkpoint`.
        device: where the weights go.
        dtype: their type; by default float32 on the CPU and bfloat16 elsewhere.
        vision_folder: see `inspect_checkpoint`.
        audio_folder: see `inspect_checkpoint`.

    Raises:
        ValueError: the folder is no checkpoint that could run, or there is no such device; the message names what is
            wrong.
    """
    device = usable_device(device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    report = inspect_checkpoint(folder, vision_folder, audio_folder)
    if not report.ok:
        raise ValueError(f"{folder}: {_first_problem(report)}; `vispeak checkpoint {folder}` lists everything")
    if report.extra:
        logger.info("%s: %d tensors are not part of the model: %s", folder, len(report.extra), report.extra[:5])
    with torch.device("meta"):
        model = ViSpeakModel(report.config)
    by_file: dict[Path, list[tuple[str, str]]] = {}
    for name in model.state_dict():
        source = report.sources[name]
        by_file.setdefault(source.file, []).append((name, source.name))
    for file, pairs in by_file.items():
        try:
            with safe_open(file, framework="pt", device="cpu") as shard:
                for name, stored in pairs:
                    tensor = shard.get_tensor(stored).to(device=device, dtype=dtype)
                    model.load_state_dict({name: tensor}, strict=False, assign=True)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file}: damaged or truncated: {error}") from error
    return model.eval().requires_grad_(False)


def usable_device(name: str | torch.device) -> torch.device:
    """A device that exists here.

    Raises:
        ValueError: torch does not know it, or this machine does not have it.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name} is unknown; use cpu, cuda, cuda:1, ...") from error
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name}: {str(error).splitlines()[0]}") from error
    return device


def save_checkpoint(
    model: ViSpeakModel,
    folder: str | Path,
    raw_config: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes config.json and model.safetensors; the tokenizer is the caller's to copy.

    Args:
        model: what to write.
        folder: made if it does not exist.
        raw_config: more keys for config.json.
        dtype: type of the floating-point tensors; by default the model's own.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().to("cpu", dtype or t.dtype).contiguous() for name, t in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    raw = dict(raw_config or {}) | config_to_dict(model.config)
    raw["torch_dtype"] = str(dtype or model.dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(raw, indent=2) + "\n")


def config_to_dict(config: ModelConfig) -> dict[str, Any]:
    """A config.json in the released layout, with `vision_config` and `audio_config` sections of our own."""
    language = config.language
    return {
        "architectures": ["ViSpeakQwen2ForCausalLM"],
        "model_type": "vispeak-Qwen2",
        "hidden_size": language.hidden_size,
        "intermediate_size": language.intermediate_size,
        "num_hidden_layers": language.num_layers,
        "num_attention_heads": language.num_heads,
        "num_key_value_heads": language.num_kv_heads,
        "rms_norm_eps": language.rms_norm_eps,
        "rope_theta": language.rope_theta,
        "vocab_size": language.vocab_size,
        "tokenizer_model_max_length": language.max_positions,
        "tie_word_embeddings": False,
        "combination": config.combination,
        "pooling_size": config.pooling_size,
        "image_aspect_ratio": config.image_aspect_ratio,
        "use_informative_head": config.informative_head,
        "informative_threshold": config.threshold,
        **({"event_labels": list(config.event_labels)} if config.event_labels else {}),
        "vision_config": dataclasses.asdict(config.vision),
        "audio_config": dataclasses.asdict(config.audio),
    }


def convert_pickle(source: str | Path, target: str | Path) -> int:
    """Rewrites a torch pickle (`final.pt`, `mm_projector.bin`) as safetensors, reading tensors and nothing else.

    Returns:
        How many tensors were written.

    Raises:
        ValueError: the file holds anything but a flat dictionary of tensors.
    """
    source, target = Path(source), Path(target)
    if not source.is_file():
        raise ValueError(f"{source}: no such file")
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{source}: not a pickle of plain tensors: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{source}: expected a flat dictionary of tensors")
    save_file({str(name): value.contiguous().clone() for name, value in state.items()}, target)
    return len(state)


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder}: not a checkpoint: config.json is missing")
    return read_json(path)


def _add_towers(
    sources: dict[str, Source],
    raw: Mapping[str, Any],
    folder: Path,
    vision_folder: str | Path | None,
    audio_folder: str | Path | None,
) -> list[str]:
    """Takes the encoders from folders of their own, where named or where the checkpoint holds none."""
    notes = []
    for prefix, given, key in (
        (VISION_PREFIX, vision_folder, "mm_vision_tower"),
        (AUDIO_PREFIX, audio_folder, "mm_audio_encoder"),
    ):
        place = Path(given) if given is not None else None
        if place is None and not any(name.startswith(prefix) for name in sources):
            named = raw.get(key)
            for candidate in (folder / named, Path(named)) if isinstance(named, str) and named else ():
                if candidate.is_dir():
                    place = candidate
                    break
        if place is None:
            continue
        if not place.is_dir():
            raise ValueError(f"{place}: no such folder")
        for name, source in headers(place):
            full = name if name.startswith(prefix) else prefix + name.removeprefix("vision_model.")
            sources[full] = source
        notes.append(f"{prefix}* from {place}")
    return notes


def _with_defaults(raw: dict[str, Any], sources: Mapping[str, Source]) -> dict[str, Any]:
    """Fills what older configs leave out, as far as the tensors show it."""
    raw = dict(raw)
    if "combination" not in raw:
        linear = "model.combination.weight" in sources
        raw["combination"] = "linear_combine" if linear else "adaptive_combine"
    if "pooling_size" not in raw:
        # only the streaming stages pool, and they are the ones that train the head
        raw["pooling_size"] = 2 if any(name.startswith(_HEAD) for name in sources) else 1
    return raw


def _reconcile(config: ModelConfig, sources: Mapping[str, Source]) -> ModelConfig:
    """Lets the tensors overrule the config where published configs are known to be wrong."""
    language = config.language
    embedding = sources.get("model.embed_tokens.weight")
    if embedding is not None and len(embedding.shape) == 2:
        language = dataclasses.replace(language, vocab_size=embedding.shape[0])
    head = any(name.startswith(_HEAD) for name in sources)
    labels = config.event_labels if any(name.startswith(_EVENT_HEAD) for name in sources) else ()
    return dataclasses.replace(config, language=language, informative_head=head, event_labels=labels)


def _first_problem(report: CheckpointReport) -> str:
    if report.missing:
        return f"{len(report.missing)} tensors are missing, first {report.missing[0]}"
    if report.misshapen:
        name, found, needed = report.misshapen[0]
        return f"{name} has shape {list(found)}, needs {list(needed)}"
    return report.notes[-1]


def _listing(title: str, names: list[str], most: int) -> Iterator[str]:
    if names:
        yield f"{title}: {len(names)}"
        yield from (f"  {name}" for name in names[:most])
        if len(names) > most:
            yield f"  ... and {len(names) - most} more"


def _product(shape: Shape) -> int:
    result = 1
    for size in shape:
        result *= size
    return result
