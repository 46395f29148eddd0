"""How well a checkpoint notices: sessions over held-out clips, compared with what really happened in them."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import ReplyFinished, ReplyStarted, Trigger
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import ImageEvent, TextEvent, nanoseconds
from vispeak_training.phrases import HELD_OUT_QUESTIONS, REPLIES
from vispeak_training.theatre.acts import ACTS, EVENTS, SENTENCES
from vispeak_training.theatre.dataset import UNSETTLED, SampledClip

TOLERANCE = 1  # frames after an event's end in which its reply still counts (the published protocol allows 2 s)


def measure(
    model: ViSpeakModel,
    vocabulary: Vocabulary,
    clips: list[SampledClip],
    config: SessionConfig | None = None,
    questions: bool = True,
) -> dict[str, Any]:
    """Events noticed, false replies and answers, over clips at one frame a second.

    An event is noticed when a reply starts at a frame of it (or the one after) and its text is one that was taught
    for it. Any other proactive reply is false. One typed question is asked in the middle of each clip in a second
    session.
    """
    events = noticed = named = false = answered = asked = 0
    for clip in tqdm(clips, desc="measuring", disable=None):
        due = _events(clip)
        events += len(due)
        for start, text in _replies(Session(model, vocabulary, config), clip):
            match = next((e for e in due if e["first"] <= start <= e["last"] + TOLERANCE and not e["noticed"]), None)
            if match is None:
                false += 1
                continue
            match["noticed"] = True
            noticed += 1
            named += text in REPLIES[match["act"]]
        middle = len(clip.labels) // 2
        if questions and clip.labels[middle] != UNSETTLED:
            asked += 1
            answered += _ask(Session(model, vocabulary, SessionConfig(proactive=False)), clip, middle)
    seconds = sum(len(clip.labels) for clip in clips)
    return {
        "clips": len(clips),
        "seconds": seconds,
        "events": events,
        "noticed": round(noticed / max(1, events), 3),
        "rightly_worded_of_noticed": round(named / max(1, noticed), 3),
        "false_replies_per_minute": round(60 * false / max(1, seconds), 3),
        "precision": round(noticed / max(1, noticed + false), 3),
        "questions_answered_right": round(answered / max(1, asked), 3),
    }


def _events(clip: SampledClip) -> list[dict[str, Any]]:
    """The events of a clip by the frames that show them."""
    found: dict[float, dict[str, Any]] = {}
    for index, label in enumerate(clip.labels):
        if label != UNSETTLED and ACTS[label] in EVENTS:
            entry = found.setdefault(
                float(clip.starts[index]), {"act": ACTS[label], "first": index, "last": index, "noticed": False}
            )
            entry["last"] = index
    return list(found.values())


def _replies(session: Session, clip: SampledClip) -> list[tuple[int, str]]:
    outputs = []
    for index, frame in enumerate(clip.frames):
        stamp = nanoseconds(index)
        outputs += session.push(ImageEvent(stamp, frame, stamp))
    outputs += session.finish()
    seconds = nanoseconds(1)
    return [
        (out.start // seconds, out.text)
        for out in outputs
        if isinstance(out, ReplyFinished) and out.trigger is Trigger.VISUAL
    ]


def _ask(session: Session, clip: SampledClip, middle: int) -> bool:
    for index in range(middle + 1):
        stamp = nanoseconds(index)
        started = session.push(ImageEvent(stamp, clip.frames[index], stamp))
        assert not any(isinstance(out, ReplyStarted) and out.trigger is Trigger.VISUAL for out in started)
        session.reset() if session.speaking else None
    question = HELD_OUT_QUESTIONS[middle % len(HELD_OUT_QUESTIONS)]
    outputs = session.push(TextEvent(nanoseconds(middle) + 1, question)) + session.finish()
    texts = [out.text for out in outputs if isinstance(out, ReplyFinished)]
    return texts[:1] == [SENTENCES[ACTS[clip.labels[middle]]]]
