"""What was asked and said lately, for a context that must be made anew."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from vispeak_node.runtime.outputs import ReplyFinished

MAX_TURNS = 32


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, or a reply."""

    stamp: int  # ns, of the question, or of the event that triggered the reply
    text: str
    token_ids: tuple[int, ...] = ()  # of a reply, markers included; a question has none

    @property
    def is_reply(self) -> bool:
        """Whether the assistant said it."""
        return bool(self.token_ids)


class Dialogue:
    """The last turns, oldest first."""

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque(maxlen=MAX_TURNS)

    def __iter__(self) -> Iterator[Turn]:
        return iter(self._turns)

    def __len__(self) -> int:
        return len(self._turns)

    def ask(self, stamp: int, text: str) -> None:
        """Somebody asked."""
        self._turns.append(Turn(stamp, text))

    def say(self, reply: ReplyFinished) -> None:
        """The assistant spoke."""
        self._turns.append(Turn(reply.start, reply.text, reply.token_ids))

    def restore(self, turns: Iterable[Turn]) -> None:
        """Takes over these turns."""
        self._turns = deque(turns, maxlen=MAX_TURNS)

    def shift(self, by: int) -> None:
        """Moves all stamps by so many ns."""
        self.restore([replace(turn, stamp=turn.stamp + by) for turn in self._turns])

    def clear(self) -> None:
        """Forgets everything."""
        self._turns.clear()
