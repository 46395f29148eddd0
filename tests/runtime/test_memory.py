"""The feature memory: recorded traces of the published bank, bounds, no hole in the past, and reading at a question."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.models import FOLDER, vocabulary
from tests.runtime.test_session import image_event, make_event, model, run_session, summary
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.memory.bank import COMPAT, DEFAULT, Level, PyramidBank, Rules, level_sizes
from vispeak_node.runtime.memory.frame import Frame
from vispeak_node.runtime.memory.policies import Sizes, build_memory, fitting_levels
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import ResetEvent, TextEvent, nanoseconds

__all__ = ["model"]  # the fixture
GOLDEN = json.loads((FOLDER / "bank.json").read_text())
ANGLES = {"A": lambda i: 0.002 * i * i, "B": lambda i: 0.3 * math.sqrt(i)}
SECOND = 1_000_000_000
AT_8_HZ = dataclasses.replace(DEFAULT, period=1.0)
POLICY = {False: COMPAT, True: dataclasses.replace(COMPAT, cascade=True)}


def feature(angle, side=16):
    return torch.tensor([math.cos(angle), math.sin(angle)]).expand(side * side, 2)


def filled(angle, frames, capacities=(2, 2, 12), rules=AT_8_HZ, rate=8):
    bank = PyramidBank([Level(side, most) for side, most in zip((16, 8, 4), capacities, strict=True)], rules)
    most = 0
    for index in range(frames):
        bank.push(round(index * SECOND / rate), feature(angle(index)))
        most = max(most, bank.num_tokens)
    return bank, most


def indices(bank):
    return [[frame.index for frame in bank.level(number)] for number in range(3)]


def longest_hole(bank, frames):
    kept = [0, *(frame.index for frame in bank.frames()), frames - 1]
    return int(np.diff(kept).max())


@pytest.mark.parametrize("trace", GOLDEN["traces"], ids=lambda t: f"{t['feature']}-{t['frames']}-{t['cascade']}")
def test_published_rules_repeat_the_recorded_traces(trace):
    bank, most = filled(ANGLES[trace["feature"]], trace["frames"], trace["capacities"], POLICY[trace["cascade"]])
    assert indices(bank) == trace["levels"]
    assert most <= sum(c * side**2 for c, side in zip(trace["capacities"], (16, 8, 4), strict=True))


def test_one_level_drops_the_earlier_of_the_most_similar_pair():
    wanted = GOLDEN["one_level"]
    bank = PyramidBank([Level(1, 2), Level(1, 2), Level(1, wanted["capacity"])], COMPAT)
    for number, (angle, contents) in enumerate(zip(wanted["angles"], wanted["contents"], strict=True)):
        bank._place(2, Frame(number, number, feature(angle, 1)), cascade=True)
        assert [frame.index for frame in bank.level(2)] == contents


def test_published_demotions_are_in_the_recorded_order():
    wanted = GOLDEN["demotions"]
    bank = PyramidBank([Level(s, c) for s, c in zip((16, 8, 4), wanted["capacities"], strict=True)], COMPAT)
    where, moves, dropped = {}, [], 0
    for index in range(wanted["frames"]):
        bank.push(index, feature(ANGLES[wanted["feature"]](index)))
        now = {frame: number for number, level in enumerate(indices(bank)) for frame in level}
        moves += [[frame, where[frame]] for frame in now if frame in where and now[frame] != where[frame]]
        dropped += len(where.keys() - now.keys())
        where = now
    assert moves == wanted["moves"] and dropped == wanted["dropped"] and bank.num_tokens == 704


def test_read_order_is_time_and_size_follows_the_level():
    bank, _ = filled(ANGLES["A"], 64, rules=COMPAT)
    frames = bank.frames()
    assert [f.index for f in frames] == [12, 20, 28, 35, 36, 40, 43, 44, 48, 51, 52, 56, 59, 60, 62, 63]
    level = {index: number for number, found in enumerate(indices(bank)) for index in found}
    assert [f.num_tokens for f in frames] == [(256, 64, 16)[level[f.index]] for f in frames]


@pytest.mark.parametrize("name", ["A", "B", "still", "drift", "swing"])
def test_no_hole_opens_in_the_past(name):
    """1,000 frames in 832 tokens: the published rules leave 657 frames out at a stretch, ours at most 150."""
    other = {"still": lambda i: 0.0, "drift": lambda i: 0.001 * i, "swing": lambda i: 5 * math.sin(i)}
    angle = ANGLES.get(name) or other[name]
    bank, most = filled(angle, 1000)
    assert most == 832 and longest_hole(bank, 1000) <= 150
    assert bank.frames()[0].index <= 150, "the beginning is not forgotten"


def test_the_published_rules_do_leave_a_hole():
    assert longest_hole(filled(ANGLES["B"], 1000, rules=COMPAT)[0], 1000) == 657


def test_a_random_walk_leaves_no_hole_at_any_time():
    generator = torch.Generator().manual_seed(0)
    walk = torch.randn(1000, 16, generator=generator).cumsum(0)
    bank = PyramidBank([Level(16, 2), Level(8, 2), Level(4, 12)], AT_8_HZ)
    for index, row in enumerate(walk):
        bank.push(index * SECOND // 8, row.expand(256, 16))
        if index >= 100:
            assert longest_hole(bank, index + 1) <= 0.15 * index + 8


def test_likeness_decides_where_coverage_allows_it():
    """Of frames that are evenly spread, the ones that say something new stay."""
    bank, _ = filled(lambda i: 0.0 if i != 50 else 1.5, 120)
    plain, _ = filled(lambda i: 0.0, 120)
    assert 50 in [f.index for f in bank.frames()] and 50 not in [f.index for f in plain.frames()]


@pytest.mark.parametrize(("capacities", "most"), [((0, 2, 12), 320), ((1, 2, 12), 576), ((2, 0, 12), 704)])
@pytest.mark.parametrize("name", ["A", "B"])
def test_small_levels_are_levels(name, capacities, most):
    bank, tokens = filled(ANGLES[name], 200, capacities)
    assert tokens <= most and longest_hole(bank, 200) <= 40


@pytest.mark.parametrize("capacities", [(2, 2, 0), (1, 0, 0), (0, 0, 1), (1, 1, 1), (0, 0, 0)])
def test_hardly_any_level_works_too(capacities):
    bank, _ = filled(ANGLES["B"], 100, capacities)
    assert [len(bank.level(number)) for number in range(3)] == list(capacities)


def test_published_rules_refuse_levels_that_they_are_not_defined_for():
    for capacities in ((0, 2, 12), (1, 2, 12)):
        with pytest.raises(ValueError, match="at least two frames"):
            filled(ANGLES["A"], 1, capacities, COMPAT)


def test_bytes_are_those_of_the_published_bank_and_never_more():
    levels = [Level(16, 2), Level(8, 2), Level(4, 12)]
    tokens, size = level_sizes(levels, 4096, 2)
    assert tokens == 832 and size == 6_815_744 + 16 * 4 * 4096  # features, and one direction a frame
    bank = PyramidBank(levels, AT_8_HZ)
    for index in range(40):
        bank.push(index * SECOND // 8, torch.full((256, 4096), 1.0 + index, dtype=torch.float16))
        assert bank.num_bytes <= size
    assert bank.num_bytes == size


def test_shrinking_means_over_squares():
    features = torch.randn(256, 3, generator=torch.Generator().manual_seed(0))
    grid = features.T.reshape(1, 3, 16, 16)
    half = torch.nn.functional.interpolate(grid, size=(8, 8), mode="bilinear", align_corners=False)
    quarter = torch.nn.functional.avg_pool2d(grid, 4)
    frame = Frame(0, 0, features)
    torch.testing.assert_close(frame.shrunk(8).features_NF, half[0].flatten(1).T)
    torch.testing.assert_close(frame.shrunk(4).features_NF, quarter[0].flatten(1).T)
    assert frame.shrunk(16) is frame and Frame(0, 0, features[:1]).shrunk(4).num_tokens == 1


def test_arrival_goes_by_the_clock():
    """8 Hz with a quarter of the frames lost, then 30 Hz: a second brings one, one, and at most six."""
    dice = np.random.default_rng(0)
    for rate, lost in ((8, 0.25), (30, 0.0), (8, 0.0)):
        bank = PyramidBank([Level(4, 1000), Level(2, 1000), Level(1, 10000)], AT_8_HZ)
        for index in range(60 * rate):
            if dice.random() >= lost:
                bank.push(index * SECOND // rate, feature(index, 4))
        for second in range(60):
            shares = [sum(f.stamp // SECOND == second for f in bank.level(number)) for number in range(3)]
            assert shares[0] <= 1 and shares[1] <= 1 and shares[2] <= 6
            assert lost or shares == [1, 1, 6]
        assert len(bank.level(0)) >= 58 and len(bank.level(1)) >= 50


def test_frames_that_do_not_come_forward_in_time_are_not_taken():
    bank = PyramidBank([Level(4, 2), Level(2, 2), Level(1, 12)], DEFAULT)
    assert bank.push(10 * SECOND, feature(0, 4))
    assert not bank.push(10 * SECOND, feature(1, 4)) and not bank.push(2 * SECOND, feature(2, 4))
    assert [f.stamp for f in bank.frames()] == [10 * SECOND]


@pytest.mark.parametrize("rules", [{"period": 0.0}, {"coverage": -1.0}, {"coverage": math.nan}])
def test_rules_name_what_is_wrong(rules):
    with pytest.raises(ValueError, match=next(iter(rules))):
        Rules(**rules)


SIZES = Sizes(
    side=4, width=16, dtype=torch.float32, window_frames=5, recall_positions=500, frame_overhead=8, budget=60_000
)


@settings(max_examples=25, deadline=None)
@given(budget=st.integers(5_000, 80_000), positions=st.integers(100, 2000), side=st.sampled_from([1, 2, 4, 7]))
def test_no_policy_exceeds_its_budget(budget, positions, side):
    sizes = dataclasses.replace(SIZES, budget=budget, recall_positions=positions, side=side)
    for policy in ("none", "window", "pyramid"):
        try:
            memory = build_memory(policy, sizes)
        except ValueError as error:
            assert "memory" in str(error)
            continue
        for second in range(60):
            memory.add(second * SECOND, torch.full((side * side, 16), float(second + 1)))
            assert memory.num_bytes <= budget
        taken = sum(frame.num_tokens + 8 for frame in memory.past(2**62))
        assert taken <= memory.num_recall_positions <= positions
        recent = [frame.stamp // SECOND for frame in memory.recent()]
        assert recent == list(range(60 - len(recent), 60)) and len(recent) <= 5
        memory.clear()
        assert memory.num_bytes == 0 and not memory.past(2**62)


def test_a_budget_that_is_too_small_says_what_is_needed():
    with pytest.raises(ValueError, match="use at least"):
        fitting_levels(dataclasses.replace(SIZES, budget=100))
    with pytest.raises(ValueError, match="max_positions"):
        fitting_levels(dataclasses.replace(SIZES, recall_positions=10))
    with pytest.raises(ValueError, match="not one frame"):
        build_memory("window", dataclasses.replace(SIZES, budget=100))
    with pytest.raises(ValueError, match="unknown"):
        build_memory("x", SIZES)


SMALL = SessionConfig(threshold=10.0, max_positions=500, window_positions=60, reply_positions=40, max_reply_tokens=6)


def recorded(session):
    """Patches a session's context so that temporary reads are noted."""
    read, found = session._context.read_temporary, []

    def note(segments):
        found.append([segment.stamp for segment in segments])
        read(segments)

    session._context.read_temporary = note
    return found


def test_a_question_reads_frames_from_before_the_window_and_lets_them_go(model):
    session = Session(model, vocabulary(), dataclasses.replace(SMALL, memory="pyramid"))
    found = recorded(session)
    for second in range(60):
        session.push(image_event(second))
    positions, oldest = session.num_positions, session._context.cache.oldest_stamp
    outputs = session.push(TextEvent(nanoseconds(59.5), "What is in the video?"))
    (stamps,) = found
    assert stamps == sorted(stamps) and stamps[-1] < oldest and stamps[0] <= nanoseconds(15)
    assert len(stamps) >= 4
    outputs += [o for second in range(60, 100) for o in session.push(image_event(second))]
    assert session.num_positions <= positions + SMALL.reply_positions, "nothing temporary is left"
    assert not session._context.cache._units[type(session._context._reply.part).TEMPORARY]


def test_an_answer_draws_on_what_was_remembered(model):
    """Two streams that differ in what left the window long ago: only with a pyramid does the answer's pass see it."""
    chances = {}
    for policy in ("window", "pyramid"):
        for k in (1, 5):
            session = Session(model, vocabulary(), dataclasses.replace(SMALL, memory=policy, proactive=False))
            hidden = []
            hook = session.model.lm_head.register_forward_hook(
                lambda _m, inputs, _o, hidden=hidden: hidden.append(inputs[0])
            )
            for second in range(60):
                session.push(image_event(second, k if second < 20 else 0))
            hidden.clear()
            session.push(TextEvent(nanoseconds(59.5), "What is in the video?"))
            hook.remove()
            chances[policy, k] = hidden[0]
    assert float((chances["pyramid", 1] - chances["pyramid", 5]).abs().max()) > 1e-4
    difference = float((chances["window", 1] - chances["window", 5]).abs().max())
    assert difference < float((chances["pyramid", 1] - chances["pyramid", 5]).abs().max())


@settings(max_examples=10, deadline=None)
@given(kinds=st.lists(st.sampled_from(["image", "image", "sound", "text"]), min_size=1, max_size=8))
def test_below_the_window_a_memory_changes_nothing(model, kinds):
    events = [make_event(kind, second) for second, kind in enumerate(kinds)]
    config = SessionConfig(threshold=0.6, refractory=0.0, speak_ahead=3, max_reply_tokens=12)
    plain = summary(run_session(model, config, events))
    for policy in ("window", "pyramid"):
        assert summary(run_session(model, dataclasses.replace(config, memory=policy), events)) == plain


@settings(max_examples=8, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["image", "image", "image", "sound", "text"]), min_size=30, max_size=60),
    ahead=st.sampled_from([0, 3, 64]),
    recognition=st.sampled_from(["never", "options"]),
    memory=st.sampled_from(["none", "pyramid"]),
)
def test_any_stream_stays_within_a_small_context(model, kinds, ahead, recognition, memory):
    config = SessionConfig(
        threshold=0.6, refractory=0.0, speak_ahead=ahead, max_reply_tokens=30, max_positions=500, window_positions=50,
        reply_positions=20, recognition=recognition, memory=memory, answer_timeout=4.0,
    )  # fmt: skip
    session = Session(model, vocabulary(), config)
    rows, size = session._context.cache.budget.rows, session._context.cache.num_bytes
    for second, kind in enumerate(kinds):
        session.push(make_event(kind, second))
        assert session.num_positions <= rows
        positions = session._context.cache._positions_C
        assert session._context.cache.next_position - int(positions.min()) <= 500 or session._context._temporary
    assert session._context.cache.num_bytes == size
    assert session.past.memory.num_bytes <= config.memory_bytes


def test_questions_never_run_the_vision_tower_again(model):
    session = Session(model, vocabulary(), dataclasses.replace(SMALL, memory="pyramid"))
    calls = []
    hook = model.model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    for second in range(120):
        session.push(image_event(second))
        if second % 6 == 5:
            session.push(TextEvent(nanoseconds(second + 0.5), "What is in the video?"))
    hook.remove()
    assert len(calls) == 120


def test_reset_clears_memory_and_dialogue(model):
    session = Session(model, vocabulary(), dataclasses.replace(SMALL, memory="pyramid"))
    for second in range(20):
        session.push(image_event(second))
    session.push(TextEvent(nanoseconds(19.5), "What is in the video?"))
    assert session.past.memory.num_bytes and len(session.past.dialogue)
    session.push(ResetEvent(nanoseconds(20)))
    assert session.past.memory.num_bytes == len(session.past.dialogue) == session.num_positions == 0
    assert session.past.newest is None


def test_a_memory_that_does_not_fit_is_refused_at_once(model):
    with pytest.raises(ValueError, match="memory_bytes"):
        Session(model, vocabulary(), SessionConfig(memory="pyramid", memory_bytes=1000))
    with pytest.raises(ValueError, match="memory"):
        SessionConfig(memory="x")
    with pytest.raises(ValueError, match="window"):
        Session(model, vocabulary(), SessionConfig(max_positions=45))
