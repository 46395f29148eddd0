"""How a session behaves; CLI flags, ROS parameters and YAML are made from these fields."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vispeak_node.model.prompts import SYSTEM_PROMPTS

# settings that a running session takes over at its next event (the prompt: after its next reset)
CHANGEABLE = frozenset(
    {"system_prompt", "threshold", "refractory", "visual_interruption", "answer_timeout", "max_reply_tokens"}
)


_CHOICES = {
    "score_events": ("image", "all"),
    "recognition": ("auto", "options", "never"),
    "prefill_order": ("trained", "reference"),
    "memory": ("none", "window", "pyramid"),
    "graphs": ("auto", "static", "never"),
    "kernels": ("auto", "never"),
    "overlap": ("auto", "always", "never"),
}


@dataclass(frozen=True)
class SessionConfig:
    """One live session.

    Raises:
        ValueError: a field is out of its range.
    """

    system_prompt: str = "vispeak"  # name of a published prompt: vispeak, online, video, ...
    proactive: bool = True  # whether the informative head may start replies
    threshold: float = 0.0  # a reply starts when the scores in the window add up to more; 0 takes the checkpoint's own
    window: int = 3  # how many of the last scores are added
    first_score_is_zero: bool = True  # published: at a start, and after a reply began, one score is not counted
    score_events: str = "image"  # image: scores at frames only; all: at every segment, as published
    refractory: float = 3.0  # s after a proactive reply began in which no other may begin
    visual_interruption: bool = True  # whether a new trigger cuts the reply under way
    duplicate_window: float = 0.0  # s in which the same words again are marked as duplicate; 0 is never
    voice_questions: bool = False  # whether the model may answer questions that it hears
    recognition: str = "auto"  # kind of event: auto (event head, else options), options (ask the model), or never
    answer_timeout: float = 30.0  # s that a typed question waits for its answer to begin
    speak_ahead: int = 64  # reply tokens spoken per event without waiting for the next one; 0 waits, as published
    finish_padding: int = 128  # positions added for a reply that is under way when the stream ends
    max_reply_tokens: int = 512  # a longer reply is cut
    max_query_tokens: int = 512  # a longer question is refused
    prefill_order: str = "trained"  # reference: the published prefill, whose gate sees the streams swapped
    max_positions: int = 0  # how far back anything that is kept may lie; 0 is what the model was trained on
    window_positions: int = 0  # kept for frames, sound and texts; 0 is all that prompt and replies leave
    reply_positions: int = 0  # kept for what the assistant said; 0 is an eighth of max_positions, at most 512
    memory: str = "none"  # frames kept beyond the context: none, window (for a restart), pyramid (read at questions)
    memory_bytes: int = 67_108_864  # bound of the frames' memory
    engines: str = ""  # folder of exported encoders (vispeak-export); empty for none
    vision_backend: str = "auto"  # what runs the vision encoder: auto, torch, onnx or tensorrt
    audio_backend: str = "auto"  # what runs the audio encoder: likewise
    graphs: str = "auto"  # passes as CUDA graphs: auto (on a GPU), static (the same passes, not captured), or never
    kernels: str = "auto"  # those passes by Triton's kernels: auto (where they run) or never
    overlap: str = "auto"  # the next event's encoder beside the language model: auto (on a GPU), always, or never

    def __post_init__(self) -> None:
        if self.system_prompt not in SYSTEM_PROMPTS:
            raise ValueError(f"system_prompt {self.system_prompt!r} is unknown; use one of {', '.join(SYSTEM_PROMPTS)}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                ways = f"{', '.join(choices[:-1])} or {choices[-1]}"
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown; use {ways}")
        for name, least in (("window", 1), ("max_reply_tokens", 1), ("max_query_tokens", 1), ("speak_ahead", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in (
            "threshold",
            "refractory",
            "duplicate_window",
            "answer_timeout",
            "finish_padding",
            "max_positions",
            "window_positions",
            "reply_positions",
            "memory_bytes",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")

    def overlaps(self, device: str) -> bool:
        """Whether the next event's encoder runs beside the language model on a device of this type."""
        return self.overlap == "always" or (self.overlap == "auto" and device == "cuda")

    def changed(self, own_threshold: float, **changes: object) -> SessionConfig:
        """Other settings for a session, before it begins or while it runs.

        Args:
            own_threshold: the checkpoint's, which stands in for a threshold of 0.
            changes: fields of CHANGEABLE.

        Raises:
            ValueError: a setting is unknown, cannot be changed under way, or has a value that makes no sense.
        """
        fixed = sorted(changes.keys() - CHANGEABLE)
        if fixed:
            raise ValueError(f"{fixed[0]} cannot be changed while the session runs; it is one of the first settings")
        config = replace(self, **changes)  # type: ignore[arg-type]
        return config if config.threshold else replace(config, threshold=own_threshold)
