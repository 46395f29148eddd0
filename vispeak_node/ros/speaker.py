"""What a session says, as messages: replies and their pieces, gestures, anomalies, attention."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection

from vispeak_node.ros.anomalies import AnomalyWatch, Raised, gesture_of, trigger_of
from vispeak_node.ros.message import Message
from vispeak_node.ros.messages import Anomaly, Attention, Bool, Gesture, Header, Response, String, Time
from vispeak_node.ros.report import Report
from vispeak_node.ros.standard import Classification, HriGesture, ObjectHypothesis
from vispeak_node.ros.topics import TopicNames
from vispeak_node.runtime.outputs import Output, ReplyFinished, ReplyStarted, Score, TextDelta, Trigger, split_label

_REMEMBERED = 60.0  # s for which an event's arrival is kept


class Speaker:
    """Publishes what the session's outputs mean. Used by one thread.

    Args:
        names: of the topics.
        publish: takes a topic and a message.
        report: counts replies and duplicates here.
        watch: decides when an anomaly is over.
        min_event_score: a kind that is less likely than this is unknown.
        bridges: packages whose messages are published too, of `topics.BRIDGES`.
    """

    def __init__(
        self,
        names: TopicNames,
        publish: Callable[[str, Message], None],
        report: Report,
        watch: AnomalyWatch,
        min_event_score: float,
        bridges: Collection[str] = (),
    ) -> None:
        self._names, self._publish, self._report = names, publish, report
        self._watch, self._min_event_score, self._bridges = watch, min_event_score, bridges
        self._run_id = uuid.uuid4().hex[:8]
        self._arrived: dict[int, float] = {}  # stamp of an event -> when it came, for latencies
        self._pieces = 0  # of the reply under way
        self._started: ReplyStarted | None = None
        self.frame_id = ""

    def begin(self) -> None:
        """Says that no anomaly is raised, for those who subscribe to the latched topic."""
        self._publish(self._names.anomaly_active, Bool(False))

    def arrived(self, stamp: int, moment: float) -> None:
        """An event with this stamp came at a monotonic moment, s."""
        self._arrived[stamp] = moment
        self._arrived = {key: at for key, at in self._arrived.items() if moment - at < _REMEMBERED}

    def tell(self, output: Output) -> None:
        """Publishes one output."""
        if isinstance(output, Score):
            self._attention(output)
        elif isinstance(output, ReplyStarted):
            self._start(output)
        elif isinstance(output, TextDelta):
            self._piece(output)
        elif isinstance(output, ReplyFinished):
            self._finish(output)

    def forget(self, stamp: int) -> None:
        """The node was reset: an anomaly is not raised any more."""
        over = self._watch.end()
        if over is not None:
            self._cleared(over, stamp)

    def _attention(self, score: Score) -> None:
        message = Attention(
            self._header(score.stamp), score.score, score.total, score.threshold, score.speaking, score.fired
        )
        self._publish(self._names.attention, message)
        if "vision_msgs" in self._bridges and score.events:
            results = tuple(ObjectHypothesis(label, share) for label, share in score.events)
            self._publish(self._names.classification, Classification(self._header(score.stamp), results))
        over = self._watch.look(score.events, score.stamp)
        if over is not None:
            self._cleared(over, score.stamp)

    def _start(self, reply: ReplyStarted) -> None:
        self._started, self._pieces = reply, 0
        event = self._event(reply)
        gesture = gesture_of(event)
        if gesture is not None:
            label = split_label(event)[1]
            self._publish(
                self._names.gesture, Gesture(self._header(reply.stamp), gesture, label, reply.event_score, "")
            )
            if "hri_msgs" in self._bridges:
                known = gesture if gesture <= Gesture.CONSTANTS["WAVING"][1] else Gesture.CONSTANTS["OTHER"][1]
                self._publish(self._names.hri_gesture, HriGesture(self._header(reply.stamp), known))
        if self._watch.trigger(self._id(reply.reply_id), event, reply.event_score, reply.stamp):
            self._publish(self._names.anomaly_active, Bool(True))  # what it was is told when the reply is spoken

    def _piece(self, delta: TextDelta) -> None:
        if self._started is None or self._started.reply_id != delta.reply_id:
            return
        self._publish(self._names.partial, self._response(self._started, delta.stamp, delta.text, self._pieces))
        self._pieces += 1

    def _finish(self, reply: ReplyFinished) -> None:
        raised = self._watch.raised
        if raised is not None and raised.id == self._id(reply.reply_id):
            self._publish(self._names.anomaly, self._anomaly(raised, reply.start, reply.text, active=True))
        if reply.duplicate:
            self._report.duplicates += 1
            return
        self._report.replies += 1
        pieces, self._pieces, self._started = self._pieces, 0, None
        response = self._response(reply, reply.end, reply.text, pieces)
        self._publish(self._names.response, response)
        self._publish(self._names.response_text, String(reply.text))

    def _cleared(self, over: Raised, stamp: int) -> None:
        self._publish(self._names.anomaly, self._anomaly(over, stamp, "", active=False))
        self._publish(self._names.anomaly_active, Bool(False))

    def _anomaly(self, raised: Raised, stamp: int, description: str, active: bool) -> Anomaly:
        level = Anomaly.CONSTANTS["WARN" if active else "OK"][1]
        return Anomaly(
            self._header(stamp), raised.id, level, raised.category, description, raised.score,
            Time.from_ns(raised.start), active,
        )  # fmt: skip

    def _response(self, reply: ReplyStarted | ReplyFinished, stamp: int, text: str, seq: int) -> Response:
        final = isinstance(reply, ReplyFinished)
        start = reply.start if isinstance(reply, ReplyFinished) else reply.stamp
        event = self._event(reply)
        return Response(
            header=self._header(stamp),
            id=self._id(reply.reply_id),
            seq=seq,
            is_final=final,
            trigger=trigger_of(event) if reply.trigger is Trigger.VISUAL else Response.CONSTANTS["TRIGGER_QUERY"][1],
            text=text,
            trigger_label=split_label(event)[1] if event else reply.trigger.value,
            confidence=reply.score,
            segment_start=Time.from_ns(start),
            latency_s=time.monotonic() - self._arrived.get(start, time.monotonic()),
            interrupted=isinstance(reply, ReplyFinished) and reply.interrupted,
        )

    def _event(self, reply: ReplyStarted | ReplyFinished) -> str:
        return reply.event_label if reply.event_score >= self._min_event_score else ""

    def _id(self, reply_id: int) -> str:
        return f"{self._run_id}-{reply_id}"

    def _header(self, stamp: int) -> Header:
        return Header(Time.from_ns(stamp), self.frame_id)
