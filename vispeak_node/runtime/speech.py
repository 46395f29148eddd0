"""What the agent says in one stream: the reply under way, from its first token to its end."""

from __future__ import annotations

from vispeak_node.model.tokens import Vocabulary
from vispeak_node.runtime.context import Context
from vispeak_node.runtime.dialogue import Dialogue
from vispeak_node.runtime.outputs import Output, ReplyStarted, TextDelta, Trigger
from vispeak_node.runtime.recogniser import UNKNOWN, Recognised
from vispeak_node.runtime.reply import RecentReplies, Reply
from vispeak_node.runtime.trigger import TriggerWindow


class Speech:
    """The reply under way, if there is one.

    Args:
        vocabulary: the checkpoint's tokenizer.
        context: reads the tokens that are chosen here.
        trigger: starts anew with every reply.
        dialogue: remembers what was said.
        duplicate_window: s in which the same words again are marked.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        context: Context,
        trigger: TriggerWindow,
        dialogue: Dialogue,
        duplicate_window: float,
    ) -> None:
        self._vocabulary, self._context, self._trigger, self._dialogue = vocabulary, context, trigger, dialogue
        self._recent = RecentReplies(duplicate_window)
        self._reply: Reply | None = None
        self._num_replies = 0

    @property
    def under_way(self) -> bool:
        """Whether the agent speaks."""
        return self._reply is not None

    def clear(self) -> None:
        """Forgets what was said; a reply under way was ended before."""
        self._recent.clear()
        self._reply = None

    def start(
        self, stamp: int, trigger: Trigger, score: float, token: int, event: Recognised = UNKNOWN
    ) -> list[Output]:
        """A reply begins with this token."""
        assert self._reply is None
        self._num_replies += 1
        self._reply = Reply(self._num_replies, stamp, trigger, score, self._vocabulary, event)
        self._reply.add(token)
        self._context.begin_reply(stamp)
        self._context.owed = [token]
        self._trigger.rearm()
        return [ReplyStarted(self._num_replies, stamp, trigger, score, event.label, event.probability)]

    def take(self, token: int, now: int, most: int) -> list[Output]:
        """The reply's next token, which may be its last: the end marker, or the last of `most`."""
        assert self._reply is not None
        self._reply.add(token)
        self._context.owed = [token]
        if self._reply.done:
            return self.end(now, interrupted=False)
        return self.end(now, interrupted=True) if len(self._reply.tokens) >= most else []

    def delta(self, now: int) -> list[TextDelta]:
        """What was said since the last call."""
        return [] if self._reply is None else self._reply.delta(now)

    def end(self, now: int, interrupted: bool = True) -> list[Output]:
        """The reply under way ends here, if there is one.

        Args:
            now: ns, of the newest event.
            interrupted: whether it was cut.
        """
        reply, self._reply = self._reply, None
        if reply is None:
            return []
        outputs: list[Output] = list(reply.close(now))
        finished = reply.finish(now, interrupted, self._recent.is_duplicate(reply.text, now))
        self._dialogue.say(finished)
        return [*outputs, finished]
