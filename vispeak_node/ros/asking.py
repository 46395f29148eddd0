"""Questions whose answers somebody waits for, such as a goal of the action `ask`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from vispeak_node.runtime.outputs import Output, ReplyFinished, ReplyStarted, TextDelta, Trigger


@dataclass(eq=False)
class Question:
    """One question; the callbacks run in the assistant's thread."""

    text: str
    on_delta: Callable[[str], None] = lambda text: None
    on_done: Callable[[ReplyFinished], None] = lambda reply: None
    reply_id: int | None = field(default=None, init=False)


class Askers:
    """Ties answers to questions: the session answers typed questions in their order."""

    def __init__(self) -> None:
        self._waiting: deque[Question] = deque()
        self._answering: Question | None = None
        self._lock = threading.Lock()

    def add(self, question: Question) -> None:
        """The question is about to be put to the session."""
        with self._lock:
            self._waiting.append(question)

    def withdraw(self, question: Question) -> None:
        """Nobody waits for the answer any more."""
        with self._lock:
            if question in self._waiting:
                self._waiting.remove(question)
            if self._answering is question:
                self._answering = None

    def hear(self, output: Output) -> None:
        """Hands an output to whoever waits for it."""
        with self._lock:
            if isinstance(output, ReplyStarted) and output.trigger is not Trigger.VISUAL and self._waiting:
                self._answering = self._waiting.popleft()
                self._answering.reply_id = output.reply_id
            question = self._answering
            if question is None or getattr(output, "reply_id", None) != question.reply_id:
                return
            if isinstance(output, ReplyFinished):
                self._answering = None
        if isinstance(output, TextDelta):
            question.on_delta(output.text)
        elif isinstance(output, ReplyFinished):
            question.on_done(output)
