"""Sessions in several threads on one set of weights: what they ask for at the same time runs as one batch.

Every camera of a node has a thread of its own, and comes when it has something to read. Whoever comes first does the
work, its own and that of all who come meanwhile; they wait, and one of them goes on when the first has what it came
for. So no thread is needed but those of the sessions, and nothing waits for a batch to fill up.
"""

from __future__ import annotations

import threading
from typing import Any

import torch

from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.requests import Request, Result, Steps
from vispeak_node.runtime.runner import answer_together, next_batch


class _Ticket:
    """One thread's work on one event, and how it ended."""

    def __init__(self, steps: Steps[Any]) -> None:
        self.steps = steps
        self.done = False
        self.error: BaseException | None = None
        self.result: Any = None

    def advance(self, answer: Any) -> Request | None:
        """Goes on to the next request; none at the end."""
        try:
            return self.steps.send(answer)
        except StopIteration as stop:
            self.result = stop.value
        except BaseException as error:  # noqa: BLE001 - raised where it belongs, in the thread whose work this is
            self.error = error
        self.done = True
        return None

    def fail(self, error: BaseException) -> None:
        """Its batch failed."""
        self.steps.close()
        self.error, self.done = error, True

    def outcome(self) -> Any:
        """The result, or what the work raised."""
        if self.error is not None:
            raise self.error
        return self.result


class Batcher:
    """A `Driver` for sessions of several threads. Their back ends must be the same objects to be batched.

    Args:
        model: of all sessions.
    """

    def __init__(self, model: ViSpeakModel) -> None:
        self._model = model
        self._changed = threading.Condition()  # guards what follows
        self._led = False  # whether a thread is at work
        self._arrived: list[_Ticket] = []
        self._waiting: dict[_Ticket, Request] = {}  # touched by the thread at work only

    def __call__(self, steps: Steps[Result], /) -> Result:
        """Does a session's work, together with what other threads bring meanwhile.

        Raises:
            ValueError: what the work raises.
            RuntimeError: its batch failed, for want of memory as a rule; every session in it is told.
        """
        ticket = _Ticket(steps)
        with self._changed:
            self._arrived.append(ticket)
            self._changed.wait_for(lambda: ticket.done or not self._led)
            if not ticket.done:
                self._led = True
        if not ticket.done:
            self._lead(ticket)
        result: Result = ticket.outcome()
        return result

    def _lead(self, own: _Ticket) -> None:
        try:
            with torch.inference_mode():
                while not own.done:
                    self._round()
        finally:
            with self._changed:
                self._led = False
                self._changed.notify_all()

    def _round(self) -> None:
        """Takes up what has arrived, answers one batch of requests, and lets go whoever has its result."""
        with self._changed:
            arrived, self._arrived = self._arrived, []
        for ticket in arrived:
            self._advance(ticket, None)
        if self._waiting:
            batch = next_batch(self._waiting)
            self._answer(batch, [self._waiting.pop(ticket) for ticket in batch])
        with self._changed:
            self._changed.notify_all()

    def _answer(self, batch: list[_Ticket], requests: list[Request]) -> None:
        try:
            answers = answer_together(self._model, requests)
        except BaseException as error:  # noqa: BLE001 - raised in the threads that wait for the answers
            for ticket in batch:
                # each thread its own: raising writes a traceback into it
                ticket.fail(error if len(batch) == 1 else RuntimeError(f"{type(error).__name__}: {error}"))
            return
        for ticket, answer in zip(batch, answers, strict=True):
            self._advance(ticket, answer)

    def _advance(self, ticket: _Ticket, answer: Any) -> None:
        request = ticket.advance(answer)
        if request is not None:
            self._waiting[ticket] = request
