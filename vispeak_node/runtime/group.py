"""Several sessions on one set of weights, side by side: what they ask for at the same time runs as one batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch

from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.backends import Backends
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import Output
from vispeak_node.runtime.requests import Request, Steps
from vispeak_node.runtime.runner import answer_together, next_batch
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import Event

Key = TypeVar("Key", bound=Hashable)


class SessionGroup(Generic[Key]):
    """Sessions of several cameras; each says what it would say alone. Not thread-safe: use it from one thread.

    Args:
        model: from `load_model`.
        vocabulary: the checkpoint's tokenizer.
        config: of every session.
        backends: what runs the encoders; the model itself by default. All sessions share them.
    """

    def __init__(
        self,
        model: ViSpeakModel,
        vocabulary: Vocabulary,
        config: SessionConfig | None = None,
        backends: Backends | None = None,
    ) -> None:
        self._model, self._vocabulary, self._config = model, vocabulary, config
        self._backends = backends or Backends.torch(model, (config or SessionConfig()).graphs)
        self._sessions: dict[Key, Session] = {}
        self.refused: dict[Key, ValueError] = {}  # events of the newest call that a session refused, and why

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._sessions)

    def __getitem__(self, key: Key) -> Session:
        return self._sessions[key]

    def join(self, key: Key) -> Session:
        """A new session, which begins with its first event. What it does alone (`reset`, `configure`) is done on it.

        Raises:
            ValueError: the key is taken, or the model cannot do what the config asks of it.
        """
        if key in self._sessions:
            raise ValueError(f"there is a session {key!r} in the group already")
        self._sessions[key] = Session(self._model, self._vocabulary, self._config, self._backends)
        return self._sessions[key]

    def leave(self, key: Key) -> Session:
        """A session goes on alone, or ends; the others do not notice.

        Raises:
            KeyError: there is none with this key.
        """
        return self._sessions.pop(key)

    def push(self, events: Mapping[Key, Event]) -> dict[Key, list[Output]]:
        """Reads one event of each of some sessions.

        Args:
            events: by session; the others stay as they are.

        Returns:
            What follows from each, as `Session.push` has it. An event that its session refused is not among them: why
            is in `refused`, that session is as it was before, and the others do not notice.

        Raises:
            KeyError: there is no session with one of the keys; nothing was read.
            RuntimeError: a batch failed, for want of memory as a rule. Sessions of `events` may have stopped half way:
                `Session.rebuild` makes their contexts anew.
        """
        sessions = {key: self._sessions[key] for key in events}
        return self._drive({key: session.pushing(events[key]) for key, session in sessions.items()})

    def finish(self) -> dict[Key, list[Output]]:
        """All streams end; see `Session.finish`."""
        return self._drive({key: session.finishing() for key, session in self._sessions.items()})

    def _drive(self, work: dict[Key, Steps[list[Output]]]) -> dict[Key, list[Output]]:
        outputs: dict[Key, list[Output]] = {}
        self.refused = {}
        waiting: dict[Key, Request] = {}
        with torch.inference_mode():
            try:
                for key, steps in work.items():
                    self._advance(key, steps, None, waiting, outputs)
                while waiting:
                    batch = next_batch(waiting)
                    answers = answer_together(self._model, [waiting.pop(key) for key in batch])
                    for key, answer in zip(batch, answers, strict=True):
                        self._advance(key, work[key], answer, waiting, outputs)
            finally:
                for steps in work.values():
                    steps.close()
        return {key: outputs[key] for key in work if key in outputs}

    def _advance(
        self,
        key: Key,
        steps: Steps[list[Output]],
        answer: Any,
        waiting: dict[Key, Request],
        outputs: dict[Key, list[Output]],
    ) -> None:
        """A session goes on to its next request, or to its end."""
        try:
            waiting[key] = steps.send(answer)
        except StopIteration as stop:
            outputs[key] = stop.value
        except ValueError as error:
            self.refused[key] = error
