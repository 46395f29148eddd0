"""How the node takes its inputs and tells its findings; flags, ROS parameters and YAML are made from these fields."""

from __future__ import annotations

from dataclasses import dataclass

from vispeak_node.ros.backlog import POLICIES
from vispeak_node.ros.intake import DIALECTS
from vispeak_node.ros.topics import BRIDGES

_LEAST = {
    "max_waiting": 1, "patience": 0.1, "query_rate": 0.01, "max_query_length": 1, "max_image_bytes": 1,
    "anomaly_clear": 0, "anomaly_hold": 0, "snapshot_period": 0.1,
}  # fmt: skip


@dataclass(frozen=True)
class AssistantConfig:
    """How the node takes its inputs and tells its findings.

    Raises:
        ValueError: a field is out of its range.
    """

    audio: bool = False  # whether sound is listened to: frames then wait for their second of it
    audio_dialect: str = "ros-drivers"  # whose audio_common_msgs: ros-drivers or mgonzs13
    frames_per_second: int = 1  # frames that the model reads, 1 or 2
    max_waiting: int = 16  # frames and seconds of sound that may wait for the model; beyond it the oldest are dropped
    overload: str = "catch_up"  # a model too slow: catch_up (they wait) or skip_to_latest (the newest frame only)
    batch_cameras: bool = True  # whether what several cameras' frames ask of the model runs as one batch
    patience: float = 10.0  # s that the model may take for one event before the node reports that it hangs
    queries: bool = True  # whether typed questions are read
    query_rate: float = 2.0  # typed questions per second that are read on average; more are refused
    max_query_length: int = 4096  # characters; a longer query is refused
    max_image_bytes: int = 134217728  # of one message; a larger picture is refused
    min_event_score: float = 0.5  # an event whose kind is less likely than this is of unknown kind
    anomaly_clear: float = 3.0  # s without sign of an anomaly after which it is over
    anomaly_hold: float = 10.0  # s after which it is over where the checkpoint cannot tell
    snapshot: str = ""  # file that keeps what is remembered over a restart; empty: nothing is kept
    snapshot_period: float = 30.0  # s between two times that it is written
    bridges: str = ""  # more messages, by comma: hri_msgs (gestures), vision_msgs (the kinds of every frame)

    def __post_init__(self) -> None:
        if self.audio_dialect not in DIALECTS:
            raise ValueError(f"audio_dialect {self.audio_dialect!r} is unknown; use one of {', '.join(DIALECTS)}")
        if self.overload not in POLICIES:
            raise ValueError(f"overload {self.overload!r} is unknown; use one of {', '.join(POLICIES)}")
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for bridge in self.bridge_names:
            if bridge not in BRIDGES:
                raise ValueError(f"bridges: {bridge!r} is unknown; known are {', '.join(BRIDGES)}")
        if not 0 <= self.min_event_score <= 1:
            raise ValueError(f"min_event_score must lie between 0 and 1, not {self.min_event_score}")

    @property
    def bridge_names(self) -> list[str]:
        """The bridges that are asked for."""
        return [name.strip() for name in self.bridges.split(",") if name.strip()]
