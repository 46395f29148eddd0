"""What makes a plain DDS participant a node in `ros2 node list`: the topic `ros_discovery_info` (rmw_dds_common)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from vispeak_node.ros.standard import Gid, NodeEntitiesInfo, ParticipantEntitiesInfo

TOPIC = "ros_discovery_info"  # has no prefix


def entities(
    name: str, namespace: str, participant: Any, readers: Iterable[Any], writers: Iterable[Any]
) -> ParticipantEntitiesInfo:
    """One node that owns all endpoints of a participant.

    Args:
        name: of the node.
        namespace: absolute, `/` at least.
        participant: a Cyclone DDS entity, as are the readers and writers.
        readers: without those that ROS itself would hide.
        writers: likewise.
    """
    node = NodeEntitiesInfo(namespace, name, tuple(map(_gid, readers)), tuple(map(_gid, writers)))
    return ParticipantEntitiesInfo(_gid(participant), (node,))


def _gid(entity: Any) -> Gid:
    return Gid(np.frombuffer(entity.guid.bytes, np.uint8))
