"""A live session: events in, scores and replies out, at most one language-model pass per silent event.

While the agent is silent its stream is the pad token at every position, which is known in advance, so a whole segment
is one causal pass. While it speaks the two streams run in lockstep: the token chosen at position p is the agent's
input at position p+1, next to whatever the user stream holds there. This computes what the published token-by-token
loop computes.

The work on an event is a generator that asks for encoders, passes and heads (`requests`), so that several sessions can
be driven side by side (`group`).

Shape legend: T positions, D hidden.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.backends import Backends
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.context import Context, build_budget
from vispeak_node.runtime.encoders import Kind, Segment, SegmentEncoder
from vispeak_node.runtime.outputs import Output, ReplyStarted, Score, Trigger
from vispeak_node.runtime.past import Past
from vispeak_node.runtime.question import Question, begins_answer
from vispeak_node.runtime.recogniser import Recogniser
from vispeak_node.runtime.requests import Driver, HeadRequest, Reading, Steps
from vispeak_node.runtime.runner import drive
from vispeak_node.runtime.speech import Speech
from vispeak_node.runtime.trigger import TriggerWindow
from vispeak_node.stream.events import Event, ResetEvent


class Session:
    """One stream's assistant. Not thread-safe: push from one thread.

    Args:
        model: from `load_model`; several sessions may share it.
        vocabulary: the checkpoint's tokenizer.
        config: see `SessionConfig`.
        backends: what runs the encoders; the model itself by default. Sessions in one thread may share them.
        driver: does the work on an event; `runner.drive`, which does it alone, by default.

    Raises:
        ValueError: the model cannot do what the config asks of it.
    """

    def __init__(
        self,
        model: ViSpeakModel,
        vocabulary: Vocabulary,
        config: SessionConfig | None = None,
        backends: Backends | None = None,
        driver: Driver | None = None,
    ) -> None:
        self._drive = driver or partial(drive, model)
        self.config = (config or SessionConfig()).changed(model.config.threshold)
        if self.config.proactive and model.informative_head is None:
            raise ValueError("this checkpoint has no informative head: it answers questions only; use proactive=False")
        self.model = model
        self.vocabulary = vocabulary
        self.backends = backends or Backends.torch(model, self.config.graphs)
        with torch.inference_mode():
            # who drives several sessions batches their encoders instead
            overlap = driver is None and self.config.overlaps(model.device.type)
            self._encoder = SegmentEncoder(model, vocabulary, self.config.max_query_tokens, self.backends, overlap)
            self._pad_1D = self._encoder.embed([vocabulary.pad])
        self._recogniser = Recogniser(model, vocabulary, self.config.recognition)
        budget = build_budget(model, vocabulary, self.config)
        self.past = Past(model, vocabulary, self._encoder, self.config, budget)
        temporary = self._recogniser.num_positions + 1 + self.past.memory.num_recall_positions
        self._context = Context(model, vocabulary, self.config, dataclasses.replace(budget, temporary=temporary))
        self._question = Question(self._context)
        self._trigger = TriggerWindow(self.config)
        window = self.config.duplicate_window
        self._speech = Speech(vocabulary, self._context, self._trigger, self.past.dialogue, window)
        self._now = 0  # ns, the newest event
        self._forget()

    def configure(self, **changes: object) -> None:
        """Changes settings while the stream goes on; another thread may call it.

        Raises:
            ValueError: a setting is unknown, cannot be changed under way, or has a value that makes no sense.
        """
        self.config = self.config.changed(self.model.config.threshold, **changes)
        self._trigger.configure(self.config)

    def push(self, event: Event, then: Event | None = None) -> list[Output]:
        """Reads one event.

        Args:
            event: with a stamp not before the last one's.
            then: what will most likely be pushed next, if it is there already: its encoder may run meanwhile.

        Returns:
            What follows from it, in order: at most one score, then what the agent said.

        Raises:
            ValueError: the event is malformed or too long; the session is as it was before.
        """
        return self._drive(self.pushing(event, then))

    def pushing(self, event: Event, then: Event | None = None) -> Steps[list[Output]]:
        """The steps of `push`, for who drives several sessions, in `torch.inference_mode`.

        Raises:
            ValueError: as `push`, before the first pass.
        """
        if isinstance(event, ResetEvent):
            return self.reset(event.stamp)
        segment = yield from self._encoder.encoding(event)
        self._encoder.expect(then)
        yield from self._context.admitting(segment)
        if not len(self._context):
            yield from self._context.prefilling([self._prompt(segment.stamp)], wanted=1)
        self.past.meet_clock(segment.stamp)
        self._now = max(self._now, segment.stamp)
        if segment.kind is Kind.TEXT:
            self._remember(segment.stamp)
        self._context.begin_segment(segment)
        self._question.note(segment, self.config.answer_timeout)
        self.past.add(event, segment)
        outputs = yield from (self._speak_through(segment) if self.speaking else self._listen(segment))
        return outputs + (yield from self._speak_ahead(self.config.speak_ahead))

    def prefill(self, events: Iterable[Event], agent_ids: Sequence[int] = ()) -> list[Output]:
        """Reads a past in one pass and decides at its end only, as published inference begins.

        Args:
            events: the past.
            agent_ids: what the agent said beside it, from the system prompt's first position on, pad where it was
                silent; what lies beyond the past is cut, and silence follows what is shorter.

        Raises:
            ValueError: an event is malformed, the past is too long, or the session has begun already.
        """
        if len(self._context):
            raise ValueError("prefill must come before the first push")
        return self._drive(self._prefilling(list(events), agent_ids))

    def finish(self) -> list[Output]:
        """The stream ends: a reply under way is spoken to its end over `finish_padding` positions."""
        return self._drive(self.finishing())

    def finishing(self) -> Steps[list[Output]]:
        """The steps of `finish`."""
        outputs = yield from self._speak_ahead(self.config.finish_padding)
        return outputs + self._end_reply()

    def reset(self, stamp: int | None = None) -> list[Output]:
        """Forgets everything but the system prompt, memory and dialogue too; a reply under way is cut."""
        self._now = self._now if stamp is None else stamp
        outputs = self._end_reply()
        self._forget()
        self._now = 0
        self.past.clear()
        return outputs

    def rebuild(self) -> list[Output]:
        """Makes the context anew from memory and dialogue: after a restart, or a failure in the midst of a pass."""
        outputs = self._end_reply()
        self._forget()
        with torch.inference_mode():
            self.past.replay(self._context, self._prompt(self._now))
        return outputs

    @property
    def num_positions(self) -> int:
        """Positions in the context."""
        return len(self._context)

    @property
    def num_left(self) -> int:
        """Segments and replies that had to leave the context since the session was made."""
        return self._context.cache.num_left

    def usage(self) -> dict[str, str]:
        """What the session holds, for diagnostics."""
        budget, memory = self._context.cache.budget, self.past.memory
        return {
            "context positions": f"{self.num_positions} of {budget.rows}",
            "context bytes": str(self._context.cache.num_bytes),
            "segments that left the context": str(self.num_left),
            "frames remembered": str(sum(len(frames) for frames in memory.groups().values())),
            "vision back end": self.backends.vision.name,
            "audio back end": self.backends.audio.name,
        }

    @property
    def speaking(self) -> bool:
        """Whether a reply is under way."""
        return self._speech.under_way

    def _remember(self, stamp: int) -> None:
        """Reads what the memory holds from before the window, for a question."""
        self._context.drop_question()
        segments = self.past.recall(self._context.cache.oldest_stamp, stamp)
        if segments:
            self._context.read_temporary(segments)

    def _forget(self) -> None:
        self._context.clear()
        self._trigger.reset()
        self._speech.clear()
        self._question.clear()

    def _prompt(self, stamp: int) -> Segment:
        return self._encoder.prompt(SYSTEM_PROMPTS[self.config.system_prompt], stamp)

    def _prefilling(self, events: Sequence[Event], agent_ids: Sequence[int]) -> Steps[list[Output]]:
        segments: list[Segment] = []
        for event in events:
            segments.append((yield from self._encoder.encoding(event)))
        segments.insert(0, self._prompt(segments[0].stamp if segments else 0))
        last = segments[-1]
        self._context.owed = list(agent_ids)[: sum(segment.user_TD.shape[0] for segment in segments)]
        try:
            hidden_TD = yield from self._context.prefilling(segments, wanted=2)
        except ValueError:
            self._context.owed = []
            raise
        self._now = last.stamp
        for event, segment in zip(events, segments[1:], strict=True):
            self.past.add(event, segment)
        self._question.note(last, self.config.answer_timeout)
        if last.kind is Kind.PROMPT:
            return []
        outputs = yield from self._decide(last, hidden_TD[-2:-1], hidden_TD[-1:])
        return outputs + (yield from self._speak_ahead(self.config.speak_ahead))

    def _listen(self, segment: Segment) -> Steps[list[Output]]:
        """A silent event: one pass. A second of sound that no head is asked about shares the next event's."""
        if not (self._answering(segment) or self._scored(segment) or self._context.has_unread):
            self._context.leave_unread(segment.user_TD)
            return []
        hidden_TD = yield from self._context.reading(segment.user_TD, wanted=2)
        return (yield from self._decide(segment, hidden_TD[-2:-1], hidden_TD[-1:]))

    def _speak_through(self, segment: Segment) -> Steps[list[Output]]:
        """Lockstep: one reply token per user position, then the rest of the segment in one pass."""
        outputs: list[Output] = []
        rows_TD, spoken = segment.user_TD, 0
        hidden_TD = rows_TD[:0]
        while spoken < rows_TD.shape[0] - 1 and self.speaking:
            hidden_TD = yield from self._context.reading(rows_TD[spoken : spoken + 1])
            spoken += 1
            outputs += yield from self._speak(hidden_TD)
        rest_TD = rows_TD[spoken:]
        newest_TD = yield from self._context.reading(rest_TD, wanted=min(2, rest_TD.shape[0]))
        hidden_TD = torch.cat([hidden_TD, newest_TD])
        return outputs + (yield from self._decide(segment, hidden_TD[-2:-1], hidden_TD[-1:]))

    def _speak_ahead(self, most: int) -> Steps[list[Output]]:
        """Speaks over pad positions, while no user position waits."""
        outputs: list[Output] = []
        for _ in range(most):
            if not self.speaking:
                break
            hidden_1D = yield from self._context.reading(self._pad_1D)
            outputs += yield from self._speak(hidden_1D)
            if not self.speaking and self._context.owed:
                self._context.owed_pads += 1  # the end marker is part of the reply: it gets a pad position too
        return [*outputs, *self._speech.delta(self._now)]

    def _decide(self, segment: Segment, visual_1D: Tensor, end_1D: Tensor) -> Steps[list[Output]]:
        """At a segment's end marker: is this moment a reason to speak?

        Args:
            segment: what was just read.
            visual_1D: hidden state of its last content position, which the informative head was trained on.
            end_1D: hidden state of its end marker, which predicts the first word of an answer.
        """
        outputs: list[Output] = []
        speaking, answering, scored = self.speaking, self._answering(segment), self._scored(segment)
        reading = Reading()
        if speaking or answering or scored:
            row_1D, next_1D = visual_1D if scored else None, end_1D if speaking or answering else None
            reading = yield HeadRequest(row_1D, next_1D, self._recogniser.by_event_head, chance=answering)
        asked = self._question.waits or not self.config.proactive
        begins = answering and begins_answer(reading.token, self.vocabulary, asked, speaking)
        # the language model itself begins words about what it sees, in a reply or instead of an answer
        called = scored and (begins or speaking) and self._calls(reading.token, segment)
        if begins and not called:
            outputs += self._end_reply()
            trigger = Trigger.VOICE if reading.token == self.vocabulary.answer_voice else Trigger.TEXT
            outputs += self._speech.start(segment.stamp, trigger, reading.chance, reading.token)
        if begins:
            self._question.clear()
        if scored:
            outputs += yield from self._score(segment, reading, free=not begins, called=called)
        begun = any(isinstance(output, ReplyStarted) for output in outputs)  # then its first token is chosen already
        if self.speaking and not begun:
            outputs += self._take_token(reading.token)
        return outputs

    def _answering(self, segment: Segment) -> bool:
        heard = self.config.voice_questions and segment.kind is Kind.SOUND
        return self._question.waits or heard or not self.config.proactive

    def _scored(self, segment: Segment) -> bool:
        if self.model.informative_head is None or not self.config.proactive:
            return False
        return segment.kind is Kind.IMAGE or self.config.score_events == "all"

    def _calls(self, token: int, segment: Segment) -> bool:
        if segment.kind is not Kind.IMAGE or token != self.vocabulary.answer_visual:
            return False
        return self._may_interrupt and not self._trigger.resting(segment.stamp)

    @property
    def _may_interrupt(self) -> bool:
        return not self.speaking or self.config.visual_interruption

    def _score(self, segment: Segment, reading: Reading, free: bool, called: bool) -> Steps[list[Output]]:
        """Scores a segment, and begins a reply if the scores add up, or the language model has called for one."""
        total, fires = self._trigger.add(segment.stamp, reading.score)
        fires = called or (fires and free and self._may_interrupt)
        events, least = self._recogniser.named(reading.events), self.config.threshold
        outputs: list[Output] = [Score(segment.stamp, reading.score, total, least, self.speaking, fires, events)]
        if fires:
            outputs += self._end_reply()
            self._trigger.fired(segment.stamp)
            start = self.vocabulary.answer_visual
            kind = yield from self._recogniser.recognise(events, self._encoder.embed, self._context.fork)
            outputs += self._speech.start(segment.stamp, Trigger.VISUAL, total, start, kind)
        return outputs

    def _speak(self, hidden_1D: Tensor) -> Steps[list[Output]]:
        """The reply's next token, chosen from the hidden state of the newest position."""
        return self._take_token((yield HeadRequest(end_1D=hidden_1D)).token)

    def _take_token(self, token: int) -> list[Output]:
        outputs = self._speech.take(token, self._now, self.config.max_reply_tokens)
        if not self.speaking:
            self._question.reply_ended()
        return outputs

    def _end_reply(self) -> list[Output]:
        """Cuts a reply under way, if there is one."""
        outputs: list[Output] = self._speech.end(self._now)
        self._question.reply_ended()
        return outputs
