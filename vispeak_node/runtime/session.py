"""A live session: events in, scores and replies out, one language-model pass per silent event.

While the agent is silent its stream is the pad token at every position, which is known in advance, so a whole segment
is one causal pass. While it speaks the two streams run in lockstep: the token chosen at position p is the agent's
input at position p+1, next to whatever the user stream holds there. This computes what the published token-by-token
loop computes.

Shape legend: T positions, D hidden.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.backends import Backends
from vispeak_node.runtime.config import CHANGEABLE, SessionConfig
from vispeak_node.runtime.context import Context, build_budget
from vispeak_node.runtime.encoders import Kind, Segment, SegmentEncoder
from vispeak_node.runtime.first_word import first_word
from vispeak_node.runtime.outputs import Output, ReplyStarted, Score, Trigger
from vispeak_node.runtime.past import Past
from vispeak_node.runtime.recogniser import UNKNOWN, Recognised, Recogniser
from vispeak_node.runtime.reply import RecentReplies, Reply
from vispeak_node.runtime.trigger import TriggerWindow
from vispeak_node.stream.events import Event, ResetEvent, nanoseconds

logger = logging.getLogger(__name__)


class Session:
    """One stream's assistant. Not thread-safe: push from one thread.

    Args:
        model: from `load_model`; several sessions may share it.
        vocabulary: the checkpoint's tokenizer.
        config: see `SessionConfig`.
        backends: what runs the encoders; the model itself by default. Sessions in one thread may share them.

    Raises:
        ValueError: the model cannot do what the config asks of it.
    """

    def __init__(
        self,
        model: ViSpeakModel,
        vocabulary: Vocabulary,
        config: SessionConfig | None = None,
        backends: Backends | None = None,
    ) -> None:
        self.config = config or SessionConfig()
        if not self.config.threshold:
            self.config = dataclasses.replace(self.config, threshold=model.config.threshold)
        if self.config.proactive and model.informative_head is None:
            raise ValueError("this checkpoint has no informative head: it answers questions only; use proactive=False")
        self.model = model
        self.vocabulary = vocabulary
        self.backends = backends or Backends.torch(model)
        with torch.inference_mode():
            self._encoder = SegmentEncoder(model, vocabulary, self.config.max_query_tokens, self.backends)
            self._pad_1D = self._encoder.embed([vocabulary.pad])
        self._recogniser = Recogniser(model, vocabulary, self.config.recognition)
        budget = build_budget(model, vocabulary, self.config)
        self.past = Past(model, vocabulary, self._encoder, self.config, budget)
        temporary = self._recogniser.num_positions + 1 + self.past.memory.num_recall_positions
        self._context = Context(model, vocabulary, self.config, dataclasses.replace(budget, temporary=temporary))
        self._trigger = TriggerWindow(self.config)
        self._recent = RecentReplies(self.config.duplicate_window)
        self._num_replies = 0
        self._now = 0  # ns, the newest event
        self._forget()

    def configure(self, **changes: object) -> None:
        """Changes settings while the stream goes on; another thread may call it.

        Raises:
            ValueError: a setting is unknown, cannot be changed under way, or has a value that makes no sense.
        """
        fixed = sorted(changes.keys() - CHANGEABLE)
        if fixed:
            raise ValueError(f"{fixed[0]} cannot be changed while the session runs; it is one of the first settings")
        config = dataclasses.replace(self.config, **changes)  # type: ignore[arg-type]
        if not config.threshold:
            config = dataclasses.replace(config, threshold=self.model.config.threshold)
        self.config = config
        self._trigger.configure(config)

    def push(self, event: Event) -> list[Output]:
        """Reads one event.

        Args:
            event: with a stamp not before the last one's.

        Returns:
            What follows from it, in order: at most one score, then what the agent said.

        Raises:
            ValueError: the event is malformed or too long; the session is as it was before.
        """
        if isinstance(event, ResetEvent):
            return self.reset(event.stamp)
        with torch.inference_mode():
            segment = self._encoder.segment(event)
            self._context.check(segment)
            if not len(self._context):
                self._context.prefill([self._prompt(segment.stamp)], wanted=1)
            self.past.meet_clock(segment.stamp)
            self._now = max(self._now, segment.stamp)
            if segment.kind is Kind.TEXT:
                self._remember(segment.stamp)
            self._context.begin_segment(segment)
            self._note_question(segment)
            self.past.add(event, segment)
            outputs = self._listen(segment) if self._reply is None else self._speak_through(segment)
            return outputs + self._speak_ahead(self.config.speak_ahead)

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
        with torch.inference_mode():
            events = list(events)
            segments = [self._encoder.segment(event) for event in events]
            stamp = segments[0].stamp if segments else 0
            segments.insert(0, self._prompt(stamp))
            last = segments[-1]
            self._context.owed = list(agent_ids)[: sum(segment.user_TD.shape[0] for segment in segments)]
            try:
                hidden_TD = self._context.prefill(segments, wanted=2)
            except ValueError:
                self._context.owed = []
                raise
            self._now = last.stamp
            for event, segment in zip(events, segments[1:], strict=True):
                self.past.add(event, segment)
            self._note_question(last)
            if last.kind is Kind.PROMPT:
                return []
            return self._decide(last, hidden_TD[-2:-1], hidden_TD[-1:]) + self._speak_ahead(self.config.speak_ahead)

    def finish(self) -> list[Output]:
        """The stream ends: a reply under way is spoken to its end over `finish_padding` positions."""
        with torch.inference_mode():
            outputs = self._speak_ahead(self.config.finish_padding)
            if self._reply is not None:
                outputs += self._end_reply(interrupted=True)
            return outputs

    def reset(self, stamp: int | None = None) -> list[Output]:
        """Forgets everything but the system prompt, memory and dialogue too; a reply under way is cut."""
        self._now = self._now if stamp is None else stamp
        outputs: list[Output] = [] if self._reply is None else self._end_reply(interrupted=True)
        self._forget()
        self.past.clear()
        return outputs

    def rebuild(self) -> list[Output]:
        """Makes the context anew from memory and dialogue: after a restart, or a failure in the midst of a pass."""
        outputs: list[Output] = [] if self._reply is None else self._end_reply(interrupted=True)
        now = self._now
        self._forget()
        self._now = now
        with torch.inference_mode():
            self.past.replay(self._context, self._prompt(now))
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
        return self._reply is not None

    def _remember(self, stamp: int) -> None:
        """Reads what the memory holds from before the window, for a question."""
        self._context.drop_question()
        segments = self.past.recall(self._context.cache.oldest_stamp, stamp)
        if segments:
            self._context.read_temporary(segments)

    def _forget(self) -> None:
        self._context.clear()
        self._trigger.reset()
        self._recent.clear()
        self._reply: Reply | None = None
        self._question: int | None = None  # stamp of a typed question that waits for its answer
        self._now = 0

    def _prompt(self, stamp: int) -> Segment:
        return self._encoder.prompt(SYSTEM_PROMPTS[self.config.system_prompt], stamp)

    def _note_question(self, segment: Segment) -> None:
        if segment.kind is Kind.TEXT:
            self._question = segment.stamp
            self._context.hold_question()
        elif self._question is not None and segment.stamp - self._question > nanoseconds(self.config.answer_timeout):
            logger.info("a question got no answer within %s s", self.config.answer_timeout)
            self._question = None
            self._context.drop_question()

    def _listen(self, segment: Segment) -> list[Output]:
        """A silent event: one pass."""
        hidden_TD = self._context.read(segment.user_TD, wanted=2)
        return self._decide(segment, hidden_TD[-2:-1], hidden_TD[-1:])

    def _speak_through(self, segment: Segment) -> list[Output]:
        """Lockstep: one reply token per user position, then the rest of the segment in one pass."""
        hidden: list[Tensor] = []
        outputs: list[Output] = []
        rows_TD = segment.user_TD
        for index in range(rows_TD.shape[0] - 1):
            if self._reply is None:
                break
            hidden.append(self._context.read(rows_TD[index : index + 1]))
            outputs += self._take_token(hidden[-1])
        spoken = len(hidden)
        hidden.append(self._context.read(rows_TD[spoken:]))
        hidden_TD = torch.cat([row[-2:] for row in hidden[-2:]])
        return outputs + self._decide(segment, hidden_TD[-2:-1], hidden_TD[-1:])

    def _speak_ahead(self, most: int) -> list[Output]:
        """Speaks over pad positions, while no user position waits."""
        outputs: list[Output] = []
        for _ in range(most):
            if self._reply is None:
                break
            hidden_1D = self._context.read(self._pad_1D)
            outputs += self._take_token(hidden_1D)
            if self._reply is None and self._context.owed:
                self._context.owed_pads += 1  # the end marker is part of the reply: it gets a pad position too
        if self._reply is not None:
            outputs += self._reply.delta(self._now)
        return outputs

    def _decide(self, segment: Segment, visual_1D: Tensor, end_1D: Tensor) -> list[Output]:
        """At a segment's end marker: is this moment a reason to speak?

        Args:
            segment: what was just read.
            visual_1D: hidden state of its last content position, which the informative head was trained on.
            end_1D: hidden state of its end marker, which predicts the first word of an answer.
        """
        outputs: list[Output] = []
        token: int | None = None
        if self._answering(segment):
            asked, speaking = self._question is not None or not self.config.proactive, self._reply is not None
            token, probability = first_word(self.model.lm_head(end_1D)[0], self.vocabulary, asked, speaking)
            if token is not None:
                if self._reply is not None:
                    outputs += self._end_reply(interrupted=True)
                trigger = Trigger.VOICE if token == self.vocabulary.answer_voice else Trigger.TEXT
                outputs += self._start_reply(segment.stamp, trigger, probability, token)
                self._question = None
        if self._scored(segment):
            outputs += self._score(segment, visual_1D, free=token is None)
        begun = any(isinstance(output, ReplyStarted) for output in outputs)  # then its first token is chosen already
        if self._reply is not None and not begun:
            outputs += self._take_token(end_1D)
        return outputs

    def _answering(self, segment: Segment) -> bool:
        heard = self.config.voice_questions and segment.kind is Kind.SOUND
        return self._question is not None or heard or not self.config.proactive

    def _scored(self, segment: Segment) -> bool:
        if self.model.informative_head is None or not self.config.proactive:
            return False
        return segment.kind is Kind.IMAGE or self.config.score_events == "all"

    def _score(self, segment: Segment, visual_1D: Tensor, free: bool) -> list[Output]:
        score = float(self.model.informative(visual_1D).float().sigmoid())
        total, fires = self._trigger.add(segment.stamp, score)
        speaking = self._reply is not None
        fires = fires and free and (not speaking or self.config.visual_interruption)
        events = self._recogniser.probabilities(visual_1D)
        outputs: list[Output] = [Score(segment.stamp, score, total, self.config.threshold, speaking, fires, events)]
        if fires:
            if speaking:
                outputs += self._end_reply(interrupted=True)
            self._trigger.fired(segment.stamp)
            start = self.vocabulary.answer_visual
            kind = self._recogniser.recognise(events, self._encoder.embed, self._context.fork)
            outputs += self._start_reply(segment.stamp, Trigger.VISUAL, total, start, kind)
        return outputs

    def _start_reply(
        self, stamp: int, trigger: Trigger, score: float, token: int, event: Recognised = UNKNOWN
    ) -> list[Output]:
        self._num_replies += 1
        self._reply = Reply(self._num_replies, stamp, trigger, score, self.vocabulary, event)
        self._reply.add(token)
        self._context.begin_reply(stamp)
        self._context.owed = [token]
        self._trigger.rearm()
        return [ReplyStarted(self._num_replies, stamp, trigger, score, event.label, event.probability)]

    def _take_token(self, hidden_1D: Tensor) -> list[Output]:
        """The reply's next token, chosen from the hidden state of the newest position."""
        assert self._reply is not None
        token = int(self.model.lm_head(hidden_1D[-1:]).argmax())
        self._reply.add(token)
        self._context.owed = [token]
        if self._reply.done:
            return self._end_reply(interrupted=False)
        if len(self._reply.tokens) >= self.config.max_reply_tokens:
            return self._end_reply(interrupted=True)
        return []

    def _end_reply(self, interrupted: bool) -> list[Output]:
        reply, self._reply = self._reply, None
        assert reply is not None
        if self._question is None:
            self._context.drop_question()
        outputs: list[Output] = list(reply.close(self._now))
        self._trigger.rearm()
        duplicate = self._recent.is_duplicate(reply.text, self._now)
        finished = reply.finish(self._now, interrupted, duplicate)
        self.past.dialogue.say(finished)
        return [*outputs, finished]
