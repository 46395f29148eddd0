"""What kind of event a moment shows: by the checkpoint's event head, else by lettered options that the model chooses
from, which its benchmark taught it (ViSpeak-Bench, Visual Reference). Never by matching words in a reply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vispeak_node.model.subtasks import NONE
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.requests import Steps

OPTIONS = (  # label, what the model reads
    ("visual_wake_up", "Someone greets the assistant with a gesture, such as waving"),
    ("anomaly_warning", "Something dangerous or abnormal happens, such as a fall or an accident"),
    ("gesture_understanding", "Someone makes another gesture to the assistant, such as a thumbs up"),
    ("visual_reference", "Someone points at something and wants to know about it"),
    ("visual_interruption", "Someone signals to the assistant to stop talking"),
    ("humor_reaction", "Something funny happens"),
    ("visual_termination", "Someone waves goodbye to the assistant"),
    (NONE, "Nothing of this"),
)
_LETTERS = "ABCDEFGH"
assert len(OPTIONS) == len(_LETTERS)


@dataclass(frozen=True, slots=True)
class Recognised:
    """The kind of an event."""

    label: str  # a class of the event head, or a subtask; empty if unknown
    probability: float  # among events, given that there is one


UNKNOWN = Recognised("", 0.0)
# reads rows of the user stream with agent tokens beside the first of them, and forgets them after the call
Fork = Callable[[list[tuple[Tensor, int | None]]], Steps[Tensor]]


class Recogniser:
    """Tells kinds of events apart.

    Args:
        model: with an event head or without.
        vocabulary: of the checkpoint.
        method: `auto` takes the head where there is one and nothing else; `options` asks the model; `never` tells none.

    Raises:
        ValueError: the checkpoint cannot do what is asked.
    """

    def __init__(self, model: ViSpeakModel, vocabulary: Vocabulary, method: str) -> None:
        self._model, self._vocabulary = model, vocabulary
        self._letters = [vocabulary.encode(letter) for letter in _LETTERS]
        self.by_options = method == "options" or (method == "auto" and model.event_head is None)
        self.by_event_head = method == "auto" and model.event_head is not None
        if any(len(ids) != 1 for ids in self._letters):
            if method == "options":
                raise ValueError("this checkpoint's tokenizer has no token for each of the letters A to H")
            self.by_options = False
        self.by_options = self.by_options and method != "never"
        listed = "\n".join(f"{letter}. {text}" for letter, (_, text) in zip(_LETTERS, OPTIONS, strict=True))
        question = f"What is happening now?\n{listed}\n\nThe best option is:"
        self._question = [*vocabulary.encode_user_text(question), vocabulary.segment_end]

    @property
    def num_positions(self) -> int:
        """Positions that a fork of `by_asking` reads; 0 if it never asks."""
        return len(self._question) + 1 if self.by_options else 0

    def named(self, shares: tuple[float, ...]) -> tuple[tuple[str, float], ...]:
        """The event head's probabilities with its labels; empty without a head."""
        return tuple(zip(self._model.config.event_labels, shares, strict=True)) if shares else ()

    def recognise(
        self, probabilities: tuple[tuple[str, float], ...], embed: Callable[[list[int]], Tensor], fork: Fork
    ) -> Steps[Recognised]:
        """By the head where there are its probabilities, else by asking where that is wanted; see the two."""
        if probabilities:
            return self.by_head(probabilities)
        return (yield from self.by_asking(embed, fork)) if self.by_options else UNKNOWN

    def by_head(self, probabilities: tuple[tuple[str, float], ...]) -> Recognised:
        """The likeliest event, given that the moment calls for words."""
        events = [(label, share) for label, share in probabilities if label != NONE]
        whole = sum(share for _, share in events)
        if not events or whole <= 0:
            return UNKNOWN
        label, share = max(events, key=lambda entry: entry[1])
        return Recognised(label, share / whole)

    def by_asking(self, embed: Callable[[list[int]], Tensor], fork: Fork) -> Steps[Recognised]:
        """The option that the model chooses after what it has seen.

        Args:
            embed: token ids to rows [T, D].
            fork: reads (rows, agent token beside the first of them) one after the other without keeping them; gives
                the last hidden state, [1, D].
        """
        pad_1D = embed([self._vocabulary.pad])
        hidden_1D = yield from fork([(embed(self._question), None), (pad_1D, self._vocabulary.answer_text)])
        logits_L = self._model.lm_head(hidden_1D)[0][[ids[0] for ids in self._letters]]
        return self.by_head(
            tuple(zip([label for label, _ in OPTIONS], logits_L.float().softmax(-1).tolist(), strict=True))
        )
