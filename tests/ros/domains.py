"""DDS domains for tests.

Two tests in one process must not use the same domain: Cyclone DDS keeps the configuration with which a process first
entered it, so a test that looks at the network alone would not hear the next one's peers on localhost. Above domain 100
the ports are those that Linux hands out to anybody.
"""

from __future__ import annotations

import random

_HIGHEST = 100
_unused: list[int] = []


def fresh_domain() -> str:
    """ROS_DOMAIN_ID of a domain that no other test of this process has; other processes choose theirs at random."""
    if not _unused:
        _unused.extend(random.SystemRandom().sample(range(1, _HIGHEST + 1), _HIGHEST))
    return str(_unused.pop())
