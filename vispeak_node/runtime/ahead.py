"""Encodes the event that is read next while the language model reads the one before it.

A thread of its own prepares the frame or sound and launches the encoder, on a GPU on a stream of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from vispeak_node.stream.events import Event, ImageEvent, SoundEvent

if TYPE_CHECKING:
    from vispeak_node.runtime.encoders import Segment


class Ahead:
    """At most one event is encoded ahead: the next one.

    Args:
        encode: an event's rows, with no regard to what is encoded ahead.
        device: of the encoders.
    """

    def __init__(self, encode: Callable[[Event], Segment], device: torch.device) -> None:
        self._encode, self._device = encode, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="vispeak-ahead")
        self._begun: tuple[Event, Future[tuple[Segment, torch.Event | None]]] | None = None

    def begin(self, event: Event) -> None:
        """Starts with an event, after what was begun before was taken; texts need no encoder."""
        assert self._begun is None, "an event was read without a look at what was begun for it"
        if not isinstance(event, ImageEvent | SoundEvent):
            return
        # the encoders work on the caller's stream too: what is queued there may still use their memory
        ready = None if self._stream is None else torch.cuda.current_stream(self._device).record_event()
        self._begun = event, self._worker.submit(self._work, event, ready)

    def take(self, event: Event) -> Segment | None:
        """The event's rows if it was begun, else nothing; from here on the encoders are the caller's again.

        Raises:
            ValueError: the frame or sound is malformed.
        """
        begun, self._begun = self._begun, None
        if begun is None:
            return None
        expected, future = begun
        if future.exception() is not None and self._stream is not None:
            # what it had launched may still read the encoders' memory
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
        if expected is not event and future.exception() is not None:
            return None  # nobody asks any more
        segment, done = future.result()
        self._join(segment, done)
        return segment if expected is event else None

    def _join(self, segment: Segment, done: torch.Event | None) -> None:
        """What the caller queues from here on comes after the encoder, and after it the rows' memory may be freed."""
        if done is None:
            return
        current = torch.cuda.current_stream(self._device)
        current.wait_event(done)  # type: ignore[arg-type]  # the same class by two names
        for rows in (segment.user_TD, segment.features_NF):
            if rows is not None:
                rows.record_stream(current)  # its memory came from the other stream

    def _work(self, event: Event, ready: torch.Event | None) -> tuple[Segment, torch.Event | None]:
        if self._stream is None:
            return self._encode(event), None
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            self._stream.wait_event(ready)  # type: ignore[arg-type]
            return self._encode(event), self._stream.record_event()
