"""The stream builders: equal to the recorded ones with all quirks on, and worked by hand with none.

In the pictures of streams a word is a token, `I` a visual token, `V` and `A` sound, `|` the `>Note`, `.` pad, `$` the
end of a reply and `_` no label. Pictures have two tokens here, seconds of sound one.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.golden.models import FOLDER
from tests.training.fixtures import LABELS, gpt, human, toy_vocabulary
from vispeak_node.model.tokens import Vocabulary
from vispeak_training.data.layout import Layout
from vispeak_training.data.offline import MediaCounts, build_offline, tidy
from vispeak_training.data.options import BuildOptions, Quirks
from vispeak_training.data.record import Record, Turn, parse_record
from vispeak_training.data.sample import AUDIO, IGNORE, IMAGE, VIDEO_AUDIO, SampleError
from vispeak_training.data.sampling import frame_numbers, frame_times, sounds_per_frame
from vispeak_training.data.timed import build_audio_proactive, build_streaming

RECORDED = json.loads((FOLDER / "data_and_tokens.json").read_text())
CASES = {case["name"]: case for case in RECORDED["cases"]}
TOY = toy_vocabulary()
SIGNS = {TOY.pad: ".", TOY.segment_end: "|", TOY.reply_end: "$", IMAGE: "I", VIDEO_AUDIO: "V", AUDIO: "A"}
PUBLISHED = Quirks.published()


@pytest.fixture(scope="module")
def qwen():
    """The published tokenizer, cut down to what the recorded texts need."""
    return Vocabulary(Tokenizer.from_str(json.dumps(RECORDED["tokenizer"])))


def recorded_record(case):
    turns = tuple(
        Turn(t["from"], t["value"], t.get("time"), tuple(t["timespan"]) if "timespan" in t else None)
        for t in case["source"]
    )
    kind = {"online": "streaming"}.get(case["fn"], case["fn"])
    flags = {
        "proactive": case.get("proactive", False),
        "use_audio": case.get("use_audio", False),
        "visual_proactive": not case.get("no_visual_proactive", False),
    }
    return Record(case["name"], kind, turns, **flags)


def recorded_streams(case, layout):
    record = recorded_record(case)
    if record.kind == "offline":
        kw = case["kw"]
        sounds = kw.get("video_audio_segment_num", ())
        counts = MediaCounts(kw.get("patch_num", ()), kw.get("audio_segment_num", ()), sounds)
        return build_offline(record, counts, layout)
    build = build_streaming if record.kind == "streaming" else build_audio_proactive
    return build(record, case["sample_time"], case["video_audio_segment_num"], layout)


@pytest.mark.parametrize("name", CASES)
def test_streams_equal_the_recorded_ones(qwen, name):
    case, layout = CASES[name], Layout(qwen, CASES[name]["img_token_num"], quirks=PUBLISHED)
    if "reference_raises" in case:
        with pytest.raises(SampleError, match="ends in sound"):
            recorded_streams(case, layout)
        return
    streams = recorded_streams(case, layout)
    for ours, theirs in (
        ("user", "all_user_input_ids"),
        ("agent", "all_agent_input_ids"),
        ("targets", "labels"),
        ("informative", "informative_labels"),
    ):
        assert getattr(streams, ours).tolist() == case[theirs], ours


@pytest.mark.parametrize("name", sorted(set(CASES) - {"offline_audio", "gesture_audio_last_is_audio"}))
def test_mending_changes_nothing_where_no_quirk_is_hit(qwen, name):
    mended, published = (
        recorded_streams(CASES[name], Layout(qwen, 4, quirks=quirks)) for quirks in (Quirks(), PUBLISHED)
    )
    for row in ("user", "agent", "targets", "informative"):
        assert np.array_equal(getattr(mended, row), getattr(published, row)), row


def sampled(row, quirks):
    names = {"max_video_audio_segment": "max_sounds"}
    given_options = {names.get(k, k): v for k, v in row["kw"].items() if k not in ("start_time", "end_time")}
    options = BuildOptions(**{"max_sounds": 6, **given_options}, quirks=quirks)
    stamps = np.arange(row["n_frames"]) / row["fps"]
    start, end = row["kw"].get("start_time", 0.0), row["kw"].get("end_time", float("inf"))
    numbers = frame_numbers(stamps, row["fps"], start, end, options)
    times = frame_times(stamps, row["fps"], numbers, quirks.constant_rate)
    return times, sounds_per_frame(times, int((row["audio_seconds"] or 0) * 16_000), options)


@pytest.mark.parametrize("row", RECORDED["sampling"], ids=lambda row: f"{row['fps']}x{row['n_frames']}")
def test_frames_and_sound_are_taken_as_recorded(row):
    times, sounds = sampled(row, PUBLISHED)
    assert times == row["sample_time"] and sounds == row["audio_segments"]
    mended, _ = sampled(row, Quirks())
    # the newest frame at every whole second: less than a frame away while frames are evenly spaced
    assert len(mended) == row["n_images"]
    if float(row["fps"]).is_integer():
        assert mended == pytest.approx(row["sample_time"])
    else:
        assert np.abs(np.array(mended) - np.arange(len(mended))).max() < 1 / row["fps"]


def test_a_video_with_pauses_is_looked_at_by_its_clock():
    stamps = np.concatenate([np.arange(0, 5, 0.1), np.arange(5, 15, 1.0)])  # 10 frames/s, then one
    times, _ = sampled_at(stamps, BuildOptions())
    assert times == pytest.approx(range(15))
    published, numbers = sampled_at(stamps, BuildOptions(quirks=PUBLISHED))
    assert np.abs(np.array(published) - stamps[numbers]).max() > 3  # what it says and when it was


def sampled_at(stamps, options):
    rate = len(stamps) / (stamps[-1] + 1)
    numbers = frame_numbers(stamps, rate, 0.0, float("inf"), options)
    return frame_times(stamps, rate, numbers, options.quirks.constant_rate), numbers


def test_each_gap_says_how_much_sound_its_frame_brings():
    times = [0.0, 1.0, 4.0, 5.0]
    assert sounds_per_frame(times, 100 * 16_000, BuildOptions(max_sounds=6)) == [1, 3, 1, 1]
    assert sounds_per_frame(times, 100 * 16_000, BuildOptions(max_sounds=6, quirks=PUBLISHED)) == [1, 1, 1, 1]
    assert sounds_per_frame(times, 5 * 16_000, BuildOptions(max_sounds=6)) == [1, 3, 1, 0]
    assert sounds_per_frame([0.0], 0, BuildOptions()) == [0]


# the streams by hand


def picture(ids):
    """Ids as one line."""
    names = {token: word for word, token in TOY._tokenizer.get_vocab().items()}
    return " ".join(SIGNS.get(int(i), names.get(int(i), "").removeprefix("P:")) for i in ids)


def labels(row):
    return " ".join("_" if value == IGNORE else str(value) for value in row)


def layout(quirks=None, event_labels=()):
    return Layout(TOY, 2, 1, event_labels, quirks or Quirks())


def timed(kind, turns, sounds=(0, 0, 0, 0), quirks=None, event_labels=(), **fields):
    """A sample over four frames, at 0, 1, 2 and 3 s."""
    raw = {"video": "v.mp4", "conversations": turns, "proactive": False}
    own = {key: fields.pop(key) for key in ("visual_proactive", "subtask") if key in fields}
    record = parse_record(raw | fields, "v#0", kind, {}, **own)
    build = build_streaming if kind == "streaming" else build_audio_proactive
    return build(record, [0.0, 1.0, 2.0, 3.0], list(sounds), layout(quirks, event_labels))


def check(streams, user, agent, targets=None, informative=None):
    """Compares with pictures; without `targets` exactly what is said is learnt, without `informative` nothing is."""
    assert picture(streams.user) == " ".join(user.split())
    assert picture(streams.agent) == " ".join(agent.split())
    targets = agent.replace(".", "_") if targets is None else targets
    assert ["_" if token == IGNORE else picture([token]) for token in streams.targets] == targets.split()
    assert labels(streams.informative).split() == (informative or "_ " * len(streams.user)).split()


def test_a_typed_question_is_answered_from_the_next_segment_on():
    check(
        timed("streaming", [human("what is it", 1.5), gpt("a b", 1.5)]),
        "online | I I | I I | what is it | I I | I I |",
        ".      . . . . . . . .    .  .  .  ☜ a b $ . .",
    )


def test_two_questions_get_two_answers():
    check(
        timed("streaming", [human("what", 0.5), gpt("a", 0.6), human("now", 2.5), gpt("b", 2.6)]),
        "online | I I | what | I I | I I | now | I I |",
        ".      . . . . .    . ☜ a $ . . . .   . ☜ b $",
    )


def test_a_question_at_the_time_of_a_frame_follows_it():
    check(
        timed("streaming", [human("now", 1.0), gpt("yes", 1.0)]),
        "online | I I | I I | now | I I | I I |",
        ".      . . . . . . . .   . ☜ yes $ . . .",
    )


def test_a_reply_waits_for_its_time():
    """Its anchor is the last question at or before it, not the frame."""
    check(
        timed("streaming", [human("now", 0.5), gpt("yes", 2.9)]),
        "online | I I | now | I I | I I | I I |",
        ".      . . . . .   . ☜ yes $ . . . . . .",
    )


def test_an_answer_before_every_question_follows_the_prompt():
    check(
        timed("streaming", [human("now", 2.5), gpt("yes", 1.0)]),
        "online | I   I | I I | I I | now | I I |",
        ".      . ☜ yes $ . . . . . . .   . . . .",
    )


def test_a_reply_that_outlives_the_video_pads_the_user():
    check(
        timed("streaming", [human("now", 9.0), gpt("a b c", 9.0)]),
        "online | I I | I I | I I | I I | now | . . . . .",
        ".      . . . . . . . . . . . . . .   . ☜ a b c $",
    )


def test_sound_lies_behind_its_frame():
    check(
        timed("streaming", [human("now", 1.05), gpt("yes", 1.05)], sounds=(1, 2, 0, 0)),
        "online | I I | V | I I | now | V | V   | I I | I I |",
        ".      . . . . . . . . . .   . ☜ yes $ . . . . . . .",
    )


def test_a_reply_to_what_is_seen_follows_its_frame_and_the_second_half_of_the_span_is_positive():
    check(
        timed("streaming", [gpt("fall", 2.4, [0.4, 3.5])], proactive=True),
        "vispeak | I I | I I | I I | I I  |",
        ".       . . . . . . . . . . ☟ fall $",
        informative="_ _ _ 0 _ _ 0 _ _ 1 _ _ 1 _",
    )


def test_before_the_question_nothing_is_due_and_nothing_is_an_anchor():
    check(
        timed("streaming", [human("now", 1.5), gpt("wave", 2.2, [0.0, 3.0])], proactive=True),
        "online | I I | I I | now | I I | I I |",
        ".      . . . . . . . .   . . . . ☟ wave $",
        informative="_ _ _ 0 _ _ 0 _ _ _ _ 1 _ _ 1 _",
    )


def test_two_sights_get_two_replies():
    check(
        timed("streaming", [gpt("hi", 0.9, [0.0, 1.0]), gpt("bye", 3.0, [1.5, 3.0])], proactive=True),
        "vispeak | I I  | I I | I I | I I | . . .",
        ".       . . .  . ☟ hi $ . . . . . . ☟ bye $",
        informative="_ _ _ 0 _ _ 1 _ _ 0 _ _ 1 _ _ _ _",
    )


def test_a_later_reply_cuts_the_one_before_it():
    turns = [gpt("a b c d e f", 0.5, [0.0, 1.0]), gpt("stop", 1.5, [1.0, 2.0])]
    user = "vispeak | I I | I I | I I | I I |"
    heads = "_ _ _ 0 _ _ 1 _ _ 1 _ _ 0 _"
    check(timed("streaming", turns, proactive=True), user, ". . . . . ☟ a b ☟ stop $ . . .", informative=heads)
    check(
        timed("streaming", turns, proactive=True, quirks=Quirks(residual_tail=True)),
        user,
        ". . . . . ☟ a b ☟ stop $ f $ .",
        informative=heads,
    )


def test_an_interruption_ends_the_long_answer():
    turns = [human("what", 0.5), gpt("a b c d e f a b c d e f", 0.6), gpt("stop", 2.2, [1.0, 2.5])]
    user = "vispeak | I I | what | I I | I I | I I |"
    heads = "_ _ _ 0 _ _ _ _ 0 _ _ 1 _ _ 0 _"
    check(timed("audio_proactive", turns), user, ". . . . . . . ☜ a b c d e ☟ stop $", informative=heads)
    published = timed("audio_proactive", turns, quirks=PUBLISHED)
    # the rest of the long answer stays where the streams go on
    check(published, user, ". . . . . . . ☜ a b c d e ☟ stop $", informative=heads)
    early = [*turns[:2], gpt("stop", 1.2, [0.5, 1.3])]
    rest = timed("audio_proactive", early, quirks=PUBLISHED)
    check(rest, user, ". . . . . . . ☜ a b ☟ stop $ f a b", informative="_ _ _ 0 _ _ _ _ 1 _ _ 0 _ _ 0 _")
    mended = timed("audio_proactive", early)
    check(mended, user, ". . . . . . . ☜ a b ☟ stop $ . . .", informative="_ _ _ 0 _ _ _ _ 1 _ _ 0 _ _ 0 _")


def test_waking_up_needs_no_question():
    check(
        timed("audio_proactive", [gpt("hi", 1.2, [0.5, 1.4])]),
        "vispeak | I I | I I | I I | I I |",
        ".       . . . . . . . ☟ hi $ . . .",
        informative="_ _ _ 0 _ _ 1 _ _ 0 _ _ 0 _",
    )


def test_a_reference_has_no_labels():
    check(
        timed("audio_proactive", [human("what is it", 1.4), gpt("a cup", 1.5)], visual_proactive=False),
        "vispeak | I I | I I | what is it | I I | I I |",
        ".       . . . . . . . .    .  .  . ☜ a cup $ . .",
    )


def test_a_spoken_question_is_in_the_sound_and_silence_is_learnt():
    check(
        timed(
            "audio_proactive",
            [human("what", 0.5), gpt("a", 1.2), gpt("wave", 2.5, [1.0, 3.0])],
            sounds=(1, 1, 1, 0),
            use_audio=True,
        ),
        "vispeak | I I | V | I I | V | I I | V | I I |",
        ".       . . . . . . . . . . . ☞ a $ ☟ wave $ . .",
        "_       _ _ _ _ _ _ . _ _ _ _ ☞ a $ ☟ wave $ _ _",
        "_       _ _ 0 _ _ _ _ 0 _ _ _ _ 1 _ _ _ _ 1 _",
    )


def test_typed_samples_hear_nothing():
    streams = timed("audio_proactive", [human("what", 0.5), gpt("a", 0.6)], sounds=(1, 1, 1, 1))
    assert "V" not in picture(streams.user) and (streams.targets != TOY.pad).all()


def test_a_spoken_sample_may_end_in_sound():
    turns = [gpt("hi", 0.5, [0.0, 1.0])]
    streams = timed("audio_proactive", turns, sounds=(0, 0, 0, 1), use_audio=True)
    check(
        streams,
        "vispeak | I I | I I | I I | I I | V |",
        ".       . . . . ☟ hi $ . . . . . . . .",
        informative="_ _ _ 0 _ _ 1 _ _ 0 _ _ 0 _ _ _",
    )
    with pytest.raises(SampleError, match="ends in sound"):
        timed("audio_proactive", turns, sounds=(0, 0, 0, 1), use_audio=True, quirks=Quirks(refuse_final_sound=True))


def test_a_reply_beyond_the_published_room_is_refused_only_by_its_quirk():
    turns = [human("now", 3.5), gpt("a " * 600, 3.5)]
    assert len(timed("streaming", turns).user) == 2 + 4 * 3 + 2 + 602
    with pytest.raises(SampleError, match="behind the user stream"):
        timed("streaming", turns, quirks=Quirks(limited_room=True))


def test_typed_markers_are_only_text():
    turns = [human("now <image> >Note ☟", 0.5), gpt("a<|im_end|>b", 0.6)]
    streams = timed("streaming", turns)
    user = picture(streams.user)
    assert user.count("I") == 8 and user.count("|") == 6 and user.count("☟") == 0
    assert picture(streams.agent).count("$") == 1
    published = picture(timed("streaming", turns, quirks=Quirks(markers_in_text=True)).user)
    assert published.count("I") == 10 and published.count("|") == 7


def test_the_event_head_learns_what_the_informative_head_is_told():
    turns = [human("what", 0.2), gpt("a", 0.3), gpt("bye", 2.2, [0.5, 2.5])]
    streams = timed("audio_proactive", turns, event_labels=LABELS, subtask="visual_termination")
    assert labels(streams.informative) == "_ _ _ 0 _ _ _ _ 0 _ _ 1 _ _ 0 _"
    assert labels(streams.events) == "_ _ _ 0 _ _ _ _ 0 _ _ 7 _ _ 0 _"
    turns[-1] = {**turns[-1], "subtask": "anomaly_warning"}  # a turn's own wins
    own = timed("audio_proactive", turns, event_labels=LABELS, subtask="visual_termination")
    assert labels(own.events) == "_ _ _ 0 _ _ _ _ 0 _ _ 2 _ _ 0 _"
    for without in ({"event_labels": LABELS}, {"subtask": "visual_termination"}):
        assert (timed("audio_proactive", turns[:2], **without).events == IGNORE).all()


@pytest.mark.parametrize(
    ("subtask", "names", "wanted"),
    [
        ("visual_wake_up", ("none", "visual_wake_up/wave", "anomaly_warning/fall"), 1),
        ("anomaly_warning/fall", ("none", "visual_wake_up/wave", "anomaly_warning/fall"), 2),
        ("anomaly_warning/fire", ("none", "visual_wake_up/wave", "anomaly_warning/fall"), IGNORE),
        ("visual_wake_up", ("none", "visual_wake_up/wave", "visual_wake_up/nod"), IGNORE),  # either could be meant
        ("humor_reaction", ("none", "visual_wake_up/wave"), IGNORE),
    ],
)
def test_subtasks_find_their_class(subtask, names, wanted):
    assert layout(event_labels=names).event_class(subtask) == wanted


def offline(turns, tiles=(), seconds=(), frame_sounds=(), quirks=None):
    raw = {"conversations": turns, "image": ["i"] * len(tiles), "audio": ["s"] * len(seconds)}
    record = parse_record(raw | ({"video": "v"} if frame_sounds else {}), "o#0", "offline", {})
    return build_offline(record, MediaCounts(tiles, seconds, frame_sounds), layout(quirks))


def test_text_alone_alternates():
    check(
        offline([human("what"), gpt("a b"), human("now"), gpt("c")]),
        "text | what | . . . . now | . . .",
        ".    . .    . ☜ a b $ .   . ☜ c $",
    )


def test_a_final_picture_moves_to_the_front_and_all_its_tiles_are_one_segment():
    streams = offline([human("what is it\n<image>"), gpt("cup")], tiles=[3])
    check(streams, "image | I I I I I I | what is it | . . .", ". . . . . . . . . . . . . ☜ cup $")
    assert streams.order == (("image", 0),)


def test_every_picture_of_a_turn_has_its_own_length():
    turns = [human("<image><image>what"), gpt("a"), human("<image>now"), gpt("b")]
    check(
        offline(turns, tiles=[1, 2, 1]),
        "image | I I | I I I I | what | . . . I I | now | . . .",
        ".     . . . . . . . . . .    . ☜ a $ . . . .   . ☜ b $",
    )
    with pytest.raises(SampleError, match="not as long"):
        offline(turns, tiles=[1, 2, 1], quirks=Quirks(counts_per_turn=True))


def test_a_video_is_its_frames_and_their_sound():
    check(
        offline([human("<video>\nwhat"), gpt("a")], frame_sounds=[1, 2, 0]),
        "video | I I | V | I I | V | V | I I | what | . . .",
        ".     . . . . . . . . . . . . . . . . .    . ☜ a $",
    )


def test_a_spoken_question_is_answered_as_one():
    turns = [human("<audio>"), gpt("a"), human("now"), gpt("b")]
    user = "audio | A | A | . . . now | . . ."
    check(offline(turns, seconds=[2]), user, ". . . . . . ☞ a $ . . ☜ b $")
    check(offline(turns, seconds=[2], quirks=Quirks(typed_start=True)), user, ". . . . . . ☜ a $ . . ☜ b $")


def test_a_first_turn_of_the_agent_answers_the_prompt():
    check(offline([gpt("hi"), human("now"), gpt("yes")]), "text | . . . now | . . .", ". . ☜ hi $ . . ☜ yes $")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<image>\nwhat\n<audio>", "<image>what<audio>"),
        ("what\n<image>\n<image>", "<image><image>what"),
        ("a\nb", "a\nb"),
        ("what <video>", "<video>what "),
        ("a\n<image>\nb", "a<image>b"),
    ],
)
def test_turns_are_tidied(text, wanted):
    assert tidy(text) == wanted


TURNS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 20)),
    min_size=1,
    max_size=8,
)


@given(TURNS, st.booleans(), st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_mended_streams_keep_the_rules_whatever_the_turns(turns, use_audio, sounds):
    """Only whole replies or their beginnings are said; all that is said is learnt; labels lie on visual tokens."""
    texts = sorted(turns, key=lambda turn: turn[1])
    spoken = [
        human("what", time / 10) if asks else gpt("a " * length, time / 10, [time / 10, time / 10 + 1])
        for asks, time, length in texts
    ]
    if not any(turn["from"] == "gpt" for turn in spoken):
        spoken.append(gpt("a", 5.0, [4.0, 6.0]))
    streams = timed("audio_proactive", spoken, sounds=sounds, use_audio=use_audio)
    said = streams.agent != TOY.pad
    assert (streams.targets[said] == streams.agent[said]).all()
    assert (np.isin(streams.targets[~said], [IGNORE, TOY.pad] if use_audio else [IGNORE])).all()
    labelled = np.flatnonzero(streams.informative != IGNORE)
    assert len(labelled) == 4
    assert (streams.user[labelled] == IMAGE).all() and (streams.user[labelled + 1] == TOY.segment_end).all()
    starts = np.flatnonzero(np.isin(streams.agent, list(TOY.starts)))
    assert (streams.user[starts - 1] == TOY.segment_end).all()
    begins = {*starts.tolist(), *np.flatnonzero(said[1:] & ~said[:-1]) + 1}
    assert begins == set(starts.tolist())  # nothing is said without a start
