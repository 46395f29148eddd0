"""Whatever the interleaving, the chunks and the delays within the skew, the events are the same; nothing breaks it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stream.test_segmenter import BOTH, SECOND, clip_items, picture, run, same
from vispeak_node.stream.events import ImageEvent, ResetEvent, SoundEvent, TextEvent
from vispeak_node.stream.items import FrameItem, SoundItem, TextItem
from vispeak_node.stream.segmenter import SOUND_DELAY, Segmenter, SegmenterConfig


def key(event):
    return event.stamp + SOUND_DELAY * isinstance(event, SoundEvent)


def kinds(events):
    return [(type(event).__name__[0], event.stamp / SECOND) for event in events]


def arrive(items, delays):
    """Items as they come over a network: each source in order, held up by up to its delays (s)."""
    arrivals, latest = [], {}
    for index, item in enumerate(items):
        delay = 0 if isinstance(item, TextItem) else int(delays[index % len(delays)] * SECOND)
        at = max(item.stamp + delay, latest.get(type(item), item.stamp))
        latest[type(item)] = at
        arrivals.append((at, index, item))
    return [item for *_, item in sorted(arrivals, key=lambda arrival: arrival[:2])]


def shifted(items, kind, offset):
    return sorted((move(item, offset) if isinstance(item, kind) else item for item in items), key=lambda i: i.stamp)


def move(item, offset):
    if isinstance(item, SoundItem):
        return SoundItem(item.stamp + offset, item.samples, item.sample_rate)
    return FrameItem(item.stamp + offset, item.image)


@settings(max_examples=60, deadline=None)
@given(
    delays=st.lists(st.floats(0, 1.85), min_size=1, max_size=300),
    fps=st.sampled_from([1, 2]),
    rate=st.sampled_from([8_000, 16_000, 44_100, 48_000]),
    sound_offset=st.integers(-4 * SECOND, 3 * SECOND),
)
def test_delays_within_the_skew_change_nothing(delays, fps, rate, sound_offset):
    items = shifted(clip_items(duration=7.0, rate=rate, start=10 * SECOND), SoundItem, sound_offset)
    config = SegmenterConfig(frames_per_second=fps, has_sound=True)
    assert same(run(items, config), run(arrive(items, delays), config))


@pytest.mark.parametrize("late", [FrameItem, SoundItem])
@pytest.mark.parametrize("offset", [-4.0, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
def test_where_a_stream_begins_does_not_depend_on_delays(late, offset):
    """Sound that begins before the first frame by more than the skew is the stream's beginning, otherwise the frame."""
    items = shifted(clip_items(duration=8.0, start=10 * SECOND, texts=()), SoundItem, int(offset * SECOND))
    delayed = sorted(items, key=lambda item: item.stamp + (19 * SECOND // 10) * isinstance(item, late))
    assert same(run(items), run(delayed))
    assert run(items)[0].stamp == (10 * SECOND if offset > -2 else (10 + offset) * SECOND)


@pytest.mark.parametrize("late", [FrameItem, SoundItem])
def test_a_source_late_by_the_skew_loses_nothing(late):
    items = clip_items(duration=8.0)
    delayed = sorted(items, key=lambda item: item.stamp + (19 * SECOND // 10) * isinstance(item, late))
    segmenter = Segmenter(BOTH)
    events = [event for item in delayed for event in segmenter.push(item)] + segmenter.flush()
    assert [event for event in kinds(events) if event[0] != "T"] == [(k, t) for t in range(8) for k in "IS"]
    assert segmenter.counters.sound_missing == segmenter.counters.ticks_missing == 0


@settings(max_examples=25, deadline=None)
@given(rate=st.sampled_from([8_000, 22_050, 44_100, 192_000]), sizes=st.lists(st.integers(1, 60_000), min_size=1))
def test_sound_in_chunks_of_any_size_is_the_same_to_the_bit(rate, sizes):
    sound = (np.random.default_rng(2).standard_normal(3 * rate) * 0.2).astype(np.float32)
    items, first, step = [], 0, 0
    while first < len(sound):
        size = max(sizes[step % len(sizes)], rate // 500)
        items.append(SoundItem(first * SECOND // rate, sound[first : first + size], rate))
        first, step = first + size, step + 1
    config = SegmenterConfig(has_video=False, has_sound=True)
    assert same(run([SoundItem(0, sound, rate)], config), run(items, config))


def test_stamps_that_tremble_do_not_tear_sound():
    random = np.random.default_rng(3)
    sound = (random.standard_normal(16_000 * 5) * 0.2).astype(np.float32)
    steady = [SoundItem(k * SECOND // 100, sound[k * 160 : (k + 1) * 160], 16_000) for k in range(500)]
    trembling = [steady[0]] + [move(item, int(random.integers(-40, 40)) * 1_000_000) for item in steady[1:]]
    config = SegmenterConfig(has_video=False, has_sound=True)
    events = run(trembling, config)
    assert same(run(steady, config), events)
    np.testing.assert_array_equal(np.concatenate([event.samples for event in events]), np.clip(sound, -1, 1))


@pytest.mark.parametrize(("begin", "first"), [(0.2, 0), (0.4, 1), (1.0, 1), (3.9, 4)])
def test_a_second_that_begins_late_is_kept_only_if_most_of_it_is_there(begin, first):
    segmenter = Segmenter(SegmenterConfig(has_video=False, has_sound=True, origin=0))
    events = segmenter.push_sound(int(begin * SECOND), np.full(48_000, 0.5, np.float32), 16_000)
    assert events[0].stamp == first * SECOND and segmenter.counters.sound_missing == first
    silent = max(0, round((begin - first) * 16_000))
    assert not events[0].samples[:silent].any() and (events[0].samples[silent:] == 0.5).all()


def test_a_rate_that_changes_in_the_middle_of_a_second_costs_nothing():
    config = SegmenterConfig(has_video=False, has_sound=True)
    items = [SoundItem(0, np.full(24_000, 0.25, np.float32), 16_000)]
    items += [SoundItem(1_500_000_000, np.full(48_000 * 3 // 2, 0.25, np.float32), 48_000)]
    events = run(items, config)
    assert kinds(events) == [("S", 0), ("S", 1), ("S", 2)]
    assert abs(events[1].samples - 0.25).max() < 0.3 and np.median(events[2].samples) == pytest.approx(0.25, abs=1e-3)


def test_a_camera_far_behind_shows_no_old_frames():
    items = clip_items(duration=20.0, texts=())
    late = sorted(items, key=lambda item: item.stamp + 5 * SECOND * isinstance(item, FrameItem))
    segmenter = Segmenter(BOTH)
    events = [event for item in late for event in segmenter.push(item)] + segmenter.flush()
    assert all(0 <= e.stamp - e.frame_stamp < SECOND for e in events if isinstance(e, ImageEvent))
    assert segmenter.counters.frames_late > 100


def test_sound_without_its_camera_is_heard_all_the_same():
    sound = [item for item in clip_items(duration=12.0, texts=()) if isinstance(item, SoundItem)]
    segmenter = Segmenter(BOTH)
    before_flush = [event for item in sound for event in segmenter.push(item)]
    assert before_flush[0].stamp == 0 and before_flush[-1].stamp >= 8 * SECOND
    assert kinds(before_flush + segmenter.flush()) == [("S", t) for t in range(12)]
    assert kinds(run(sound[:20], BOTH)) == [] and kinds(run(sound[:40], BOTH)) == [("S", 0)]


def test_two_clocks_that_differ_leave_the_pictures():
    """A camera stamped since boot and a microphone stamped since 1970: the camera leads, and is never reset."""
    items = [move(i, 5000 * SECOND) if isinstance(i, SoundItem) else i for i in clip_items(duration=10.0, texts=())]
    for first in (FrameItem, SoundItem):
        segmenter, events = Segmenter(BOTH), []
        for item in sorted(items, key=lambda i: (i.stamp % (5000 * SECOND), not isinstance(i, first))):
            try:
                events += segmenter.push(item)
            except ValueError as error:
                assert "far from" in str(error)
        assert sum(isinstance(event, ImageEvent) for event in events) >= 6
        assert segmenter.counters.resets <= 1 and segmenter.counters.sound_refused > 100


def test_a_bag_that_loops_resets_once_and_goes_on():
    once = clip_items(duration=8.0, start=1000 * SECOND, texts=())
    segmenter, events = Segmenter(BOTH), []
    for item in once + once:
        try:
            events += segmenter.push(item)
        except ValueError:
            continue
    events += segmenter.flush()
    assert [type(event) for event in events].count(ResetEvent) == segmenter.counters.resets == 1
    second = events[next(k for k, event in enumerate(events) if isinstance(event, ResetEvent)) + 1 :]
    assert sum(isinstance(event, ImageEvent) for event in second) >= 7
    assert sum(isinstance(event, SoundEvent) for event in second) >= 6


def test_a_camera_that_returns_after_minutes_while_sound_went_on_resets_nothing():
    sound = np.zeros(16_000, np.float32)
    segmenter = Segmenter(BOTH)
    for second in range(200):
        if not 10 < second < 190:
            segmenter.push_frame(second * SECOND, picture(second))
        segmenter.push_sound(second * SECOND, sound, 16_000)
    assert segmenter.counters.resets == segmenter.counters.frames_refused == 0
    assert segmenter.counters.frames_used >= 18


def test_a_microphone_alone_may_restart_its_clock():
    segmenter, events = Segmenter(BOTH), []
    segmenter.push_frame(0, picture())
    for second in range(20):
        try:
            events += segmenter.push_sound((100_000 + second) * SECOND, np.zeros(16_000, np.float32), 16_000)
        except ValueError:
            assert second < 5
    assert segmenter.counters.resets == 1 and sum(isinstance(event, SoundEvent) for event in events) > 8


def test_origin_can_be_given():
    config = SegmenterConfig(origin=0)
    events = run([FrameItem(k * SECOND // 4 + 100, picture(k)) for k in range(13)], config)
    assert [(event.stamp // SECOND, event.frame_stamp) for event in events] == [
        (k, (4 * k - 1) * SECOND // 4 + 100) for k in (1, 2, 3)
    ]


def test_reset_on_request():
    segmenter = Segmenter(BOTH)
    events = [event for item in clip_items(duration=4.0, texts=(2.5,)) for event in segmenter.push(item)]
    events += segmenter.push_reset()
    assert isinstance(events[-1], ResetEvent) and sum(isinstance(event, TextEvent) for event in events) == 1
    assert [key(event) for event in events] == sorted(key(event) for event in events)
    again = clip_items(duration=4.0, start=int(4.3 * SECOND), texts=())
    after = [event for item in again for event in segmenter.push(item)] + segmenter.flush()
    assert after[0].stamp == int(4.3 * SECOND) and len(after) == 8
    with pytest.raises(ValueError, match="stamp"):
        segmenter.push_reset("now")


def test_a_flush_in_the_middle_lets_nothing_come_late():
    segmenter = Segmenter(BOTH)
    events = segmenter.push_frame(0, picture()) + segmenter.push_text(SECOND // 8, "text") + segmenter.flush()
    assert kinds(events) == [("I", 0), ("T", 0.125)]
    events = segmenter.push_frame(SECOND, picture())
    assert kinds(events + segmenter.push_sound(0, np.zeros(32_000, np.float32), 16_000)) == [("I", 1), ("S", 1)]
    assert segmenter.counters.sound_missing == 1 and segmenter.counters.sound_seconds == 1


def test_a_text_without_a_stamp_is_said_now():
    segmenter = Segmenter()
    assert segmenter.push_text(None, "before everything") == []
    assert kinds(segmenter.push_frame(SECOND, picture())) == [("I", 1), ("T", 1)]
    segmenter.push_frame(3 * SECOND // 2, picture())
    assert kinds(segmenter.push_text(None, "now")) == [("T", 1.5)]
    with pytest.raises(ValueError, match="ahead"):
        segmenter.push_text(3600 * SECOND, "from another clock")
    assert segmenter.counters.texts_refused == 1
    assert segmenter.push_text(0, "late")[0].stamp == segmenter.push_text(None, "x")[0].stamp == 3 * SECOND // 2
    assert segmenter.counters.texts_late == 1


def test_a_text_waits_for_the_sound_of_its_second():
    events = run(arrive(clip_items(duration=5.0, texts=(1.25, 2.0625, 3.875)), [0.0, 1.2]))
    assert kinds(events)[3:] == [
        ("S", 1), ("T", 1.25), ("I", 2), ("T", 2.0625), ("S", 2), ("I", 3), ("S", 3), ("T", 3.875), ("I", 4), ("S", 4),
    ]  # fmt: skip


def test_refused_items_of_many_do_not_cost_the_others():
    items = [FrameItem(0, picture()), FrameItem(SECOND, np.zeros((0, 4, 3), np.uint8)), FrameItem(SECOND, picture())]
    segmenter = Segmenter()
    assert len(segmenter.push_many(items)) == 2 and segmenter.counters.frames_refused == 1


@pytest.mark.parametrize("stamp", ["x", None, 1.5, 2**63, -(2**80)])
def test_stamps_that_are_none_are_refused(stamp):
    segmenter = Segmenter(BOTH)
    with pytest.raises(ValueError, match="stamp"):
        segmenter.push_frame(stamp, picture())
    with pytest.raises(ValueError, match="stamp"):
        segmenter.push_sound(stamp, np.zeros(10, np.float32), 16_000)
    assert segmenter.counters.frames_refused == segmenter.counters.sound_refused == 1
    assert len(segmenter.push_frame(np.int64(5), picture())) == 1


def test_losses_are_logged_once(caplog):
    segmenter = Segmenter()
    with caplog.at_level(logging.WARNING):
        for second in range(0, 20, 2):
            segmenter.push_frame(second * SECOND, picture())
            if second:
                segmenter.push_frame(second * SECOND - SECOND // 2, picture())
    assert segmenter.counters.frames_late == segmenter.counters.ticks_missing == 9
    assert len(caplog.records) == 2


push = st.one_of(
    st.tuples(st.just("frame"), st.integers(-2 * SECOND, 3 * SECOND)),
    st.tuples(st.just("sound"), st.integers(-2 * SECOND, 3 * SECOND)),
    st.tuples(st.sampled_from(["text", "now", "reset", "flush", "broken"]), st.integers(-SECOND, SECOND)),
    st.tuples(st.sampled_from(["frame", "sound", "text"]), st.integers(-(2**63), 2**63)),
)


@settings(max_examples=150, deadline=None)
@given(pushes=st.lists(push, max_size=60), config=st.sampled_from([BOTH, SegmenterConfig(2, max_gap=0.0)]))
def test_nothing_that_is_pushed_breaks_the_order_or_the_bounds(pushes, config):
    def broken():
        raise ValueError("no picture")

    segmenter, time, events = Segmenter(config), 0, []
    for what, offset in pushes:
        time = max(0, time + offset) if abs(offset) <= 3 * SECOND else time
        stamp = time if abs(offset) <= 3 * SECOND else offset
        calls = {
            "frame": lambda stamp=stamp: segmenter.push_frame(stamp, picture),
            "broken": lambda stamp=stamp: segmenter.push_frame(stamp, broken),
            "sound": lambda stamp=stamp: segmenter.push_sound(stamp, np.zeros(7000, np.float32), 8_000),
            "text": lambda stamp=stamp: segmenter.push_text(stamp, "text"),
            "now": lambda: segmenter.push_text(None, "now"),
            "reset": segmenter.push_reset,
            "flush": segmenter.flush,
        }
        try:
            events += calls[what]()
        except ValueError as error:
            assert "\n" not in str(error)
        assert len(segmenter._waiting) < 300 and len(segmenter._held) < 300
    keys = []
    for event in [*events, *segmenter.flush()]:
        if isinstance(event, ResetEvent):
            keys.clear()
            continue
        keys.append(key(event))
        assert keys == sorted(keys)
        if isinstance(event, ImageEvent):
            assert 0 <= event.stamp - event.frame_stamp < SECOND // config.frames_per_second
        if isinstance(event, SoundEvent):
            assert event.samples.shape == (16_000,) and event.samples.dtype == np.float32
    counts = segmenter.counters
    assert counts.frames_used + counts.frames_late + counts.frames_refused <= counts.frames_in
