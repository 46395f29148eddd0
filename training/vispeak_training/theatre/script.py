"""A clip's script: which acts follow each other, what is said beside them, and what of it calls for words.

Times in seconds from the clip's start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from vispeak_training.theatre.acts import (
    ABSENT,
    ANOMALIES,
    BY_SUBTASK,
    DOWN,
    EVENTS,
    IDLE,
    LASTING,
    REFERENCES,
    Part,
    PoseAt,
    make_act,
    rest,
)
from vispeak_training.theatre.figure import ROBOT, Look
from vispeak_training.theatre.performance import is_thing
from vispeak_training.theatre.talk import Turn, converse, refer

BLEND = 0.4  # s from one act's pose to the next
SUDDEN = (*DOWN, "drop", "fire", "smoke", "robot_dance")  # events that can be seen as soon as they begin
DISTRACTORS = "distractors"
_SETTLING = dict.fromkeys(DOWN, 0.8) | {"drop": 0.9, "box_on_head": 0.6, "chair_pulled": 1.0, "fire": 0.5, "smoke": 0.9}
_SETTLING |= {"hat_off": 0.8, "goodbye_wave": 0.5}


@dataclass(frozen=True)
class Script:
    """What happens in one clip."""

    parts: tuple[Part, ...]
    rest: PoseAt
    duration: float
    turns: tuple[Turn, ...] = ()  # what people type or say, and long replies; not the replies to events
    framing: str = "upper"  # "close", "upper", "table", "full" or "floor"
    subtask: str = DISTRACTORS
    dressing: dict[str, float] = field(default_factory=dict)  # where things stand from the beginning

    def part_at(self, time: float) -> Part:
        """The act under way."""
        return next((part for part in reversed(self.parts) if part.start <= time), self.parts[0])

    def settled(self, time: float) -> bool:
        """Whether the picture at this time shows one act and not a change between two."""
        part = self.part_at(time)
        first = part is self.parts[0] and part.act not in _SETTLING
        return time - part.start >= _SETTLING.get(part.act, BLEND * 0.8) or first

    def pose(self, time: float) -> dict[str, float]:
        """Joint values at a time, blended smoothly where acts change."""
        part = self.part_at(time)
        index = self.parts.index(part)
        pose = self._left_behind(index) | self.rest(time) | part.pose(time - part.start)
        share = (time - part.start) / BLEND
        if index == 0 or share >= 1 or ABSENT in (part.act, self.parts[index - 1].act):
            return pose
        before = self.parts[index - 1]
        old = self.rest(time) | before.pose(time - before.start)
        weight = share * share * (3 - 2 * share)
        names = [name for name in pose.keys() | old.keys() if not is_thing(name)]
        return pose | {k: weight * pose.get(k, 0.0) + (1 - weight) * old.get(k, 0.0) for k in names}

    def _left_behind(self, index: int) -> dict[str, float]:
        """Things where the clip's beginning put them, or earlier acts."""
        things = dict(self.dressing)
        for part in self.parts[:index]:
            if part.pose.dressing or part.act in ANOMALIES:
                last = part.pose(part.end - part.start)
                things |= {name: value for name, value in last.items() if is_thing(name)}
        return things

    def events(self) -> list[Part]:
        """The acts that call for words, in order."""
        return [part for part in self.parts if part.act in EVENTS]

    def span(self, part: Part) -> tuple[float, float]:
        """When an act can be seen."""
        return part.start + (0.0 if part.act in SUDDEN or part.start == 0 else BLEND), part.end

    def things(self) -> tuple[str, ...]:
        """All things that the stage must have."""
        return tuple(dict.fromkeys(thing for part in self.parts for thing in part.pose.things))

    def drift(self) -> tuple[float, float]:
        """Where somebody who falls ends up, in m from where they stood."""
        for part in self.parts:
            if part.act in DOWN:
                last = part.pose(part.end - part.start)
                return last["x"], last["y"]
        return 0.0, 0.0

    def dress(self, look: Look) -> Look:
        """The person in what the acts need: a hat, a robot's head."""
        if any(part.pose.costume == ROBOT for part in self.parts):
            look = look.as_robot()
        return replace(look, hat=True) if any(part.pose.hat for part in self.parts) else look


def make_script(
    rng: np.random.Generator,
    duration: float,
    look: Look | None = None,
    held_out: bool = False,
    subtask: str | None = None,
    plain: bool = False,
) -> Script:
    """A random clip: everyday acts, and in most clips an event or two among them.

    Args:
        rng: everything is drawn from it.
        duration: s.
        look: who performs.
        held_out: variants and phrasings that no training clip has.
        subtask: of SUBTASKS, or DISTRACTORS for none; drawn by default, and then an episode of another may join it.
        plain: as in ViSpeak-Bench: one event, and a conversation before it in just those subtasks that have one there.

    Raises:
        KeyError: there is no such subtask.
    """
    joined = subtask is None and not plain and rng.random() < _JOINED
    subtask = subtask or str(rng.choice([*BY_SUBTASK, DISTRACTORS], p=_SHARES))
    acts, framing, added = _episodes(rng, subtask, duration, plain, joined)
    room, duration = duration + added - sum(length for _, length in acts), duration + added
    least = 2.5 if subtask in (_PLAIN_TALK if plain else _TALK) else 1.0
    lead = max(0.5, room if _ends(subtask, acts) else float(rng.uniform(min(least, room), room))) if acts else duration
    calm = any(act in _MISHAP_ACTS for act, _ in acts) and subtask not in _TALK
    filled = _everyday(rng, lead, "anomaly_warning" if calm else subtask, framing) + acts
    filled += _everyday(rng, duration - sum(length for _, length in filled), "after", framing)
    script = fixed_script(rng, filled, look, held_out)
    turns: tuple[Turn, ...] = ()
    if subtask == "visual_reference":
        part = next(part for part in script.parts if part.act in REFERENCES)
        shown = [thing for thing in part.pose.things if f"point_{thing}" in REFERENCES]
        turns = refer(rng, part.act.removeprefix("point_"), shown, *script.span(part), held_out)
    else:
        drawn = str(rng.choice(["none", "short", "long"], p=[0.55, 0.2, 0.25])) if subtask not in _TALK else ""
        kind = _PLAIN_TALK.get(subtask, "none") if plain else _TALK.get(subtask) or drawn
        turns = converse(rng, kind, lead if acts else duration, held_out)
    ended = (*script.parts[:-1], replace(script.parts[-1], end=duration))
    return replace(script, parts=ended, duration=duration, turns=turns, framing=framing, subtask=subtask)


def fixed_script(
    rng: np.random.Generator, acts: Iterable[tuple[str, float]], look: Look | None = None, held_out: bool = False
) -> Script:
    """A clip with given acts, each with its length in seconds."""
    parts: list[Part] = []
    dressing: dict[str, float] = {}
    time = 0.0
    for act, length in acts:
        performance = make_act(act, rng, look, held_out)
        parts.append(Part(act, time, time + length, performance))
        dressing.update(performance.dressing)
        time += length
    names = {part.act for part in parts}
    subtask = next((name for name, members in BY_SUBTASK.items() if names & set(members)), DISTRACTORS)
    framing = "close" if subtask in _CLOSE else "table" if subtask == "visual_reference" else "upper"
    framing = "floor" if names & _FALLING else "full" if names & _NEEDS_FLOOR else framing
    return Script(tuple(parts), rest(rng), time, framing=framing, subtask=subtask, dressing=dressing)


def _episodes(
    rng: np.random.Generator, subtask: str, duration: float, plain: bool, joined: bool
) -> tuple[list[tuple[str, float]], str, float]:
    """What calls for words and what lies between, how it is framed, and how many seconds a second episode adds."""
    framing, added = str(rng.choice(_FRAMINGS, p=_FRAMING_SHARES[subtask])), 0.0
    if subtask == DISTRACTORS:
        return [], framing, added
    acts = _events(rng, subtask, duration)[: 1 if plain else None]
    if acts[0][0] in ("hat_off", "robot_dance") and framing == "close":
        framing = "upper"
    if joined and subtask in _WIDE:
        acts, added = _join(rng, subtask, acts)
        framing = "full"
    return acts, "floor" if any(act in _FALLING for act, _ in acts) else framing, added


def _ends(subtask: str, acts: list[tuple[str, float]]) -> bool:
    """Whether nothing comes after the last event."""
    return subtask == "anomaly_warning" or acts[-1][0] in LASTING


def _events(rng: np.random.Generator, subtask: str, duration: float) -> list[tuple[str, float]]:
    """The clip's one event, or two signs with something else between them."""
    act = str(rng.choice(BY_SUBTASK[subtask]))
    if act in LASTING:
        return [(act, float(rng.uniform(4.0, max(4.5, 0.6 * duration))))]
    first = (act, float(rng.uniform(2.6, 4.4)))
    if subtask == "gesture_understanding" and duration > 10 and rng.random() < 0.4:
        between = str(rng.choice(["stand", "talk", "scratch", "hips"]))
        return [first, (between, float(rng.uniform(1.5, 2.2))), (str(rng.choice(BY_SUBTASK[subtask])), 2.8)]
    return [first]


def _join(
    rng: np.random.Generator, subtask: str, acts: list[tuple[str, float]]
) -> tuple[list[tuple[str, float]], float]:
    """An episode of another subtask before or after the events; returns all, and how many seconds were added."""
    other = _events(rng, str(rng.choice([name for name in _WIDE if name != subtask])), 10.0)
    first, second = (acts, other) if acts[-1][0] not in LASTING else (other, acts)
    if first[-1][0] in LASTING:
        return acts, 0.0
    between = _everyday(rng, float(rng.uniform(1.5, 4.0)), "after", "full")
    return [*first, *between, *second], sum(length for _, length in between + other)


def _everyday(rng: np.random.Generator, seconds: float, subtask: str, framing: str) -> list[tuple[str, float]]:
    """Everyday acts that fill some seconds."""
    acts: list[tuple[str, float]] = []
    quiet = subtask in _TALK or subtask == "visual_reference" or framing == "close"
    names, shares = (_QUIET, _QUIET_SHARES) if quiet else ((*IDLE, ABSENT), _IDLE_SHARES)
    if subtask == "after" and framing != "close":
        names, shares = (*_QUIET, "walk", ABSENT), [*[0.8 * share for share in _QUIET_SHARES], 0.12, 0.08]
    if subtask in _MISHAPS:  # a chair would stand in the way
        kept = [index for index, name in enumerate(names) if name != "sit"]
        total = sum(shares[index] for index in kept)
        names, shares = tuple(names[index] for index in kept), [shares[index] / total for index in kept]
    while seconds > 1e-6:
        length = float(rng.uniform(1.5, 4.5))
        length = seconds if seconds - length < 1.0 else length
        acts.append((str(rng.choice(names, p=shares)), length))
        seconds -= length
    return acts


_SHARES = [0.13, 0.15, 0.23, 0.08, 0.12, 0.1, 0.07, 0.12]  # of the subtasks, and of clips with distractors alone
_FALLING = {*DOWN, "drop"}
_FRAMINGS = ("close", "upper", "table", "full")
_FRAMING_SHARES = {
    "visual_wake_up": [0.0, 0.6, 0.0, 0.4],
    "anomaly_warning": [0.0, 0.0, 0.0, 1.0],
    "gesture_understanding": [0.8, 0.2, 0.0, 0.0],
    "visual_reference": [0.0, 0.0, 1.0, 0.0],
    "visual_interruption": [0.7, 0.3, 0.0, 0.0],
    "humor_reaction": [0.0, 0.15, 0.0, 0.85],
    "visual_termination": [0.0, 0.6, 0.0, 0.4],
    DISTRACTORS: [0.35, 0.25, 0.05, 0.35],
}
_TALK = {"visual_interruption": "cut", "visual_termination": "short"}
_PLAIN_TALK = _TALK | {"gesture_understanding": "short"}
_MISHAPS = ("anomaly_warning", "humor_reaction")
_MISHAP_ACTS = {act for name in _MISHAPS for act in BY_SUBTASK[name]}
_JOINED = 0.4  # share of clips with two episodes, where both can be seen from afar
_WIDE = ("visual_wake_up", "visual_termination", *_MISHAPS)
_CLOSE = ("gesture_understanding", "visual_interruption")
_NEEDS_FLOOR = {
    *ANOMALIES,
    "chair_pulled",
    "hat_off",
    "ball_on_head",
    "box_on_head",
    "robot_dance",
    "sit",
    "pick_up",
    "squat",
}
_QUIET = ("stand", "talk", "scratch", "cross_arms", "hips", "phone", "drink", "reach", "stretch", "reach_up")
_QUIET_SHARES = [0.26, 0.2, 0.1, 0.08, 0.06, 0.08, 0.08, 0.06, 0.04, 0.04]
_IDLE_SHARES = [0.18, 0.1, *[0.043] * 16, 0.032]
assert len(_IDLE_SHARES) == len(IDLE) + 1 and abs(sum(_IDLE_SHARES) - 1) < 1e-9
assert abs(sum(_SHARES) - 1) < 1e-9 and abs(sum(_QUIET_SHARES) - 1) < 1e-9
