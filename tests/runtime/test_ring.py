"""The bounded cache: equal to a naive list of raw keys, within its budgets, and at any position."""

import dataclasses
import random

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.golden.models import random_model
from tests.runtime.ring_oracle import Kept, NaiveRing
from vispeak_node.model.config import LanguageConfig
from vispeak_node.model.language import rotary_angles, rotate
from vispeak_node.runtime.cache import GrowingCache
from vispeak_node.runtime.ring import Budget, Part, RingCache, Unit

PROMPT = 5
BUDGET = Budget(pinned=PROMPT, window=24, replies=8, temporary=10, span=60)
PARTS = {"window": Part.WINDOW, "reply": Part.REPLY, "pinned": Part.PINNED}


@pytest.fixture(scope="module")
def model():
    """Random weights with larger key and query maps, so that attention is far from uniform."""
    model = random_model(5)
    for layer in model.model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            projection.weight.mul_(6)
            projection.bias.normal_(generator=torch.Generator().manual_seed(1))
    return model


class Pair:
    """Cache and oracle side by side."""

    def __init__(self, model, budget, start):
        self.model, self.budget = model, budget
        self.cache = RingCache(model.config.language, budget)
        self.cache.clear(start)
        self.oracle = NaiveRing(model, budget, start)
        self.generator = torch.Generator().manual_seed(2)
        self.worst = 0.0

    def read(self, plan):
        """One pass over new rows; `plan` is ((cache unit, oracle unit), count) pairs."""
        count = sum(n for _, n in plan)
        rows = torch.randn(count, self.model.config.language.hidden_size, generator=self.generator)
        start = self.cache.place([(ours, n) for (ours, _), n in plan])
        assert start == self.oracle.next
        ours = self.model.forward_embeds(rows[None], start, self.cache)[0]
        theirs_plan = [(theirs, n) for (_, theirs), n in plan]
        self.oracle.make_room(theirs_plan)
        theirs = self.oracle.forward(rows, theirs_plan)
        self.worst = max(self.worst, float((ours - theirs).abs().max()))
        assert len(self.cache) == sum(len(unit.positions) for unit in self.oracle.units)

    def segment(self, count, reply_every=0, held=False):
        """A segment in one pass, or row by row with every so many of its rows spoken over."""
        pair = self.unit("window", held)
        self.cache.reserve(count)
        self.oracle.make_room([(Kept("window"), count)])
        if not reply_every:
            self.read([(pair, count)])
            return pair
        reply = self.unit("reply")
        for row in range(count):
            self.read([(reply if row % reply_every == 0 else pair, 1)])
        return pair

    @staticmethod
    def unit(kind, held=False):
        ours = Unit(PARTS[kind])
        ours.held = held
        return ours, Kept(kind, held)


@pytest.mark.parametrize("start", [0, 1_000_000, 100_000_000])
def test_ring_equals_the_list_of_raw_keys(model, start):
    dice = random.Random(start)
    with torch.inference_mode():
        pair = Pair(model, BUDGET, start)
        pair.read([(pair.unit("pinned"), PROMPT)])
        written = 0
        while written < 4 * BUDGET.window:  # the window wraps four times
            count = dice.randint(3, 9)
            pair.segment(count, reply_every=dice.choice([0, 0, 2]))
            if dice.random() < 0.3:
                reply = pair.unit("reply")
                for _ in range(dice.randint(1, 11)):  # some are longer than the whole budget
                    pair.read([(reply, 1)])
            written += count
    assert pair.cache.num_left > 10
    assert pair.worst < 1e-4


@pytest.mark.parametrize("start", [0, 100_000_000])
def test_a_standing_question_stays_and_then_leaves(model, start):
    with torch.inference_mode():
        pair = Pair(model, BUDGET, start)
        pair.read([(pair.unit("pinned"), PROMPT)])
        ours, theirs = pair.segment(4, held=True)
        for _ in range(12):
            pair.segment(6)
        assert ours.rows and ours.first + 4 >= pair.cache.next_position - BUDGET.window - 4
        positions = len(pair.cache)
        pair.cache.unhold(ours)
        pair.oracle.units.remove(theirs)
        assert not ours.rows and len(pair.cache) == positions - 4
        for _ in range(3):
            pair.segment(6)
    assert pair.worst < 1e-4


def test_a_held_unit_that_leaves_no_room_is_let_go(model):
    with torch.inference_mode():
        pair = Pair(model, BUDGET, 0)
        pair.read([(pair.unit("pinned"), PROMPT)])
        ours, _ = pair.segment(10, held=True)
        pair.cache.reserve(20)
    assert not ours.rows and not ours.held


def test_below_the_budget_it_is_the_plain_cache_bit_for_bit(model):
    rows = torch.randn(1, 20, 32, generator=torch.Generator().manual_seed(3))
    ring, plain = RingCache(model.config.language, BUDGET), GrowingCache(2)
    segment, reply = Unit(Part.WINDOW), Unit(Part.REPLY)
    with torch.inference_mode():
        done = 0
        for unit, count in ((Unit(Part.PINNED), 5), (segment, 6), (reply, 1), (reply, 1), (Unit(Part.WINDOW), 7)):
            fork = Unit(Part.TEMPORARY)
            before = ring.next_position
            start = ring.place([(fork, 3)], evict=False)
            model.forward_embeds(rows[:, :3], start, ring)
            ring.discard(fork)
            ring.rewind(before)
            start = ring.place([(unit, count)])
            ours = model.forward_embeds(rows[:, done : done + count], start, ring, wanted=1)
            theirs = model.forward_embeds(rows[:, done : done + count], done, plain, wanted=1)
            assert torch.equal(ours, theirs)
            done += count


def test_a_fork_leaves_no_trace_after_a_wrap(model):
    rows = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(4))
    results = []
    for forked in (False, True):
        ring = RingCache(model.config.language, BUDGET)
        with torch.inference_mode():
            model.forward_embeds(rows[:, :5], ring.place([(Unit(Part.PINNED), 5)]), ring)
            for _ in range(12):
                model.forward_embeds(rows, ring.place([(Unit(Part.WINDOW), 6)]), ring)
                if forked:
                    fork, before, held = Unit(Part.TEMPORARY), ring.next_position, len(ring)
                    model.forward_embeds(rows, ring.place([(fork, 6)], evict=False), ring)
                    model.forward_embeds(rows[:, :4], ring.place([(fork, 4)], evict=False), ring)
                    ring.discard(fork)
                    ring.rewind(before)
                    assert len(ring) == held
            results.append(model.forward_embeds(rows, ring.place([(Unit(Part.WINDOW), 6)]), ring))
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@example([("reply", 1), *[("segment", 12)] * 2, ("held", 12), ("segment", 1), ("segment", 12), ("more", 3)])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["segment", "held", "reply", "more", "fork", "unhold"]), st.integers(1, 12)),
        max_size=60,
    )
)
def test_budgets_hold_and_rows_are_never_shared(steps):
    config = LanguageConfig(10, 8, 8, 1, 2, 2)
    ring = RingCache(config, BUDGET)
    size = ring.num_bytes
    ring.place([(Unit(Part.PINNED), PROMPT)])
    reply, held = Unit(Part.REPLY), None
    for kind, count in steps:
        if kind in ("segment", "held"):
            unit = Unit(Part.WINDOW)
            if kind == "held":
                if held is not None:
                    ring.unhold(held)
                unit.held, held = True, unit
            ring.place([(unit, count)])
        elif kind == "unhold" and held is not None:
            ring.unhold(held)
            held = None
        elif kind in ("reply", "more"):
            reply = Unit(Part.REPLY) if kind == "reply" else reply
            for _ in range(count):
                ring.place([(reply, 1)])
        elif kind == "fork":
            fork, before = Unit(Part.TEMPORARY), ring.next_position
            ring.place([(fork, min(count, BUDGET.temporary))], evict=False)
            ring.discard(fork)
            ring.rewind(before)
        units = [unit for part in Part for unit in ring._units[part]]
        rows = [row for unit in units for row in unit.rows]
        assert len(rows) == len(set(rows)) == len(ring)
        assert ring.count(Part.WINDOW) + ring._num_held <= BUDGET.window
        assert ring.count(Part.REPLY) <= BUDGET.replies
        positions = sorted(ring._positions_C[rows].tolist())
        assert len(set(positions)) == len(positions), "no two rows at one place"
        assert positions[-1] < ring.next_position and ring.next_position - positions[0] <= BUDGET.span
        assert (ring._positions_C < 2**62).sum() == len(rows)
    assert ring.num_bytes == size


def test_bfloat16_pins_do_not_wear_out():
    """A thousand moves of the pinned part are as exact as one: keys are turned from float32 copies, not in place."""
    config = LanguageConfig(10, 64, 64, 1, 2, 2)
    ring = RingCache(config, BUDGET, torch.bfloat16)
    raw = torch.randn(1, 2, PROMPT, 32, generator=torch.Generator().manual_seed(0))
    pinned = Unit(Part.PINNED)
    ring.place([(pinned, PROMPT)])
    ring.append(0, rotate(raw, rotary_angles(config, 0, PROMPT, raw)).bfloat16(), raw.bfloat16())
    errors = []
    for _ in range(1000):
        ring.place([(Unit(Part.WINDOW), 7)])
        keys, _ = ring.append(0, torch.zeros(1, 2, 7, 32).bfloat16(), torch.zeros(1, 2, 7, 32).bfloat16())
        wanted = rotate(raw, rotary_angles(config, pinned.first, PROMPT, raw))
        errors.append(float((keys[:, :, pinned.rows].float() - wanted).norm() / wanted.norm()))
    assert pinned.first > 6000
    assert max(errors) < 6e-3 and errors[-1] < 2 * errors[5]


def test_float64_angles_keep_scores_at_two_weeks():
    """A score depends on the distance alone, at position 1e8 as at 0."""
    config = LanguageConfig(10, 256, 64, 1, 2, 2)
    query, key = torch.randn(2, 1, 128, generator=torch.Generator().manual_seed(0))

    def score(base, distance):
        turned = rotate(query, rotary_angles(config, base + distance, 1, query))
        return float(turned @ rotate(key, rotary_angles(config, base, 1, key)).T)

    for distance in (0, 1, 77, 6000):
        for base in (1_000_000, 100_000_000):
            assert score(base, distance) == pytest.approx(score(0, distance), abs=1e-4)


@pytest.mark.parametrize("field", [{"window": 0}, {"replies": 0}, {"span": 20}])
def test_a_budget_that_does_not_fit_is_refused(field):
    with pytest.raises(ValueError, match="max_positions"):
        dataclasses.replace(BUDGET, **field)
