"""A script in the published annotation format: what happens when, what is said, and what is taught for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from vispeak_training.phrases import replies_to
from vispeak_training.theatre.acts import REFERENCES, label_of
from vispeak_training.theatre.script import DISTRACTORS, Script
from vispeak_training.theatre.talk import Turn

FILES = {  # the published benchmark's files
    "visual_wake_up": "Visual_Wake-Up",
    "anomaly_warning": "Anomaly_Warning",
    "gesture_understanding": "Gesture_Understanding",
    "visual_reference": "Visual_Reference",
    "visual_interruption": "Visual_Interruption",
    "humor_reaction": "Humor_Reaction",
    "visual_termination": "Visual_Termination",
    DISTRACTORS: "Distractors",
}


def describe(script: Script, rng: np.random.Generator) -> dict[str, Any]:
    """What a script holds, as JSON.

    Returns:
        `duration` in s; `subtask`; `events`, each with `act`, `subtask`, `label`, `timespan`, `time` (in the second
        half of its span) and all `replies` taught for it; `turns` with `from`, `value`, `time`, `timespan`, `spoken`
        and, for questions with options, `options` and `ans`.
    """
    events = []
    for part in script.parts:
        subtask, _, label = label_of(part.act).partition("/")
        if not label:
            continue
        begin, end = script.span(part)
        time = begin + (end - begin) * rng.uniform(0.5, 0.9)
        event = {"act": part.act, "subtask": subtask, "label": label, "timespan": [round(begin, 2), round(end, 2)]}
        events.append(event | {"time": round(time, 2), "replies": list(replies_to(part.act))})
    turns = [_turn(turn) for turn in script.turns]
    return {"duration": round(script.duration, 2), "subtask": script.subtask, "events": events, "turns": turns}


def annotation(video: str, script: Script, rng: np.random.Generator) -> dict[str, Any]:
    """One item of an annotation file; `subtask`, `label` and `replies` are added to the published fields."""
    note = describe(script, rng)
    item: dict[str, Any] = {"video": video, "video_len": note["duration"], "proactive": True}
    events = [event for event in note["events"] if event["subtask"] != "visual_reference"]
    if script.subtask == "visual_reference":
        return item | _reference(script, note)
    if not events:
        return item | {"distractor": True, "subtask": "none", "label": "none", "replies": [], "conversations": []}
    first = events[0]
    item |= {"task_type": FILES[first["subtask"]].replace("_", " ")}
    turns = _cut([_plain(turn) for turn in note["turns"]], first)
    for event in events:
        reply = str(rng.choice(event["replies"]))
        turns.append({"from": "gpt", "value": reply, "time": event["time"], "timespan": event["timespan"]})
    item |= _SPECIAL.get(first["subtask"], lambda name: {})(first["label"].replace("_", " "))
    labels = {"subtask": first["subtask"], "label": first["label"], "replies": first["replies"]}
    return item | labels | {"events": events, "conversations": turns}


def _reference(script: Script, note: dict[str, Any]) -> dict[str, Any]:
    question, answer = script.turns
    thing = next(part.act.removeprefix("point_") for part in script.parts if part.act in REFERENCES)
    return {
        "proactive": False,
        "task_type": "Visual Reference",
        "video_start_time": 0.0,
        "video_end_time": question.time,
        "questions": question.text,
        "ans": question.answer,
        "ans_full": thing.capitalize(),
        "subtask": "visual_reference",
        "label": thing,
        "replies": [answer.text],
        "events": note["events"],
        "conversations": [_plain(turn) for turn in note["turns"]],
    }


def _cut(turns: list[dict[str, Any]], event: dict[str, Any]) -> list[dict[str, Any]]:
    """The conversation before an event, its last answer cut where the event begins."""
    begin = event["timespan"][0]
    kept = [turn for turn in turns if turn["time"] <= begin]
    for turn in kept:
        turn["timespan"] = [turn["timespan"][0], min(turn["timespan"][1], max(begin, turn["time"]))]
    return kept


def _plain(turn: dict[str, Any]) -> dict[str, Any]:
    return {name: turn[name] for name in ("from", "value", "time", "timespan")}


def _turn(turn: Turn) -> dict[str, Any]:
    made: dict[str, Any] = {"from": turn.role, "value": turn.text, "time": turn.time, "timespan": list(turn.timespan)}
    made["spoken"] = turn.spoken
    return made | ({"options": list(turn.options), "ans": turn.answer} if turn.options else {})


_SPECIAL = {  # fields that one published file has
    "gesture_understanding": lambda name: {"gesture": name.capitalize()},
    "visual_interruption": lambda name: {"interruption_type": name.capitalize()},
    "humor_reaction": lambda name: {"description": name.capitalize(), "reason": name.capitalize()},
    "visual_wake_up": lambda name: {"video_start_time": 0.0},
    "visual_termination": lambda name: {"video_start_time": 0.0},
}
