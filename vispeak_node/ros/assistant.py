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
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from vispeak_node.ros.images import check_image, decompress, to_rgb
from vispeak_node.ros.message import Message
from vispeak_node.ros.messages import (
    Attention,
    AudioDataStamped,
    AudioInfo,
    CompressedImage,
    Header,
    Image,
    Response,
    String,
    Time,
)
from vispeak_node.ros.sound import check_info, to_samples
from vispeak_node.runtime.outputs import Output, ReplyFinished, Score, Trigger
from vispeak_node.stream.events import NANOSECONDS, Event
from vispeak_node.stream.items import Picture
from vispeak_node.stream.segmenter import Segmenter, SegmenterConfig

logger = logging.getLogger(__name__)

MAX_IMAGE_BYTES = 64 * 2**20
# see Response.CONSTANTS; what kind of event it was is not known yet
_TRIGGERS = {Trigger.VISUAL: 5, Trigger.TEXT: 0, Trigger.VOICE: 0}


class SessionLike(Protocol):
    """What the node needs of a session."""

    def push(self, event: Event) -> list[Output]:
        """See `runtime.session.Session.push`."""
        ...

    def reset(self, stamp: int | None = None) -> list[Output]:
        """See `runtime.session.Session.reset`."""
        ...


@dataclass(frozen=True)
class AssistantConfig:
    """Topics and limits of the node."""

    image_topic: str = "/camera/image_raw"  # sensor_msgs/Image
    compressed_topic: str = "/camera/image_raw/compressed"  # sensor_msgs/CompressedImage
    audio_topic: str = "/audio"  # audio_common_msgs/AudioDataStamped
    audio_info_topic: str = "/audio_info"  # audio_common_msgs/AudioInfo
    query_topic: str = "/vispeak/query"  # std_msgs/String
    response_topic: str = "/vispeak/response"  # vispeak_msgs/Response
    response_text_topic: str = "/vispeak/response_text"  # std_msgs/String
    attention_topic: str = "/vispeak/attention"  # vispeak_msgs/Attention
    audio: bool = False  # whether sound is listened to: frames then wait for their second of it
    frames_per_second: int = 1  # frames that the model reads, 1 or 2
    max_waiting: int = 16  # events that may wait for the model; beyond it the oldest are dropped
    max_query_length: int = 4096  # characters; a longer query is refused


@dataclass
class Report:
    """What happened so far."""

    received: Counter[str] = field(default_factory=Counter)  # messages by topic
    refused: Counter[str] = field(default_factory=Counter)  # messages by topic and reason
    dropped_events: int = 0  # the model was too slow
    duplicates: int = 0  # replies not published because the same words were just said
    replies: int = 0
    deepest: int = 0  # most events that ever waited at once


class Assistant:
    """One camera's assistant.

    Args:
        session: used by one thread only, the assistant's.
        config: see `AssistantConfig`.
        publish: takes a topic and a message; called from the assistant's thread.
    """

    def __init__(self, session: SessionLike, config: AssistantConfig, publish: Callable[[str, Message], None]) -> None:
        self.config = config
        self.report = Report()
        self.segmenter = Segmenter(SegmenterConfig(config.frames_per_second, has_sound=config.audio))
        self._session = session
        self._publish = publish
        self._lock = threading.Lock()  # callbacks may come from several threads
        self._events: queue.Queue[tuple[Event, float]] = queue.Queue(config.max_waiting)
        self._info: AudioInfo | None = None
        self._frame_id = ""
        self._newest = 0  # ns, stamp of the newest input
        self._run_id = uuid.uuid4().hex[:8]
        self._arrived: dict[int, float] = {}  # stamp of an event -> when it came, for latencies
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
        self._take(self.config.image_topic, lambda: self._image(message))

    def on_compressed(self, message: CompressedImage) -> None:
        """Takes a compressed frame."""
        self._take(self.config.compressed_topic, lambda: self._compressed(message))

    def on_audio_info(self, message: AudioInfo) -> None:
        """Takes what the bytes of sound mean."""
        self._take(self.config.audio_info_topic, lambda: self._audio_info(message))

    def on_audio(self, message: AudioDataStamped) -> None:
        """Takes sound."""
        self._take(self.config.audio_topic, lambda: self._audio(message))

    def on_query(self, message: String) -> None:
        """Takes a typed question."""
        self._take(self.config.query_topic, lambda: self._query(message))

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

    def _take(self, topic: str, work: Callable[[], list[Event]]) -> None:
        with self._lock:
            self.report.received[topic] += 1
            try:
                events = work()
            except ValueError as error:
                self.on_bad(topic, error)
                return
            for event in events:
                self._enqueue(event)

    def _image(self, message: Image) -> list[Event]:
        check_image(message)
        return self._frame(message.header, lambda: to_rgb(message))

    def _compressed(self, message: CompressedImage) -> list[Event]:
        if not 0 < len(message.data) <= MAX_IMAGE_BYTES:
            raise ValueError(f"a compressed image of {len(message.data)} bytes")
        return self._frame(message.header, lambda: decompress(message))

    def _frame(self, header: Header, picture: Picture) -> list[Event]:
        events = self.segmenter.push_frame(self._stamp(header), picture)
        self._frame_id = header.frame_id
        return events

    def _audio_info(self, message: AudioInfo) -> list[Event]:
        check_info(message)
        self._info = message
        return []

    def _audio(self, message: AudioDataStamped) -> list[Event]:
        if not self.config.audio:
            raise ValueError("the node was started without --audio")
        if self._info is None:
            raise ValueError(f"nothing came on {self.config.audio_info_topic} yet, so the sound's format is unknown")
        samples = to_samples(message, self._info)
        return self.segmenter.push_sound(self._stamp(message.header), samples, self._info.sample_rate)

    def _query(self, message: String) -> list[Event]:
        if len(message.data) > self.config.max_query_length:
            raise ValueError(
                f"a query of {len(message.data)} characters; at most {self.config.max_query_length} are read"
            )
        return self.segmenter.push_text(self._newest, message.data)

    def _stamp(self, header: Header) -> int:
        if header.stamp.nanosec >= NANOSECONDS or header.stamp.sec < 0:
            raise ValueError(f"a stamp of {header.stamp.sec} s and {header.stamp.nanosec} ns")
        stamp = header.stamp.ns or time.time_ns()  # drivers that do not stamp send zero
        self._newest = max(self._newest, stamp)
        return stamp

    def _enqueue(self, event: Event) -> None:
        while True:
            try:
                self._events.put_nowait((event, time.monotonic()))
                break
            except queue.Full:
                try:
                    self._events.get_nowait()
                    self.report.dropped_events += 1
                except queue.Empty:
                    pass  # the model's thread was faster
        self.report.deepest = max(self.report.deepest, self._events.qsize())

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                event, arrived = self._events.get(timeout=0.1)
            except queue.Empty:
                continue
            self._arrived[event.stamp] = arrived
            try:
                outputs = self._session.push(event)
            except ValueError as error:
                self.on_bad("session", error)
                continue
            for output in outputs:
                self._tell(output)
            self._arrived = {stamp: at for stamp, at in self._arrived.items() if arrived - at < 60}

    def _tell(self, output: Output) -> None:
        if isinstance(output, Score):
            header = Header(Time.from_ns(output.stamp), self._frame_id)
            attention = Attention(
                header, output.score, output.total, output.threshold, output.speaking, output.fired
            )  # fmt: skip
            self._publish(self.config.attention_topic, attention)
        elif isinstance(output, ReplyFinished):
            self._reply(output)

    def _reply(self, reply: ReplyFinished) -> None:
        if reply.duplicate:
            self.report.duplicates += 1
            return
        self.report.replies += 1
        response = Response(
            header=Header(Time.from_ns(reply.end), self._frame_id),
            id=f"{self._run_id}-{reply.reply_id}",
            seq=0,
            is_final=True,
            trigger=_TRIGGERS[reply.trigger],
            text=reply.text,
            trigger_label=reply.trigger.value,
            confidence=reply.score,
            segment_start=Time.from_ns(reply.start),
            latency_s=time.monotonic() - self._arrived.get(reply.start, time.monotonic()),
            interrupted=reply.interrupted,
        )
        self._publish(self.config.response_topic, response)
        self._publish(self.config.response_text_topic, String(reply.text))
