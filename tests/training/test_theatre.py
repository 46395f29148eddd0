"""The theatre: what the labels say is what the bodies do, held-out kinds are apart, physics ends on the floor."""

from __future__ import annotations

import itertools
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vispeak_node.model.subtasks import SUBTASKS, check_labels
from vispeak_training import phrases
from vispeak_training.theatre import room
from vispeak_training.theatre.acts import (
    ABSENT,
    ACTS,
    BY_SUBTASK,
    DOWN,
    EVENT_LABELS,
    EVENTS,
    GESTURES,
    IDLE,
    LASTING,
    REFERENCES,
    label_of,
    make_act,
    rest,
)
from vispeak_training.theatre.annotation import FILES, annotation, describe
from vispeak_training.theatre.figure import HELD_OUT_HEADS, HIPS, NECK, SHOULDER, SIDES, Look, figure_xml
from vispeak_training.theatre.hands import shape_pose
from vispeak_training.theatre.performance import is_thing
from vispeak_training.theatre.reach import aim
from vispeak_training.theatre.script import DISTRACTORS, SUDDEN, make_script

mujoco = pytest.importorskip("mujoco", reason="the theatre needs mujoco")


class Body:
    """Where the parts of a person are, by MuJoCo's own kinematics."""

    def __init__(self, look):
        text = f"<mujoco><compiler angle='degree'/><worldbody>{figure_xml(look)}</worldbody></mujoco>"
        self.model = mujoco.MjModel.from_xml_string(text)
        self.data = mujoco.MjData(self.model)

    def pose(self, pose):
        self.data.qpos[:] = 0
        for name, value in pose.items():
            if not is_thing(name):
                joint = self.model.joint(name)
                self.data.qpos[joint.qposadr[0]] = value if name in ("x", "y", "z") else math.radians(value)
        mujoco.mj_kinematics(self.model, self.data)
        return self

    def at(self, part):
        return self.data.body(part).xpos.copy()

    def tip(self, finger):
        """The end of a finger's last segment, which is about 4 cm long."""
        return self.at(f"{finger}_tip") - 0.04 * self.axis(f"{finger}_tip", 2)

    def axis(self, part, number):
        return self.data.body(part).xmat.reshape(3, 3)[:, number]


def performed(act, seed, held_out=False):
    """A person who performs an act, over the pose that all acts are laid over."""
    rng = np.random.default_rng(seed)
    look = Look.random(rng, held_out)
    base, act_pose = rest(rng), make_act(act, rng, look, held_out)
    return look, lambda time: base(time) | act_pose(time)


def scripts(subtask, count=12, held_out=False):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield make_script(rng, 12.0, Look.random(rng, held_out), held_out, subtask), rng


# --- words ---------------------------------------------------------------------------------------------------------


def test_every_subtask_has_acts_and_every_event_has_words():
    assert set(BY_SUBTASK) == set(SUBTASKS) and len(GESTURES) >= 10
    check_labels(("none", *EVENT_LABELS.values()))
    assert {label_of(act) for act in (*IDLE, ABSENT)} == {"none"}
    assert set(phrases.REPLIES) == set(EVENTS)
    assert all(len(set(replies)) >= 3 for replies in phrases.REPLIES.values())
    assert len(ACTS) == len(set(ACTS))
    spelled = set(phrases.corpus())
    assert all(reply in spelled for replies in phrases.REPLIES.values() for reply in replies)


def test_held_out_questions_are_never_asked_in_training():
    asked = {}
    for held_out in (False, True):
        asked[held_out] = set()
        for subtask in (*SUBTASKS, DISTRACTORS):
            for script, _ in scripts(subtask, 15, held_out):
                asked[held_out] |= {re.split(r" A\. ", t.text)[0] for t in script.turns if t.role == "human"}
    assert len(asked[False]) > 8 and len(asked[True]) > 4
    assert not asked[False] & asked[True]


def test_clips_that_are_drawn_may_have_two_episodes_in_one_room():
    kinds = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        script = make_script(rng, 10.0, Look.random(rng, False))
        acts = [part.act for part in script.parts]
        assert script.parts[-1].end == script.duration and all(
            before.end == pytest.approx(after.start) for before, after in itertools.pairwise(script.parts)
        )
        assert not set(acts[:-1]) & set(LASTING)  # whoever lies on the floor stays there
        episodes = list(dict.fromkeys(label_of(part.act).split("/")[0] for part in script.events()))
        if len(episodes) > 1:
            assert script.framing in ("full", "floor") and script.duration > 10.0
        kinds.append(tuple(episodes))
    assert 10 < sum(len(kind) == 2 for kind in kinds) < 60 and max(map(len, kinds)) == 2
    assert ("visual_wake_up", "anomaly_warning") in kinds
    for script, _ in scripts("anomaly_warning", 40):  # but not in clips of a given subtask
        assert {label_of(part.act).split("/")[0] for part in script.events()} == {"anomaly_warning"}


# --- kinds ---------------------------------------------------------------------------------------------------------


def test_held_out_figures_have_heads_sizes_and_colours_of_their_own():
    looks = {h: [Look.random(np.random.default_rng(seed), h) for seed in range(80)] for h in (False, True)}
    assert not {look.head for look in looks[False]} & {look.head for look in looks[True]}
    assert {look.head for look in looks[True]} == set(HELD_OUT_HEADS)
    assert all(abs(look.height - 1) <= 0.02 for look in looks[True])
    assert all(abs(look.height - 1) > 0.02 for look in looks[False])


def test_held_out_rooms_have_furniture_and_surfaces_of_their_own(monkeypatch):
    furniture, surfaces = {False: set(), True: set()}, {False: set(), True: set()}
    for held_out in (False, True):
        chosen, put = surfaces[held_out], furniture[held_out]
        monkeypatch.setattr(room, "_furniture", lambda rng, kind, back, put=put: put.add(kind) or "")
        monkeypatch.setattr(room, "surface", lambda kind, rng, chosen=chosen: chosen.add(kind))
        monkeypatch.setattr(room, "_fill", lambda model, name, pixels: None)
        for seed in range(40):
            rng = np.random.default_rng(seed)
            room.room_xml(rng, "", "", held_out, False, (64, 64))
            room.paint_surfaces(None, rng, held_out, None)
    assert furniture == {False: set(room.FURNITURE), True: set(room.HELD_OUT_FURNITURE)}
    assert surfaces == {False: set(room.SURFACES), True: set(room.HELD_OUT_SURFACES)}
    assert not furniture[False] & furniture[True] and not surfaces[False] & surfaces[True]


@pytest.mark.parametrize("kind", (*room.SURFACES, *room.HELD_OUT_SURFACES))
def test_surfaces_are_pixels_and_differ(kind):
    first, again, other = (room.surface(kind, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.dtype == np.uint8 and first.ndim == 3 and np.array_equal(first, again)
    assert not np.array_equal(first, other)


# --- bodies --------------------------------------------------------------------------------------------------------

directions = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: sum(x * x for x in v) > 0.1)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SIDES)), directions, st.floats(0.18, 0.5), directions, directions)
def test_a_hand_goes_where_it_is_sent_and_turns_as_it_is_told(side, way, far, fingers, palm):
    way, fingers, palm = (np.array(v) / np.linalg.norm(v) for v in (way, fingers, palm))
    if abs(fingers @ palm) > 0.95:
        return
    look = Look()
    shoulder = np.array([SIDES[side] * SHOULDER[0], 0, SHOULDER[1]])
    body = Body(look).pose(aim(side, shoulder + far * way, fingers, palm, look))
    np.testing.assert_allclose(body.at(f"{side}_hand"), shoulder + far * way + [0, 0, HIPS], atol=1e-6)
    np.testing.assert_allclose(-body.axis(f"{side}_hand", 2), fingers, atol=1e-6)
    face = palm - (palm @ fingers) * fingers
    np.testing.assert_allclose(body.axis(f"{side}_hand", 1), face / np.linalg.norm(face), atol=1e-6)


@pytest.mark.parametrize("side", sorted(SIDES))
@pytest.mark.parametrize(
    ("shape", "straight"),
    [("fist", 0), ("thumb", 0), ("one", 1), ("victory", 2), ("horns", 2), ("three", 3), ("four", 4), ("five", 4)],
)
def test_hands_show_as_many_straight_fingers_as_their_shape_has(side, shape, straight):
    body = Body(Look()).pose(shape_pose(side, shape))
    reach = [
        np.linalg.norm(body.tip(f"{side}_{finger}") - body.at(f"{side}_hand"))
        for finger in ("index", "middle", "ring", "pinky")
    ]
    assert sum(distance > 0.15 for distance in reach) == straight
    thumb = body.tip(f"{side}_thumb") - body.at(f"{side}_hand")
    assert (abs(thumb[0]) > 0.06) == (shape in ("thumb", "five"))


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_waving_hand_goes_from_side_to_side_at_the_head(seed, held_out):
    look, pose = performed("wave", seed, held_out)
    body = Body(look)
    tips = {side: [] for side in SIDES}
    for time in np.arange(0.5, 2.0, 0.05):
        body.pose(pose(time))
        for side in SIDES:
            tips[side].append(body.tip(f"{side}_middle"))
    ranges = {side: np.ptp(np.array(where)[:, 0]) for side, where in tips.items()}
    side = max(ranges, key=ranges.get)
    assert ranges[side] > 0.15 and np.mean(np.array(tips[side])[:, 2]) > (HIPS + NECK) * look.height
    still = [performed("five", seed, held_out)[1](time) for time in (0.5, 0.8)]
    moved = Body(look).pose(still[0]).at(f"{side}_hand") - Body(look).pose(still[1]).at(f"{side}_hand")
    assert np.abs(moved).max() < 0.05  # the same hand, held still, is another sign


@pytest.mark.parametrize("seed", range(3))
def test_signs_are_what_they_are_called(seed):
    for act, sign in (("thumb_up", 1), ("thumb_down", -1)):
        look, pose = performed(act, seed)
        body = Body(look).pose(pose(2.0))
        side = max(SIDES, key=lambda side: body.at(f"{side}_hand")[2])
        thumb = body.tip(f"{side}_thumb") - body.at(f"{side}_thumb")
        assert sign * thumb[2] > 0.6 * np.linalg.norm(thumb)
    look, pose = performed("finger_on_lips", seed)
    body = Body(look).pose(pose(2.0))
    mouth = body.at("head") + np.array([0, -0.1, 0.055])
    assert min(np.linalg.norm(body.tip(f"{side}_index") - mouth) for side in SIDES) < 0.14
    look, pose = performed("crossed_hands", seed)
    body = Body(look).pose(pose(2.0))
    assert body.at("left_hand")[0] < body.at("right_hand")[0]  # crossed
    look, pose = performed("head_shake", seed)
    angles = [pose(time)["turn"] for time in np.arange(0, 2, 0.05)]
    assert max(angles) > 40 and min(angles) < -40


@pytest.mark.parametrize("act", REFERENCES)
@pytest.mark.parametrize("held_out", [False, True])
def test_a_finger_points_at_the_thing_that_is_named(act, held_out):
    look, pose = performed(act, 3, held_out)
    stage = pose(2.0)
    body, thing = Body(look).pose(stage), act.removeprefix("point_")
    places = {name[:-2]: np.array([stage[f"{name[:-2]}/{axis}"] for axis in "xyz"]) for name in stage if "/x" in name}
    objects = {name: where + np.array([0, 0, 0.08]) for name, where in places.items() if f"point_{name}" in REFERENCES}
    assert len(objects) >= 3
    side = max(SIDES, key=lambda side: -body.tip(f"{side}_index")[1])
    hand = body.at(f"{side}_hand")
    way = body.tip(f"{side}_index") - hand
    way /= np.linalg.norm(way)
    angles = {name: way @ (where - hand) / np.linalg.norm(where - hand) for name, where in objects.items()}
    assert max(angles, key=angles.get) == thing and angles[thing] > 0.97


# --- physics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", DOWN)
@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_falls_begin_on_the_feet_and_end_on_the_floor(act, held_out, seed):
    look, pose = performed(act, seed, held_out)
    body = Body(look)
    assert body.pose(pose(0.0)).at("head")[2] > 0.9 * (HIPS + NECK) * look.height
    body.pose(pose(5.0))
    assert body.at("head")[2] < 0.45 and body.at("person")[2] < 0.45
    assert min(body.at(part)[2] for part in ("head", "person", "left_hand", "right_shin")) > -0.1
    assert pose(5.0) == pose(5.0) and np.hypot(*body.at("person")[:2]) < 1.6


def test_what_is_dropped_leaves_the_hands_and_lies_on_the_floor():
    _, pose = performed("drop", 0)
    assert pose(0.0)["loose/z"] > 0.85 and 0.05 < pose(4.0)["loose/z"] < 0.2
    heights = [pose(time)["loose/z"] for time in np.arange(0, 3, 0.05)]
    assert min(heights) > 0.03


def test_a_flying_ball_arrives_before_the_person_falls():
    look, pose = performed("hit", 1)
    body, time = Body(look), 0.0
    while body.pose(pose(time)).at("person")[2] > 0.9 * HIPS * look.height:
        time += 0.025
        assert time < 3
    distances = [
        np.hypot(pose(moment)["shot/x"], pose(moment)["shot/y"]) for moment in np.arange(0, time + 0.01, 0.025)
    ]
    assert distances[0] > 2 and min(distances) < 0.5


# --- scripts and annotations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("subtask", SUBTASKS)
@pytest.mark.parametrize("held_out", [False, True])
def test_annotations_have_the_published_fields_and_exact_spans(subtask, held_out):
    for script, rng in scripts(subtask, 8, held_out):
        item = json.loads(json.dumps(annotation("a.mp4", script, rng)))
        assert item["subtask"] == subtask and f"{subtask}/{item['label']}" in {label_of(act) for act in ACTS}
        assert item["task_type"] == FILES[subtask].replace("_", " ") and item["video_len"] == 12.0
        times = [turn["time"] for turn in item["conversations"]]
        assert times == sorted(times) and all(0 <= time <= 12.0 for time in times)
        for event in item["events"]:
            begin, end = event["timespan"]
            part = script.part_at((begin + end) / 2)
            assert part.act == event["act"] and part.start - 0.01 <= begin < end <= part.end + 0.01
            assert begin - part.start < 0.01 if part.act in SUDDEN else script.settled(begin + 0.7)
            assert (begin + end) / 2 - 0.01 <= event["time"] <= end
            assert event["replies"] == list(phrases.replies_to(part.act))
        if subtask == "visual_reference":
            question, answer = item["conversations"]
            begin, end = item["events"][0]["timespan"]
            assert not item["proactive"] and begin < question["time"] < end
            letters = dict(re.findall(r"([A-D])\. (\w+)", item["questions"]))
            assert len(letters) == 4 and letters[item["ans"]] == item["ans_full"] and item["ans"] == answer["value"][0]
            assert item["questions"].endswith("\n\nThe best option is:")
            continue
        assert item["proactive"] and len(item["events"]) >= 1
        last = item["conversations"][-1]
        assert last["value"] in phrases.REPLIES[item["events"][-1]["act"]]
        assert last["timespan"] == item["events"][-1]["timespan"]


def test_interruptions_cut_a_long_reply_and_goodbyes_end_a_conversation():
    for script, rng in scripts("visual_interruption", 20):
        question, answer, stop = annotation("a.mp4", script, rng)["conversations"]
        assert [turn["from"] for turn in (question, answer, stop)] == ["human", "gpt", "gpt"]
        assert script.turns[1].timespan[1] > stop["timespan"][0] == answer["timespan"][1]  # it was still talking
        assert answer["time"] == pytest.approx(question["time"] + 0.1)
        assert 0.55 <= script.events()[0].start - question["time"] <= 2.55  # even one that writes fast has just begun
    for script, rng in scripts("visual_termination", 20):
        question, answer, goodbye = annotation("a.mp4", script, rng)["conversations"]
        assert question["time"] < answer["time"] < goodbye["timespan"][0]


def test_distractors_call_for_nothing():
    seen = set()
    for script, rng in scripts(DISTRACTORS, 40):
        item = annotation("a.mp4", script, rng)
        assert item["distractor"] and item["conversations"] == [] and not script.events()
        assert describe(script, rng)["events"] == []
        seen |= {part.act for part in script.parts}
    assert seen == {*IDLE, ABSENT}
