"""How well a checkpoint notices: live sessions over held-out clips, compared with what really happened in them.

Time accuracy is ViSpeak-Bench's: the clip's first reply that nobody asked for begins between the event's begin and two
seconds after its end. Both trivial baselines stand beside it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from tqdm import tqdm

from vispeak_node.model.subtasks import split_label
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import ReplyFinished, Trigger
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import Event, ImageEvent, TextEvent, nanoseconds, seconds
from vispeak_training.phrases import HELD_OUT_QUESTIONS
from vispeak_training.theatre.acts import ACTS, SENTENCES
from vispeak_training.theatre.dataset import UNSETTLED, SampledClip

TOLERANCE = 2.0  # s after an event's end in which a reply still counts (published)
_INTERRUPTION = "visual_interruption"


@dataclass(frozen=True)
class Spoken:
    """What a session said in one clip; times in s of the clip."""

    unasked: list[ReplyFinished]  # replies that nobody asked for
    asked: list[ReplyFinished]

    def starts(self) -> list[float]:
        """When the unasked ones began."""
        return [seconds(reply.start) for reply in self.unasked]


def measure(
    model: ViSpeakModel,
    vocabulary: Vocabulary,
    clips: list[SampledClip],
    config: SessionConfig | None = None,
    session_type: type[Session] = Session,
) -> dict[str, Any]:
    """Time accuracy, subtasks, words and false triggers over clips at one frame a second.

    Interruptions are watched in lockstep, as a reply that is spoken at once cannot be interrupted.

    Args:
        model: with an informative head.
        vocabulary: of the model.
        clips: to watch.
        config: of the sessions.
        session_type: what watches.
    """
    # a session for every clip: capturing graphs would cost more than they save
    config = replace(config or SessionConfig(), graphs="never")
    done: Counter[str] = Counter()
    for clip in tqdm(clips, desc="measuring", disable=None):
        subtask = _subtask(clip)
        ahead = 0 if subtask == _INTERRUPTION else config.speak_ahead
        spoken = watch(session_type(model, vocabulary, replace(config, speak_ahead=ahead)), clip)
        _count(done, clip, spoken, subtask)
    return _summary(done, sum(len(clip.labels) for clip in clips), len(clips))


def watch(session: Session, clip: SampledClip) -> Spoken:
    """A clip with its conversation's questions, live."""
    outputs = [output for event in events_of(clip) for output in session.push(event)] + session.finish()
    replies = [output for output in outputs if isinstance(output, ReplyFinished)]
    return Spoken(
        [reply for reply in replies if reply.trigger is Trigger.VISUAL],
        [reply for reply in replies if reply.trigger is not Trigger.VISUAL],
    )


def events_of(clip: SampledClip, question: tuple[float, str] | None = None) -> list[Event]:
    """A clip's frames and typed questions in the order of their stamps."""
    events: list[Event] = []
    for time, frame in zip(clip.times, clip.frames, strict=True):
        stamp = nanoseconds(float(time))
        events.append(ImageEvent(stamp, frame, stamp))
    asked = [(turn["time"], turn["value"]) for turn in clip.note.get("turns", []) if turn["from"] == "human"]
    for time, text in asked if question is None else [question]:
        events.append(TextEvent(nanoseconds(time), text))
    return sorted(events, key=lambda event: event.stamp)


def questions_answered(model: ViSpeakModel, vocabulary: Vocabulary, clips: list[SampledClip]) -> float:
    """Share of questions about the middle frame, worded as none in training, with the right answer."""
    right = total = 0
    for clip in tqdm(clips, desc="asking", disable=None):
        middle = len(clip.labels) // 2
        if clip.labels[middle] == UNSETTLED or clip.note.get("turns"):
            continue
        part = SampledClip(*(column[: middle + 1] for column in _columns(clip)))
        question = (float(clip.times[middle]) + 1e-6, HELD_OUT_QUESTIONS[middle % len(HELD_OUT_QUESTIONS)])
        session = Session(model, vocabulary, SessionConfig(graphs="never"))
        outputs = [output for event in events_of(part, question) for output in session.push(event)] + session.finish()
        replies = [output for output in outputs if isinstance(output, ReplyFinished)]
        texts = [reply.text for reply in replies if reply.trigger is not Trigger.VISUAL]
        right += texts[:1] == [SENTENCES[ACTS[clip.labels[middle]]]]
        total += 1
    return right / max(1, total)


def _columns(clip: SampledClip) -> tuple[Any, ...]:
    return clip.frames, clip.labels, clip.starts, clip.times, clip.keypoints


def _subtask(clip: SampledClip) -> str:
    due = due_events(clip)
    return str(due[0]["subtask"]) if due else str(clip.note.get("subtask", "distractors"))


def due_events(clip: SampledClip) -> list[dict[str, Any]]:
    """The events of a clip that call for words without a question."""
    return [event for event in clip.note["events"] if event["subtask"] != "visual_reference"]


def _count(done: Counter[str], clip: SampledClip, spoken: Spoken, subtask: str) -> None:
    due, starts = due_events(clip), spoken.starts()
    done["events"] += len(due)
    open_events = list(due)
    for reply, start in zip(spoken.unasked, starts, strict=True):
        match = next((event for event in open_events if _in_time(event, start)), None)
        if match is None:
            done["false"] += 1
            continue
        open_events.remove(match)
        done["noticed"] += 1
        done["named"] += split_label(reply.event_label)[0] == match["subtask"]
        done["labelled"] += reply.event_label == f"{match['subtask']}/{match['label']}"
        done["worded"] += reply.text in match["replies"]
    if due:
        done[f"clips {subtask}"] += 1
        done[f"in time {subtask}"] += bool(starts) and _in_time(due[0], starts[0])
        done[f"guess {subtask}"] += _in_time(due[0], 1.0)
    elif subtask == "visual_reference":
        options = [turn for turn in clip.note["turns"] if "ans" in turn]
        done["references"] += 1
        said = spoken.asked[0].text if spoken.asked else ""
        done["chosen"] += bool(options) and said[:1] == options[0]["ans"]
    else:
        done["quiet seconds"] += len(clip.labels)
        done["quiet false"] += len(starts)


def _in_time(event: dict[str, Any], start: float) -> bool:
    begin, end = event["timespan"]
    return bool(begin - 1e-6 <= start <= end + TOLERANCE)


def _summary(done: Counter[str], total_seconds: int, clips: int) -> dict[str, Any]:
    def share(part: str, whole: str) -> float:
        return round(done[part] / max(1, done[whole]), 3)

    subtasks = sorted(name.removeprefix("clips ") for name in done if name.startswith("clips "))
    timed = sum(done[f"in time {name}"] for name in subtasks) / max(1, sum(done[f"clips {name}"] for name in subtasks))
    guess = sum(done[f"guess {name}"] for name in subtasks) / max(1, sum(done[f"clips {name}"] for name in subtasks))
    return {
        "clips": clips,
        "seconds": total_seconds,
        "events": done["events"],
        "time_accuracy": round(timed, 3),
        "time_accuracy_by_subtask": {name: share(f"in time {name}", f"clips {name}") for name in subtasks},
        "time_accuracy_of_guessing_at_1_s": round(guess, 3),
        "time_accuracy_of_silence": 0.0,
        "noticed": share("noticed", "events"),
        "precision": round(done["noticed"] / max(1, done["noticed"] + done["false"]), 3),
        "subtask_named_of_noticed": share("named", "noticed"),
        "label_named_of_noticed": share("labelled", "noticed"),
        "rightly_worded_of_noticed": share("worded", "noticed"),
        "false_replies_per_minute": round(60 * done["false"] / max(1, total_seconds), 3),
        "references_right": share("chosen", "references"),
        "false_triggers_per_5_quiet_minutes": round(300 * done["quiet false"] / max(1, done["quiet seconds"]), 3),
    }
