"""The segmenter: the order of events does not depend on how data arrive; bad input is refused and counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vispeak_node.stream.arrays import read_arrays
from vispeak_node.stream.events import NANOSECONDS, ImageEvent, ResetEvent, SoundEvent, TextEvent
from vispeak_node.stream.items import FrameItem, SoundItem, TextItem
from vispeak_node.stream.segmenter import Segmenter, SegmenterConfig

SECOND = NANOSECONDS
BOTH = SegmenterConfig(has_sound=True)


def picture(k=0):
    return np.full((4, 6, 3), k % 251, np.uint8)


def same(first, second):
    """Whether two lists of events are equal, to the byte."""
    if [(type(e), e.stamp) for e in first] != [(type(e), e.stamp) for e in second]:
        return False
    for a, b in zip(first, second, strict=True):
        if isinstance(a, ImageEvent) and (a.frame_stamp != b.frame_stamp or not np.array_equal(a.image, b.image)):
            return False
        if isinstance(a, SoundEvent) and not np.array_equal(a.samples, b.samples):
            return False
        if isinstance(a, TextEvent) and a.text != b.text:
            return False
    return True


def clip_items(duration=6.0, fps=12.5, rate=44_100, start=0, texts=(1.7, 4.2)):
    rng = np.random.default_rng(1)
    video = rng.integers(0, 255, (int(duration * fps), 4, 6, 3), np.uint8)
    sound = (rng.standard_normal(int(duration * rate)) * 0.1).astype(np.float32)
    items = list(read_arrays(video, fps, sound, rate, start))
    items += [TextItem(start + int(time * SECOND), f"text at {time}") for time in texts]
    return sorted(items, key=lambda item: item.stamp)


def run(items, config=BOTH):
    segmenter = Segmenter(config)
    return [event for item in items for event in segmenter.push(item)] + segmenter.flush()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), start=st.sampled_from([0, 1_795_000_000_123_456_789]))
def test_same_events_live_and_in_chunks_of_any_size(data, start):
    items = clip_items(start=start)
    live = run(items)
    segmenter, events, position = Segmenter(BOTH), [], 0
    while position < len(items):
        size = data.draw(st.integers(1, 150), label="chunk")
        chunk = items[position : position + size]
        events += segmenter.push_many(data.draw(st.permutations(chunk)) if len(chunk) < 30 else reversed(chunk))
        position += size
    events += segmenter.flush()
    assert same(live, events)
    assert sum(isinstance(event, SoundEvent) for event in live) == 6
    assert sum(isinstance(event, ImageEvent) for event in live) == 6


@settings(max_examples=40, deadline=None)
@given(sound_first=st.lists(st.booleans(), min_size=8, max_size=8))
def test_sound_may_arrive_before_or_after_its_pictures(sound_first):
    """Within each second all sound or all frames come first; the events are the same."""
    items = clip_items(duration=8.0, texts=())
    shuffled = []
    for second, first in enumerate(sound_first):
        part = [item for item in items if second * SECOND <= item.stamp < (second + 1) * SECOND]
        shuffled += sorted(part, key=lambda item: isinstance(item, SoundItem) != first)
    assert same(run(items), run(shuffled))


def test_published_order_within_a_second():
    kinds = [(type(event).__name__[:5], event.stamp / SECOND) for event in run(clip_items())]
    assert kinds[:5] == [("Image", 0), ("Sound", 0), ("Image", 1), ("Sound", 1), ("TextE", 1.7)]


@settings(max_examples=100, deadline=None)
@given(
    gaps=st.lists(st.integers(1, 2_500_000_000), min_size=1, max_size=30),
    fps=st.sampled_from([1, 2]),
    start=st.integers(0, 2**60),
)
def test_tick_rule_against_a_naive_oracle(gaps, fps, start):
    stamps = (start + np.concatenate([[0], np.cumsum(gaps)])).tolist()
    config = SegmenterConfig(frames_per_second=fps)
    events = run([FrameItem(stamp, picture(k)) for k, stamp in enumerate(stamps)], config)
    period = SECOND // fps
    wanted = []
    for tick in range(start, stamps[-1] + 1, period):
        known = [stamp for stamp in stamps if tick - period < stamp <= tick]
        if known:
            wanted.append((tick, known[-1]))
    assert [(event.stamp, event.frame_stamp) for event in events] == wanted


def test_only_used_frames_are_made():
    made = []

    def frame(k):
        return lambda: made.append(k) or picture(k)

    run([FrameItem(k * SECOND // 30, frame(k)) for k in range(91)], SegmenterConfig())
    assert made == [0, 30, 60, 90]


def test_resampling_keeps_a_tone():
    time = np.arange(44_100 * 3) / 44_100
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    events = run(list(read_arrays(sound=tone, sample_rate=44_100)), SegmenterConfig(has_video=False, has_sound=True))
    assert [event.stamp for event in events] == [0, SECOND, 2 * SECOND]
    wanted = 0.5 * np.sin(2 * np.pi * 440 * (16_000 + np.arange(16_000)) / 16_000)
    np.testing.assert_allclose(events[1].samples, wanted, atol=2e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_of_any_form_is_the_same(dtype, channels):
    wave = np.linspace(-0.5, 0.5, 32_000).astype(np.float32)
    shaped = np.repeat((wave * (32768 if dtype == np.int16 else 1)).astype(dtype)[:, None], channels, axis=1)
    events = run([SoundItem(0, shaped, 16_000)], SegmenterConfig(has_video=False, has_sound=True))
    assert len(events) == 2
    np.testing.assert_allclose(np.concatenate([event.samples for event in events]), wave, atol=1e-4)


def test_a_short_hole_in_sound_becomes_silence_and_a_long_one_costs_its_seconds():
    config = SegmenterConfig(has_video=False, has_sound=True)
    loud = np.full(16_000, 0.5, np.float32)
    segmenter = Segmenter(config)
    events = segmenter.push_sound(0, loud, 16_000) + segmenter.push_sound(int(1.5 * SECOND), loud, 16_000)
    events += segmenter.push_sound(10 * SECOND, loud, 16_000) + segmenter.flush()
    assert [event.stamp // SECOND for event in events] == [0, 1, 10]
    assert not events[1].samples[:8000].any() and (events[1].samples[8000:] == 0.5).all()
    assert segmenter.counters.sound_gaps == 2


def test_a_microphone_that_dies_does_not_stop_the_pictures():
    items = [
        item for item in clip_items(duration=10.0, texts=()) if isinstance(item, FrameItem) or item.stamp < 3 * SECOND
    ]
    segmenter = Segmenter(BOTH)
    before_flush = [event for item in items for event in segmenter.push(item)]
    assert max(event.stamp for event in before_flush if isinstance(event, ImageEvent)) >= 7 * SECOND
    assert segmenter.counters.sound_missing > 0


def test_a_camera_that_dies_does_not_stop_the_sound():
    items = [
        item for item in clip_items(duration=10.0, texts=()) if isinstance(item, SoundItem) or item.stamp < 3 * SECOND
    ]
    segmenter = Segmenter(BOTH)
    before_flush = [event for item in items for event in segmenter.push(item)]
    assert max(event.stamp for event in before_flush if isinstance(event, SoundEvent)) >= 6 * SECOND
    assert segmenter.counters.ticks_missing > 0


def test_a_long_gap_is_counted_and_not_walked_through():
    segmenter = Segmenter()
    segmenter.push_frame(0, picture())
    events = segmenter.push_frame(30 * SECOND + 1, picture())
    assert events == [] and segmenter.counters.ticks_missing >= 29


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_single_stray_stamp_is_refused_and_life_goes_on(jump):
    segmenter = Segmenter()
    segmenter.push_frame(5000 * SECOND, picture())
    with pytest.raises(ValueError, match="stamp"):
        segmenter.push_frame((5000 + jump) * SECOND, picture())
    assert segmenter.counters.frames_refused == 1
    assert [event.stamp for event in segmenter.push_frame(5001 * SECOND, picture())] == [5001 * SECOND]


def test_a_clock_that_begins_anew_resets():
    segmenter = Segmenter()
    segmenter.push_frame(5000 * SECOND, picture())
    events = []
    for k in range(10):
        try:
            events += segmenter.push_frame(100 * SECOND + k * SECOND, picture())
        except ValueError:
            assert k < 4
    assert isinstance(events[0], ResetEvent)
    assert [event.stamp for event in events[1:]] == [(100 + k) * SECOND for k in range(4, 10)]
    assert segmenter.counters.resets == 1


def test_late_frames_are_dropped_and_counted():
    segmenter = Segmenter()
    segmenter.push_frame(SECOND, picture())
    assert segmenter.push_frame(SECOND // 2, picture()) == []
    assert segmenter.counters.frames_late == 1


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((1, 20_000, 3), np.uint8),
        None,
    ],
)
def test_bad_frames_are_refused_in_one_line(image):
    segmenter = Segmenter()
    with pytest.raises(ValueError) as caught:
        segmenter.push_frame(0, image)
    assert "\n" not in str(caught.value) and segmenter.counters.frames_refused == 1
    assert len(segmenter.push_frame(7, picture())) == 1


def test_a_frame_that_cannot_be_made_costs_its_tick_only():
    def broken():
        raise ValueError("no picture")

    events = run(
        [FrameItem(0, picture()), FrameItem(SECOND, broken), FrameItem(2 * SECOND, picture())], SegmenterConfig()
    )
    assert [event.stamp for event in events] == [0, 2 * SECOND]


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        (np.full(100, np.nan, np.float32), 16_000),
        (np.zeros(100, np.float32), 11),
        (np.zeros(100, np.float32), 10**6),
        (np.zeros(0, np.float32), 16_000),
        (np.zeros(100, np.float64), 16_000),
        (np.zeros((2, 2, 2), np.float32), 16_000),
        (np.zeros(2_000_000, np.float32), 16_000),
    ],
)
def test_bad_sound_is_refused_in_one_line(samples, rate):
    segmenter = Segmenter(SegmenterConfig(has_video=False, has_sound=True))
    with pytest.raises(ValueError) as caught:
        segmenter.push_sound(0, samples, rate)
    assert "\n" not in str(caught.value) and segmenter.counters.sound_refused == 1
    assert len(segmenter.push_sound(0, np.zeros(16_000, np.float32), 16_000)) == 1


def test_texts_are_bounded_and_never_wait_for_nothing():
    segmenter = Segmenter()
    for k in range(64):
        assert segmenter.push_text(k, f"text {k}") == []
    with pytest.raises(ValueError, match="texts"):
        segmenter.push_text(65, "one more")
    assert len(segmenter.push_frame(100, picture())) == 65
    late = segmenter.push_text(3, "old")
    assert [event.stamp for event in late] == [100]


@pytest.mark.parametrize("field", [{"frames_per_second": 3}, {"has_video": False}, {"max_skew": 0.5}])
def test_config_refuses_nonsense(field):
    with pytest.raises(ValueError):
        SegmenterConfig(**field)
