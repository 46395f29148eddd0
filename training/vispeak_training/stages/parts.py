"""The parts of the model that a stage can train, by the prefixes of their parameters' names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

PARTS: dict[str, tuple[str, ...]] = {
    "mm_projector": ("model.mm_projector.",),
    "audio_adapter": ("model.audio_encoder.adpter.",),
    "combination": ("model.combination.",),
    "informative_head": ("informative_head.",),
    "event_head": ("event_head.",),
    # everything of Qwen2; only without LoRA
    "language_model": ("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head."),
    "vision_tower": ("model.vision_tower.",),
    "audio_encoder": ("model.audio_encoder.encoder.",),
}
_PROJECTORS = PARTS["mm_projector"] + PARTS["audio_adapter"]
ADAPTER = ".lora_"  # occurs in the name of every parameter of an adapter, and in no other


def belongs(name: str, parts: Iterable[str]) -> bool:
    """Whether a parameter of this name is in one of these parts."""
    return name.startswith(tuple(prefix for part in parts for prefix in PARTS[part]))


def is_projector(name: str) -> bool:
    """Whether a parameter has the projectors' learning rate in the LoRA stages."""
    return name.startswith(_PROJECTORS)


def missing_parts(names: Iterable[str]) -> Iterator[str]:
    """The parts that these names lie in; a name of no part stands for itself."""
    seen = set()
    for name in names:
        part = next((part for part in PARTS if belongs(name, [part])), name)
        if part not in seen:
            seen.add(part)
            yield part
