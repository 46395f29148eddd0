"""A reply under way: its tokens, the text they make, and how it ends."""

from __future__ import annotations

from vispeak_node.model.tokens import TextStream, Vocabulary
from vispeak_node.runtime.outputs import ReplyFinished, TextDelta, Trigger
from vispeak_node.runtime.recogniser import UNKNOWN, Recognised
from vispeak_node.stream.events import nanoseconds


class Reply:
    """Collects the tokens of one reply."""

    def __init__(
        self,
        reply_id: int,
        stamp: int,
        trigger: Trigger,
        score: float,
        vocabulary: Vocabulary,
        event: Recognised = UNKNOWN,
    ) -> None:
        self.reply_id = reply_id
        self.start = stamp
        self.trigger = trigger
        self.score = score
        self.event = event
        self.tokens: list[int] = []
        self._vocabulary = vocabulary
        self._stream = TextStream(vocabulary)
        self.text = ""  # what was handed out so far
        self._unsent = ""

    @property
    def done(self) -> bool:
        """Whether the model ended it."""
        return bool(self.tokens) and self.tokens[-1] == self._vocabulary.reply_end

    def add(self, token: int) -> None:
        """Takes the next token that the model spoke."""
        self.tokens.append(token)
        if token not in self._vocabulary.markers:
            self._unsent += self._stream.add(token)

    def delta(self, stamp: int) -> list[TextDelta]:
        """The text since the last call, if there is any."""
        text, self._unsent = self._unsent, ""
        self.text += text
        return [TextDelta(self.reply_id, stamp, text)] if text else []

    def finish(self, stamp: int, interrupted: bool, duplicate: bool) -> ReplyFinished:
        """The whole reply; call `close` before it."""
        return ReplyFinished(
            reply_id=self.reply_id,
            start=self.start,
            end=stamp,
            text=self.text,
            trigger=self.trigger,
            score=self.score,
            interrupted=interrupted,
            token_ids=tuple(self.tokens),
            event_label=self.event.label,
            event_score=self.event.probability,
            duplicate=duplicate,
        )

    def close(self, stamp: int) -> list[TextDelta]:
        """Lets go of text that was held back."""
        self._unsent += self._stream.flush()
        return self.delta(stamp)


class RecentReplies:
    """Remembers what was said lately, so that the same words again can be marked."""

    def __init__(self, duplicate_window: float) -> None:
        self._window = nanoseconds(duplicate_window)
        self._said: dict[str, int] = {}

    def is_duplicate(self, text: str, stamp: int) -> bool:
        """Whether these words were said within the window; remembers them either way."""
        if not self._window:
            return False
        self._said = {words: at for words, at in self._said.items() if 0 <= stamp - at <= self._window}
        words = " ".join(text.split()).casefold()
        seen = words in self._said
        self._said.setdefault(words, stamp)
        return seen

    def clear(self) -> None:
        """Forgets everything."""
        self._said.clear()
