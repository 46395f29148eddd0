"""Every number that shapes a model, read from a checkpoint's config.json.

One frozen dataclass per part; `from_dict` refuses values that this code cannot honour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vispeak_node.model.subtasks import check_labels

MAX_LABELS = 256
COMBINATIONS = ("adaptive_combine", "linear_combine", "add")
MODEL_TYPES = ("vispeak-Qwen2", "vita-Qwen2")
ARCHITECTURES = ("ViSpeakQwen2ForCausalLM", "VITAQwen2ForCausalLM")

Config = TypeVar("Config")


@dataclass(frozen=True)
class VisionConfig:
    """InternViT; the defaults are InternViT-300M-448px."""

    hidden_size: int = 1024  # width of a patch token
    num_layers: int = 24
    num_heads: int = 16
    intermediate_size: int = 4096  # width inside the MLP
    image_size: int = 448  # pixels, square
    patch_size: int = 14  # pixels, square
    layer_norm_eps: float = 1e-6

    @property
    def grid_size(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def feature_size(self) -> int:
        """Width after pixel shuffle by 0.5 (four patches become one token)."""
        return self.hidden_size * 4


@dataclass(frozen=True)
class AudioConfig:
    """The VITA-1.5 audio encoder and its adapter; the defaults are its published sizes."""

    num_mel_bins: int = 80
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    hidden_size: int = 1024  # width of the transformer
    num_layers: int = 24
    num_heads: int = 16
    intermediate_size: int = 4096  # width inside the feed-forward
    layer_norm_eps: float = 1e-5
    chunk_size: int = 0  # frames after subsampling that attend to each other; 0 is full attention
    left_chunks: int = -1  # earlier chunks that a chunk sees; -1 is all of them
    adapter_kernel_size: int = 5
    adapter_norm_eps: float = 1e-3


@dataclass(frozen=True)
class LanguageConfig:
    """Qwen2; the defaults are Qwen2.5-7B."""

    vocab_size: int = 151665  # rows of the embedding, read from the tensor
    hidden_size: int = 3584
    intermediate_size: int = 18944
    num_layers: int = 28
    num_heads: int = 28
    num_kv_heads: int = 4
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    max_positions: int = 6200  # what the released weights were trained on

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads


@dataclass(frozen=True)
class ModelConfig:
    """The whole model."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    combination: str = "adaptive_combine"  # how user and agent embeddings become one: see COMBINATIONS
    pooling_size: int = 2  # side of the square of tokens that pooling folds into one
    image_aspect_ratio: str = "square"  # "square" crops the centre, "pad" letterboxes with the mean colour
    informative_head: bool = True  # whether the checkpoint can score moments
    threshold: float = 0.35  # sum of the last scores above which it should speak: the published one, or calibrated
    event_labels: tuple[str, ...] = ()  # classes of the event head, `none` first; empty where there is no such head

    @property
    def tokens_per_image(self) -> int:
        """Positions that one frame takes in the user stream, without its `>Note`."""
        return (self.vision.grid_size // 2 // self.pooling_size) ** 2

    @property
    def tokens_per_second(self) -> int:
        """Positions that one second of sound takes, without its `>Note`: 12 for the published adapter."""
        frames = 98  # 25 ms windows every 10 ms in one second
        after_convolutions = ((frames - 1) // 2 - 1) // 2
        return (after_convolutions + 1) // 2

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ModelConfig:
        """Reads a config.json in the released layout.

        Ours adds `vision_config` and `audio_config` sections; where they are missing, the published towers are meant.

        Raises:
            ValueError: a value is unknown or contradicts another.
        """
        model_type = raw.get("model_type")
        if model_type not in MODEL_TYPES:
            raise ValueError(f"config.json: model_type {model_type!r} is unknown; expected one of {MODEL_TYPES}")
        for name in raw.get("architectures") or ():
            if name not in ARCHITECTURES:
                raise ValueError(f"config.json: architecture {name!r} is unknown; expected one of {ARCHITECTURES}")
        language = LanguageConfig(
            vocab_size=_positive(raw, "vocab_size", LanguageConfig.vocab_size),
            hidden_size=_positive(raw, "hidden_size"),
            intermediate_size=_positive(raw, "intermediate_size"),
            num_layers=_positive(raw, "num_hidden_layers"),
            num_heads=_positive(raw, "num_attention_heads"),
            num_kv_heads=_positive(raw, "num_key_value_heads"),
            rms_norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
            rope_theta=_rope_theta(raw),
            max_positions=_positive(raw, "tokenizer_model_max_length", 6200),
        )
        config = cls(
            vision=_section(VisionConfig, raw.get("vision_config", {}), "vision_config"),
            audio=_section(AudioConfig, raw.get("audio_config", {}), "audio_config"),
            language=language,
            combination=raw.get("combination", "adaptive_combine"),
            pooling_size=_positive(raw, "pooling_size", 1),
            image_aspect_ratio=raw.get("image_aspect_ratio", "square"),
            informative_head=bool(raw.get("use_informative_head", False)),
            threshold=_threshold(raw.get("informative_threshold", 0.35)),
            event_labels=_labels(raw.get("event_labels", [])),
        )
        config.check()
        return config

    def check(self) -> None:
        """Refuses sizes that do not fit together.

        Raises:
            ValueError: names the field and what it must be.
        """
        if self.combination not in COMBINATIONS:
            raise ValueError(
                f"config.json: combination {self.combination!r} is unknown; expected one of {COMBINATIONS}"
            )
        if self.image_aspect_ratio not in ("square", "pad"):
            raise ValueError(
                f"config.json: image_aspect_ratio {self.image_aspect_ratio!r} is unknown; use square or pad"
            )
        for part, heads in ((self.language, self.language.num_heads), (self.vision, self.vision.num_heads)):
            if part.hidden_size % heads:
                raise ValueError(f"config.json: hidden size {part.hidden_size} does not divide into {heads} heads")
        if self.audio.hidden_size % self.audio.num_heads:
            raise ValueError("config.json: audio_config.hidden_size does not divide into num_heads")
        if self.language.num_heads % self.language.num_kv_heads:
            raise ValueError("config.json: num_attention_heads is no multiple of num_key_value_heads")
        if self.vision.image_size % (2 * self.vision.patch_size):
            raise ValueError("config.json: vision_config.image_size must be a multiple of twice the patch size")
        check_labels(self.event_labels)
        if self.pooling_size > self.vision.grid_size // 2:
            raise ValueError(f"config.json: pooling_size {self.pooling_size} leaves no token of an image")


def _positive(raw: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = raw.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise ValueError(f"config.json: {key} must be a positive integer, not {value!r}")
    return value


def _threshold(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1000:
        raise ValueError(f"config.json: informative_threshold must be a positive number, not {value!r}")
    return float(value)


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value) or len(value) > MAX_LABELS:
        raise ValueError(f"config.json: event_labels must be a list of at most {MAX_LABELS} names")
    return tuple(value)


def _rope_theta(raw: Mapping[str, Any]) -> float:
    # transformers 5 moved the value into a section of its own
    section = raw.get("rope_parameters") or {}
    theta = raw.get("rope_theta", section.get("rope_theta", 1e6))
    if not isinstance(theta, int | float) or theta <= 1:
        raise ValueError(f"config.json: rope_theta must be a number above 1, not {theta!r}")
    return float(theta)


def _section(kind: type[Config], raw: Any, name: str) -> Config:
    if not isinstance(raw, Mapping):
        raise ValueError(f"config.json: {name} must be a section, not {raw!r}")
    fields: Mapping[str, Any] = kind.__dataclass_fields__  # type: ignore[attr-defined]
    for key, value in raw.items():
        if key not in fields:
            raise ValueError(f"config.json: {name}.{key} is unknown; known are {', '.join(fields)}")
        wanted = type(fields[key].default)
        if isinstance(value, bool) or not isinstance(value, int if wanted is int else int | float):
            raise ValueError(f"config.json: {name}.{key} must be a {wanted.__name__}, not {value!r}")
        if value <= 0 and key not in ("chunk_size", "left_chunks"):
            raise ValueError(f"config.json: {name}.{key} must be positive, not {value!r}")
    return kind(**raw)
