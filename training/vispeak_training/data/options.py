"""How samples are built, and which oddities of the published code are brought back."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

MAX_FRAMES, MAX_SECONDS = 4096, 3600  # a sample's bounds; far above what a model can read


@dataclass(frozen=True)
class Quirks:
    """Oddities of the published training code; off is mended, on is as published."""

    residual_tail: bool = False  # a reply that another cuts short keeps its rest as a target behind the shorter one
    typed_start: bool = False  # offline replies to spoken questions begin with ☜ too, as the released weights know it
    counts_per_turn: bool = False  # all pictures (sounds) of a turn are taken to be as long as the next unread one
    markers_in_text: bool = False  # `>Note`, `<image>` and the like in plain text act as markers
    whole_seconds: bool = False  # a clip's start is rounded to whole seconds, its end to the next one
    constant_rate: bool = False  # a frame's time is its number / average rate, and every n-th frame is taken
    first_gap: bool = False  # the gap between the first two frames says how much sound every frame brings
    silent_damage: bool = False  # a sound track that cannot be decoded counts as none
    first_channel: bool = False  # of a sound file only channel 0 is heard, instead of the mean of all
    limited_room: bool = False  # a reply that outlives the user stream by more than 512 positions is refused
    refuse_final_sound: bool = False  # a spoken sample that ends in sound is refused (published: an index error)

    @classmethod
    def published(cls) -> Quirks:
        """All of them, for reproducing published samples."""
        return cls(**{entry.name: True for entry in fields(cls)})


@dataclass(frozen=True)
class BuildOptions:
    """How samples are built; the defaults are those of stages 2 and 3.

    Raises:
        ValueError: a field is out of its range.
    """

    max_frames: int = 64  # of a video: 16 in stages 1a and 1b, 64 in 2 and 3
    min_frames: int = 4  # of a video: 4 in stages 1 and 2, 8 in stage 3
    frames_per_second: float = 1.0  # at which a video is watched, before max_frames thins it out
    max_sounds: int = 2  # seconds of sound that a frame brings at most: 6 in stage 1, 2 in stages 2 and 3
    max_sound_file: int = 32  # s, the longest sound file
    tiles: bool = True  # whether a still picture is cut into up to 12 tiles and a thumbnail; else it is one tile
    max_length: int = 6200  # positions; a longer sample is bad
    shuffle: bool = True  # whether all sources are mixed once
    seed: int = 42  # of the mixing
    quirks: Quirks = field(default_factory=Quirks)

    def __post_init__(self) -> None:
        for name, most in (("max_frames", MAX_FRAMES), ("max_sounds", 60), ("max_sound_file", MAX_SECONDS)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie between 1 and {most}, not {getattr(self, name)}")
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(f"min_frames must lie between 1 and max_frames ({self.max_frames}), not {self.min_frames}")
        if not 0 < self.frames_per_second <= 60:
            raise ValueError(f"frames_per_second must lie between 0 and 60, not {self.frames_per_second}")
        if not 1 <= self.max_length <= 2**20:
            raise ValueError(f"max_length must lie between 1 and {2**20}, not {self.max_length}")
