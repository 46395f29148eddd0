"""What a session asks for while it reads an event: encoders, passes of the language model, its heads.

A session's work on an event is a generator. It yields a request and is sent the answer, so whoever drives it decides
what runs together: `runner.drive` answers one session's requests, `group.SessionGroup` those of several as one batch,
`batcher.Batcher` those of sessions in several threads.

Shape legend: T positions, D hidden, S pixels, C channels, M mel bins.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from torch import Tensor

from vispeak_node.runtime.backends import Backends
from vispeak_node.runtime.ring import RingCache

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class FrameRequest:
    """Answered by its embeddings [N, D] and the pooled features [N, F] they were projected from."""

    frame_SSC: Tensor  # uint8
    backends: Backends


@dataclass(frozen=True, eq=False)
class SoundRequest:
    """Answered by its embeddings [N, D]."""

    fbank_TM: Tensor
    backends: Backends


@dataclass(frozen=True, eq=False)
class PassRequest:
    """Answered by final hidden states, [wanted, D]; the cache has taken rows for these positions already."""

    embeds_TD: Tensor  # both streams, combined
    start: int  # position of the first
    cache: RingCache
    wanted: int  # so many of the last positions
    alone: Callable[[PassRequest], Tensor] | None = None  # runs it by static buffers, where there are any


@dataclass(frozen=True, eq=False)
class HeadRequest:
    """Answered by a `Reading`; the rows that are None are not asked about."""

    visual_1D: Tensor | None = None  # for the informative head
    end_1D: Tensor | None = None  # for the next word
    events: bool = False  # whether the event head is asked about `visual_1D` too
    chance: bool = False  # whether the next word's probability is wanted


@dataclass(frozen=True, slots=True)
class Reading:
    """What the heads said, on the host."""

    score: float = 0.0  # 0..1, of the informative head
    events: tuple[float, ...] = ()  # probability of each class of the event head
    token: int = -1  # the likeliest next word
    chance: float = 0.0  # its probability


Request: TypeAlias = FrameRequest | SoundRequest | PassRequest | HeadRequest
# work that asks on its way and ends with a result
Steps: TypeAlias = Generator[Request, Any, Result]


class Driver(Protocol):
    """Does a session's work, however it answers the requests on its way."""

    def __call__(self, steps: Steps[Result], /) -> Result:
        """To its end; what the work raises is raised here."""
        ...
