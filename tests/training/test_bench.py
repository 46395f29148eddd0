"""ViSpeak-Bench: annotations, frames, letters, times and scores; published numbers through our scorer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import CLIP_RATE
from tests.golden.models import FOLDER
from tests.training.bench_items import TASK, entry, write_annotations
from vispeak_training.bench.annotations import Item, Turn, find_options, read_annotations
from vispeak_training.bench.frames import Clip, choose_frames, open_clip, read_frames
from vispeak_training.bench.judge import NoJudge, RubricJudge
from vispeak_training.bench.letters import legacy_letter, strict_letter
from vispeak_training.bench.record import Record
from vispeak_training.bench.scoring import overall, overall_of, score_task
from vispeak_training.bench.tasks import TIMED
from vispeak_training.bench.timing import baselines, legacy_correct, on_time, strict_correct

OPTIONS = (("A", "A person"), ("B", "Box"), ("C", "A cardboard box"), ("D", "Car"))


# --- the published numbers


@pytest.mark.parametrize(
    ("times", "texts", "expected"),
    [  # time AW VI HR VW VT GU; text VR AW VI HR VW VT GU, of the published table
        ((56.5, 72, 83, 93, 79, 99), (3.75, 2.63, 3.84, 1.07, 4.95, 3.15, 3.36), 2.76),
        ((48.5, 82, 96, 99, 100, 99.5), (3.18, 2.27, 3.53, 1.71, 5.00, 4.98, 2.22), 2.99),
        ((44.5, 81, 77, 91, 91, 93), (3.15, 2.64, 3.36, 1.00, 5, 5, 1.50), 2.62),
        ((38.5, 70, 44, 69, 100, 99.5), (2.50, 1.75, 4.06, 0.91, 0.61, 2.49, 2.07), 1.63),
    ],
    ids=["vispeak-s3", "gpt-4o", "qwen2.5-vl-72b", "dispider"],
)
def test_published_rows_give_their_overall_score(times, texts, expected):
    time = {task.code: value / 100 for task, value in zip(TIMED, times, strict=True)}
    text = dict(zip(("vr", *time), texts, strict=True))
    assert overall(time, text) == pytest.approx(expected, abs=0.005)


def published_items(code: str) -> list[Item]:
    """Items with the published times and no texts."""
    rows = json.loads((FOLDER / "bench_spans.json").read_text())[code]
    return [
        Item(
            TASK[code], str(index), start, end, length, None if asked is None else Turn("?", asked), span=(first, last)
        )
        for index, (start, end, length, asked, first, last) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("code", "early", "never", "count"),
    [
        ("aw", 24, 111, 200),
        ("vi", 0, None, 100),
        ("hr", 44, None, 100),
        ("vw", 68, 0, 100),
        ("vt", 0, None, 100),
        ("gu", 200, None, 200),
    ],
)
def test_baselines_of_the_published_spans(code, early, never, count):
    items = published_items(code)
    found = baselines(items)
    assert len(items) == count
    assert found.start_plus_1 * count == pytest.approx(early)
    assert found.never_strict == 0
    if never is not None:
        assert found.never_legacy is not None and found.never_legacy * count == pytest.approx(never)


def test_silence_is_judged_by_its_time_only_in_legacy():
    item = Item(TASK["aw"], "v", span=(4.0, 6.0))
    silent = Record("v", silent_time=7.0)
    assert legacy_correct(item, silent) and not strict_correct(item, silent)
    assert strict_correct(item, Record("v", "Careful!", 8.0, 7.0))
    assert not on_time((4.0, 6.0), 8.01) and not on_time((4.0, 6.0), 3.99) and not on_time((4.0, 6.0), None)


# --- annotations


@pytest.mark.parametrize("code", sorted(TASK))
def test_every_task_is_read(tmp_path, code):
    (item,) = read_annotations(
        write_annotations(tmp_path, code, [entry(code, fps=30.0, original_anno="x")]), TASK[code]
    )
    assert item.span == ((1.0, 3.0) if TASK[code].timed else None)
    assert (item.earlier is not None) == TASK[code].dialogue
    assert item.options == ((("A", "Bicycle"), ("B", "A pot"), ("C", "Car"), ("D", "Pen")) if code == "vr" else ())


def test_gestures_are_found_under_both_names(tmp_path):
    write_annotations(tmp_path, "gu", [entry("gu", gesture="OK")], "Gesture_Understanding_v3.json")
    assert read_annotations(tmp_path, TASK["gu"])[0].gesture == "OK"


def test_theatre_items_carry_more(tmp_path):
    idle = {"video": "idle.mp4", "proactive": True, "conversations": [], "distractor": True, "video_len": 60.0}
    write_annotations(tmp_path, "vw", [entry("vw", replies=["Hello!"], words=["hello"]), idle])
    greeting, distractor = read_annotations(tmp_path, TASK["vw"])
    assert greeting.replies == ("Hello!",) and not greeting.distractor
    assert distractor.distractor and distractor.span is None and distractor.length == 60.0


TURN = {"from": "gpt", "value": "Hello!", "time": 2.5, "timespan": [1, 3]}


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ({}, "list"),
        ([], "list"),
        (["x"], "object"),
        ([entry("vw", video="../v.mp4")], "inside"),
        ([entry("vw", video="/v.mp4")], "inside"),
        ([entry("vw"), entry("vw")], "twice"),
        ([entry("vw", proactive=False)], "proactive"),
        ([entry("vw", conversations=[])], "gpt"),
        ([entry("vw", conversations=[TURN | {"timespan": [3, 1]}])], "timespan"),
        ([entry("vw", conversations=[TURN | {"timespan": [1, float("nan")]}])], "timespan"),
        ([entry("vw", conversations=[TURN | {"time": True}])], "time"),
        ([entry("vw", conversations=[TURN | {"value": " "}])], "value"),
        ([entry("vw", distractor=True)], "distractor"),
        ([entry("vw", video_start_time=5, video_end_time=5)], "video_end_time"),
        ([entry("vw", replies="Hello")], "replies"),
    ],
)
def test_bad_annotations_are_named(tmp_path, entries, word):
    write_annotations(tmp_path, "vw", entries)
    with pytest.raises(ValueError, match=word) as caught:
        read_annotations(tmp_path, TASK["vw"])
    assert "Visual_Wake-Up.json" in str(caught.value) and "\n" not in str(caught.value)


# --- frames


@pytest.mark.parametrize(
    ("rate", "count", "start", "end", "expected"),
    [
        (10.0, 100, 0.0, None, list(range(0, 100, 10))),
        (10.0, 100, 2.0, 6.0, [20, 30, 40, 50, 60]),
        (29.97, 3000, 9.0, 11.0, [269, 289, 309, 329]),  # three frames are too few: four, evenly
        (25.0, 30, 0.0, 0.22, [0, 1, 3, 5]),
        (10.0, 1, 0.0, None, [0, 0, 0, 0]),
    ],
)
def test_frames_are_chosen_as_published(rate, count, start, end, expected):
    assert choose_frames(rate, count, start, end) == expected


@given(st.floats(0.2, 120), st.integers(1, 10**7), st.floats(0, 100), st.one_of(st.none(), st.floats(0, 5000)))
def test_chosen_frames_lie_in_the_clip(rate, count, start, end):
    try:
        chosen = choose_frames(rate, count, start, end)
    except ValueError:
        assert int(start * rate) > min(count - 1, int((end if end is not None else 1e9) * rate))
        return
    assert 4 <= len(chosen) <= 64 and chosen == sorted(chosen)
    assert int(start * rate) <= chosen[0] and chosen[-1] <= count - 1
    assert end is None or chosen[-1] <= end * rate


def test_frames_of_a_file(clip):
    chosen = open_clip(clip, 1.0, 3.0)
    assert chosen.indices == (10, 16, 23, 30) and chosen.rate == CLIP_RATE
    every = list(read_frames(Clip(clip, tuple(range(40)), 10.0)))
    for index, frame in zip(chosen.indices, read_frames(chosen), strict=True):
        np.testing.assert_array_equal(frame, every[index])
    beyond = list(read_frames(Clip(clip, (39, 40, 41), 10.0)))  # a header that promises too much
    np.testing.assert_array_equal(beyond[1], beyond[2])
    with pytest.raises(ValueError, match="begins at 9 s"):
        open_clip(clip, 9.0, None)


# --- letters


@pytest.mark.parametrize(
    ("reply", "legacy", "strict"),
    [
        ("B", "B", "B"),
        ("(C) A cardboard box", "C", "C"),
        ("D.", "D", "D"),
        ("**B**", "B", "B"),
        ("B Box", "B", "B"),
        ("The answer is D", "D", "D"),
        ("The best option is: C", "C", "C"),
        ("Best answer: C", "B", "C"),  # its lead-in lacks a comma in the published list
        ("A man points at a car.", "A", "D"),  # the published quirk: any capital counts
        ("It is a cardboard box.", "", "C"),  # and not the option `Box` too
        ("Either a car or a box", "E", ""),
        ("The answer is not clear", "", ""),
        ("E", "E", ""),  # not offered
        ("", "", ""),
    ],
)
def test_letters(reply, legacy, strict):
    assert legacy_letter(reply) == legacy
    assert strict_letter(reply, OPTIONS) == strict


@given(st.text(max_size=200))
def test_any_reply_has_a_letter_or_none(reply):
    assert strict_letter(reply, OPTIONS) in ("A", "B", "C", "D", "")
    assert legacy_letter(reply) in ("A", "B", "C", "D", "E", "")


def test_options_are_found_in_the_question():
    assert find_options("What? A. A pot B. Wall socket C. X D. Y-Z\n\nThe best option is:") == (
        ("A", "A pot"),
        ("B", "Wall socket"),
        ("C", "X"),
        ("D", "Y-Z"),
    )


# --- scores


def test_scores_of_a_task_by_both_rules():
    items = [Item(TASK["aw"], str(i), span=(4.0, 6.0), reference="Careful", words=("fire",)) for i in range(5)]
    items.append(Item(TASK["aw"], "idle", length=120.0, distractor=True))
    records = {
        "0": Record("0", "Careful!", 5.0, 9.0, "anomaly_warning/fall"),  # right
        "1": Record("1", "A fire", 8.0, 9.0, "humor_reaction"),  # right kind, at the window's end
        "2": Record("2", "Careful", 2.0, 9.0, "anomaly_warning"),  # too early
        "3": Record("3", silent_time=7.0),  # silent, in time by the legacy rule
        "idle": Record("idle", "Hi", 3.0, seconds=90.0, triggers=((3.0, "Hi"), (50.0, "Hi"), (60.0, "Hi"))),
    }
    result = score_task(items, records, RubricJudge())
    assert (result.items, result.run, result.silent, result.unjudged) == (5, 4, 1, 0)
    assert result.strict.time == 2 / 4 and result.legacy.time == 3 / 4
    assert result.strict.text == 7 / 2 and result.legacy.text == 7 / 3  # 5 and 2 marks, and none for silence
    assert result.strict.text_overall == result.legacy.text_overall == 7 / 4
    assert overall_of([result], "strict") == 7 / 4
    assert result.false_per_minute == 2.0 and result.named == 0.5
    assert result.baselines is not None and result.baselines.never_legacy == 1 / 4
    timed_only = score_task(items, records, NoJudge())
    assert timed_only.strict.text is None and timed_only.unjudged == 0 and overall_of([timed_only], "strict") is None


def test_unjudged_replies_count_in_legacy_only():
    class Absent:
        name = "absent"

        def score(self, item: Item, reply: str) -> object:
            return RubricJudge().score(item, reply) if item.video == "0" else None

    items = [Item(TASK["hr"], str(i), span=(1.0, 3.0), reference="Ha") for i in range(2)]
    result = score_task(items, {str(i): Record(str(i), "Ha", 2.0) for i in range(2)}, Absent())
    assert result.unjudged == 1 and result.strict.text == 5.0 and result.legacy.text == 2.5


def test_choices_are_scored_by_both_rules():
    items = [Item(TASK["vr"], str(i), options=OPTIONS, answer="A") for i in range(2)]
    records = {"0": Record("0", "A man with a car"), "1": Record("1", "A")}
    result = score_task(items, records, NoJudge())
    assert result.legacy.text == 5.0 and result.strict.text == 2.5 and result.strict.time is None
