"""The node's logic, without a transport: messages in, a session on a thread of its own, messages out.

Callbacks run in the transport's thread. They check a message, hand it to the segmenter, which keeps references and
decodes only the frames it uses, and put the events that come of it into a bounded queue. What is dropped or refused
is counted.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vispeak_node.ros.anomalies import AnomalyWatch
from vispeak_node.ros.asking import Askers, Question
from vispeak_node.ros.intake import DIALECTS, Intake
from vispeak_node.ros.message import Message
from vispeak_node.ros.messages import (
    AudioDataStamped,
    AudioInfo,
    AudioStamped,
    Bool,
    CompressedImage,
    DiagnosticArray,
    DiagnosticStatus,
    Header,
    Image,
    State,
    String,
    Time,
)
from vispeak_node.ros.report import Report, diagnosis
from vispeak_node.ros.speaker import Speaker
from vispeak_node.ros.topics import BRIDGES, TopicNames
from vispeak_node.runtime.outputs import Output
from vispeak_node.stream.events import Event, ResetEvent

logger = logging.getLogger(__name__)

_QUIET = 3.0  # s without an event after which the node is idle
_PULSE = 1.0  # s between diagnoses


class SessionLike(Protocol):
    """What the node needs of a session."""

    def push(self, event: Event) -> list[Output]:
        """See `runtime.session.Session.push`."""
        ...

    def reset(self, stamp: int | None = None) -> list[Output]:
        """See `runtime.session.Session.reset`."""
        ...

    @property
    def speaking(self) -> bool:
        """Whether a reply is under way."""
        ...


@dataclass(frozen=True)
class AssistantConfig:
    """How the node takes its inputs and tells its findings.

    Raises:
        ValueError: a field is out of its range.
    """

    audio: bool = False  # whether sound is listened to: frames then wait for their second of it
    audio_dialect: str = "ros-drivers"  # whose audio_common_msgs: ros-drivers or mgonzs13
    frames_per_second: int = 1  # frames that the model reads, 1 or 2
    max_waiting: int = 16  # events that may wait for the model; beyond it the oldest are dropped
    max_query_length: int = 4096  # characters; a longer query is refused
    min_event_score: float = 0.5  # an event whose kind is less likely than this is of unknown kind
    anomaly_clear: float = 3.0  # s without sign of an anomaly after which it is over
    anomaly_hold: float = 10.0  # s after which it is over where the checkpoint cannot tell
    bridges: str = ""  # more messages, by comma: hri_msgs (gestures), vision_msgs (the kinds of every frame)

    def __post_init__(self) -> None:
        if self.audio_dialect not in DIALECTS:
            raise ValueError(f"audio_dialect {self.audio_dialect!r} is unknown; use one of {', '.join(DIALECTS)}")
        for name, least in (("max_waiting", 1), ("max_query_length", 1), ("anomaly_clear", 0), ("anomaly_hold", 0)):
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


class Assistant:
    """One camera's assistant.

    Args:
        session: used by one thread only, the assistant's.
        config: see `AssistantConfig`.
        publish: takes a topic and a message; called from the assistant's thread.
        names: of the topics.
        facts: shown in diagnostics, such as model and device.
    """

    def __init__(
        self,
        session: SessionLike,
        config: AssistantConfig,
        publish: Callable[[str, Message], None],
        names: TopicNames | None = None,
        facts: dict[str, str] | None = None,
    ) -> None:
        self.config, self.names = config, names or TopicNames()
        self.report = Report()
        self.intake = Intake(config.frames_per_second, config.audio, config.max_query_length)
        self._session, self._publish, self._facts = session, publish, facts or {}
        watch = AnomalyWatch(config.anomaly_clear, config.anomaly_hold)
        self._speaker = Speaker(self.names, publish, self.report, watch, config.min_event_score, config.bridge_names)
        self._lock = threading.Lock()  # callbacks may come from several threads
        self._askers = Askers()
        self._events: queue.Queue[tuple[Event, float]] = queue.Queue(config.max_waiting)
        self._enabled = True
        self._state = ""
        self._last_event = float("-inf")  # monotonic s
        self._next_pulse = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to think."""
        self._thread = threading.Thread(target=self._run, name="assistant", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends after the event at hand."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def on_image(self, message: Image) -> None:
        """Takes a frame."""
        self._take(self.names.image, lambda: self.intake.image(message))

    def on_compressed(self, message: CompressedImage) -> None:
        """Takes a compressed frame."""
        self._take(self.names.compressed, lambda: self.intake.compressed(message))

    def on_audio_info(self, message: AudioInfo) -> None:
        """Takes what the bytes of sound mean."""
        self._take(self.names.audio_info, lambda: self.intake.audio_info(message))

    def on_audio(self, message: AudioDataStamped) -> None:
        """Takes sound."""
        self._take(self.names.audio, lambda: self.intake.audio(message))

    def on_audio_stamped(self, message: AudioStamped) -> None:
        """Takes sound of the other dialect."""
        self._take(self.names.audio, lambda: self.intake.audio_stamped(message))

    def on_query(self, message: String) -> None:
        """Takes a typed question."""
        self._take(self.names.query, lambda: self.intake.query(message))

    def ask(self, question: Question) -> None:
        """Puts a question for whose answer somebody waits.

        Raises:
            ValueError: it is empty or too long, or the node is switched off.
        """
        if not self._enabled:
            raise ValueError("the node is switched off")
        with self._lock:
            events = self.intake.query(String(question.text))
            self._askers.add(question)
            for event in events:
                self._enqueue(event)

    def withdraw(self, question: Question) -> None:
        """Nobody waits for this answer any more."""
        self._askers.withdraw(question)

    def on_enable(self, message: Bool) -> None:
        """Switches the node off or on; what it knows stays."""
        self.enabled = message.data

    def on_reset(self, message: Bool) -> None:
        """Makes the node forget, if the message says true."""
        if message.data:
            self.reset()

    def reset(self) -> None:
        """Forgets everything seen and said."""
        with self._lock:
            for event in self.intake.reset():
                self._enqueue(event)

    @property
    def enabled(self) -> bool:
        """Whether inputs are read; while not, they are counted and ignored."""
        return self._enabled

    @enabled.setter
    def enabled(self, wanted: bool) -> None:
        with self._lock:
            self._enabled = wanted

    def on_bad(self, topic: str, error: ValueError) -> None:
        """Counts a message that was refused, and says so once for every reason."""
        reason = f"{topic}: {error}"
        # numbers differ from message to message; the reason is the same
        key = "".join("#" if character.isdigit() else character for character in reason)
        self.report.refused[key] += 1
        if self.report.refused[key] == 1:
            logger.warning("refused: %s", reason)

    @property
    def num_waiting(self) -> int:
        """Events that wait for the model."""
        return self._events.qsize()

    def handlers(self) -> dict[str, Callable[..., None]]:
        """Which method takes the messages of which input topic."""
        names = self.names
        sound = self.on_audio_stamped if self.config.audio_dialect == "mgonzs13" else self.on_audio
        return {
            names.image: self.on_image,
            names.compressed: self.on_compressed,
            names.audio: sound,
            names.audio_info: self.on_audio_info,
            names.query: self.on_query,
            names.enable: self.on_enable,
            names.reset: self.on_reset,
        }

    def status(self) -> DiagnosticStatus:
        """How the node is doing."""
        facts = self._facts | {"state": self._state}
        return diagnosis(self.report, self.intake.segmenter.counters, facts, time.monotonic())

    def _take(self, topic: str, work: Callable[[], list[Event]]) -> None:
        with self._lock:
            self.report.received[topic] += 1
            if not self._enabled:
                self.report.ignored += 1
                return
            try:
                events = work()
            except ValueError as error:
                self.on_bad(topic, error)
                return
            for event in events:
                self._enqueue(event)

    def _enqueue(self, event: Event) -> None:
        while True:
            try:
                self._events.put_nowait((event, time.monotonic()))
                break
            except queue.Full:
                try:
                    self._events.get_nowait()
                    self.report.dropped_events += 1
                    self.report.last_drop = time.monotonic()
                except queue.Empty:
                    pass  # the model's thread was faster
        self.report.deepest = max(self.report.deepest, self._events.qsize())

    def _run(self) -> None:
        self._speaker.begin()
        while not self._stop.is_set():
            try:
                event, arrived = self._events.get(timeout=0.1)
            except queue.Empty:
                self._pulse()
                continue
            self._read(event, arrived)
            self._pulse()

    def _read(self, event: Event, arrived: float) -> None:
        self._last_event = time.monotonic()
        self._speaker.frame_id = self.intake.frame_id
        self._speaker.arrived(event.stamp, arrived)
        try:
            outputs = self._session.push(event)
        except ValueError as error:
            self.on_bad("session", error)
            return
        except Exception as error:  # noqa: BLE001 - whatever goes wrong inside the model, the node lives on
            self._recover(event.stamp, error)
            return
        for output in outputs:
            self._speaker.tell(output)
            self._askers.hear(output)
        if isinstance(event, ResetEvent):
            self._speaker.forget(event.stamp)
        now = time.monotonic()
        self.report.event_read(now, now - arrived)

    def _recover(self, stamp: int, error: Exception) -> None:
        """The model failed: begin afresh, and say so."""
        self.report.errors += 1
        self.report.last_error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        logger.error("the model failed and starts afresh: %s", self.report.last_error)
        self._show("error")
        for output in self._session.reset(stamp):
            self._speaker.tell(output)

    def _pulse(self) -> None:
        """Tells the state when it changes, and a diagnosis every second."""
        now = time.monotonic()
        self._show(self._present_state(now))
        if now >= self._next_pulse:
            self._next_pulse = now + _PULSE
            header = Header(Time.from_ns(time.time_ns()), "")
            self._publish(self.names.diagnostics, DiagnosticArray(header, (self.status(),)))

    def _present_state(self, now: float) -> str:
        if not self._enabled or now - self._last_event > _QUIET:
            return "idle"
        if self._session.speaking:
            return "speaking"
        return "overloaded" if self.report.overloaded(now) else "listening"

    def _show(self, state: str) -> None:
        if state == self._state:
            return
        self._state = state
        report, now = self.report, time.monotonic()
        message = State(
            Header(Time.from_ns(self.intake.newest), self.intake.frame_id), State.CONSTANTS[state.upper()][1],
            report.rate(now), report.lag, report.dropped_events,
        )  # fmt: skip
        self._publish(self.names.state, message)
