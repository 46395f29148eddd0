"""The node's logic, without a transport: messages in, a session on a thread of its own, messages out.

Callbacks run in the transport's thread. They check a message, hand it to the segmenter, which keeps references and
decodes only the frames it uses, and put the events that come of it into a bounded queue. What is dropped or refused
is counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from vispeak_node.ros.anomalies import AnomalyWatch
from vispeak_node.ros.asking import Askers, Question
from vispeak_node.ros.assistant_config import AssistantConfig
from vispeak_node.ros.backlog import Backlog
from vispeak_node.ros.health import Health, Vitals
from vispeak_node.ros.intake import Allowance, Intake
from vispeak_node.ros.keeper import keeper_of
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
from vispeak_node.ros.topics import TopicNames
from vispeak_node.runtime.outputs import Output
from vispeak_node.stream.events import Event, ResetEvent

logger = logging.getLogger(__name__)


class SessionLike(Protocol):
    """What the node needs of a session."""

    def push(self, event: Event, then: Event | None = None) -> list[Output]:
        """See `runtime.session.Session.push`."""
        ...

    def reset(self, stamp: int | None = None) -> list[Output]:
        """See `runtime.session.Session.reset`."""
        ...

    def rebuild(self) -> list[Output]:
        """See `runtime.session.Session.rebuild`."""
        ...

    def usage(self) -> dict[str, str]:
        """See `runtime.session.Session.usage`."""
        ...

    @property
    def speaking(self) -> bool:
        """Whether a reply is under way."""
        ...


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
        self.intake = Intake(config.frames_per_second, config.audio, config.max_query_length, config.max_image_bytes)
        self._session, self._publish, self._facts = session, publish, facts or {}
        self._keeper = keeper_of(session, config.snapshot, self._facts.get("camera", ""), config.snapshot_period)
        watch = AnomalyWatch(config.anomaly_clear, config.anomaly_hold)
        self._speaker = Speaker(self.names, publish, self.report, watch, config.min_event_score, config.bridge_names)
        self._lock = threading.Lock()  # callbacks may come from several threads
        self._askers = Askers()
        self._rate = Allowance(config.query_rate)
        self._backlog = Backlog(config.max_waiting, config.overload, self.report)
        self._vitals = Vitals()
        self._usage: dict[str, str] = {}  # of the session, as of its newest event
        self._health = Health(self._vitals, self.report, config.patience, self._show, self._diagnose)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to think."""
        self._thread = threading.Thread(target=self._run, name="assistant", daemon=True)
        self._thread.start()
        self._health.start()

    def stop(self) -> None:
        """Ends after the event at hand, or without waiting for it if the model hangs."""
        self._stop.set()
        self._health.stop()
        if self._thread is not None:
            self._thread.join(self.config.patience)

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
        self._take(self.names.query, lambda: self._question(message))

    def ask(self, question: Question) -> None:
        """Puts a question for whose answer somebody waits.

        Raises:
            ValueError: it is empty or too long, or the node is switched off.
        """
        if not self.enabled:
            raise ValueError("the node is switched off")
        with self._lock:
            events = self._question(String(question.text))
            self._askers.add(question)
            self._enqueue(events)

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
            self._enqueue(self.intake.reset())

    @property
    def enabled(self) -> bool:
        """Whether inputs are read; while not, they are counted and ignored."""
        return self._vitals.enabled

    @enabled.setter
    def enabled(self, wanted: bool) -> None:
        with self._lock:
            self._vitals.enabled = wanted

    def on_bad(self, topic: str, error: ValueError) -> None:
        """Counts a message that was refused, and says so once for every reason."""
        reason = f"{topic}: {error}"
        if self.report.refuse(reason):
            logger.warning("refused: %s", reason)

    @property
    def num_waiting(self) -> int:
        """Events that wait for the model."""
        return len(self._backlog)

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
        facts = self._facts | {"state": self._health.state, "waiting now": str(self.num_waiting)}
        facts |= self._usage
        return diagnosis(self.report, self.intake.segmenter.counters, facts, time.monotonic())

    def _take(self, topic: str, work: Callable[[], list[Event]]) -> None:
        with self._lock:
            self.report.received[topic] += 1
            if not self.enabled:
                self.report.ignored += 1
                return
            try:
                events = work()
            except ValueError as error:
                self.on_bad(topic, error)
                return
            self._enqueue(events)

    def _question(self, message: String) -> list[Event]:
        if not self.config.queries:
            raise ValueError("questions are switched off (the parameter `queries`)")
        self._backlog.check_text()
        if not self._rate.take(time.monotonic()):
            raise ValueError("questions come faster than `query_rate`")
        return self.intake.query(message)

    def _enqueue(self, events: list[Event]) -> None:
        for event in events:
            self._backlog.put(event)

    def _run(self) -> None:
        self._speaker.begin()
        self._keeper.begin()
        while not self._stop.is_set():
            found = self._backlog.get(timeout=0.1)
            if found is None:
                continue
            self._vitals.last_event = self._vitals.busy_since = time.monotonic()
            try:
                self._read(*found)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong in the model or in a transport, the node lives on
                self._recover(found[0].stamp, error)
            self._keeper.look(time.monotonic())
            self._vitals.busy_since = None
            self._vitals.speaking = self._session.speaking
        self._keeper.end()

    def _read(self, event: Event, arrived: float) -> None:
        self._speaker.frame_id = self.intake.frame_id
        self._speaker.arrived(event.stamp, arrived)
        try:
            outputs = self._session.push(event, self._backlog.peek())
        except ValueError as error:
            self.on_bad("session", error)
            return
        self._tell(outputs)
        if isinstance(event, ResetEvent):
            self._speaker.forget(event.stamp)
        self._usage = self._session.usage()
        self.report.event_read(time.monotonic() - arrived)

    def _tell(self, outputs: list[Output]) -> None:
        for output in outputs:
            self._speaker.tell(output)
            self._askers.hear(output)

    def _recover(self, stamp: int, error: Exception) -> None:
        """The model failed: make its context anew from memory, or begin afresh, and say so."""
        self.report.errors += 1
        self.report.last_error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        self._vitals.failed = time.monotonic()
        logger.error("the model failed and its context is made anew: %s", self.report.last_error)
        error.__traceback__ = None  # it holds the failed pass's tensors, for which there was no room
        for begin_again in (self._session.rebuild, lambda: self._session.reset(stamp)):
            try:
                return self._tell(begin_again())
            except Exception as another:  # noqa: BLE001 - it may be the transport that fails; the next event tries again
                logger.error("that failed as well: %s", another)

    def _diagnose(self) -> None:
        header = Header(Time.from_ns(time.time_ns()), "")
        self._publish(self.names.diagnostics, DiagnosticArray(header, (self.status(),)))

    def _show(self, state: str) -> None:
        report = self.report
        message = State(
            Header(Time.from_ns(self.intake.newest), self.intake.frame_id), State.CONSTANTS[state.upper()][1],
            report.rates().get("events read", 0.0), report.lag, report.dropped_events,
        )  # fmt: skip
        self._publish(self.names.state, message)
