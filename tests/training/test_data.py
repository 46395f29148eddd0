"""Registries, media, checks and drawings, on sets of our own making in the shapes of the published files."""

from __future__ import annotations

import argparse
import copy
import json
import logging
import pickle

import av
import numpy as np
import pytest
from ruamel.yaml import YAML
from torch.utils.data import DataLoader

from tests.conftest import write_clip
from tests.training.fixtures import (
    LABELS,
    gpt,
    human,
    instruct_files,
    toy_config,
    toy_vocabulary,
    write_set,
    write_wave,
)
from vispeak_node.model.checkpoint import config_to_dict
from vispeak_training.data import commands
from vispeak_training.data.anomalies import label_anomalies
from vispeak_training.data.check import check, histogram
from vispeak_training.data.dataset import TrainingSet
from vispeak_training.data.drawing import runs, table
from vispeak_training.data.media import VideoFile, read_image, read_sound
from vispeak_training.data.options import BuildOptions, Quirks
from vispeak_training.data.packing import group, pack
from vispeak_training.data.record import parse_record
from vispeak_training.data.registry import read_registry
from vispeak_training.data.sample import IGNORE, IMAGE, MEDIA, MISSING, OVERLONG, SampleError
from vispeak_training.data.sample import LABELS as LABEL_FAULT

PLAIN = BuildOptions(shuffle=False)


@pytest.fixture(scope="module")
def vocabulary():
    return toy_vocabulary()


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """All twelve files, sound and complete."""
    return write_set(tmp_path_factory.mktemp("instruct") / "set", instruct_files())


def training_set(registry, vocabulary, options=PLAIN, event_labels=LABELS):
    return TrainingSet(registry, vocabulary, toy_config(event_labels), options)


def test_all_twelve_files_check_clean_and_build(registry, vocabulary):
    samples = training_set(registry, vocabulary)
    assert len(samples) == 24
    report = check(samples, progress=False)
    assert report.ok, report.lines()
    assert report.samples == len(report.lengths) == 24
    for index in range(len(samples)):
        sample = samples[index]
        assert sample is not None
        rows = (sample.user, sample.agent, sample.targets, sample.informative, sample.events)
        assert {row.shape for row in rows} == {sample.user.shape} and {row.dtype for row in rows} == {
            np.dtype(np.int64)
        }
        assert sample.images.dtype == np.uint8 and sample.images.shape[1:] == (56, 56, 3)
        assert sample.sounds.dtype == np.float32 and sample.sounds.shape[1:] == (16_000,)
        assert (sample.user == IMAGE).sum() == 4 * len(sample.images)
        assert np.isin(sample.user, (-500, -600)).sum() == 12 * len(sample.sounds)
    assert not samples.bad


def test_sources_keep_what_the_registry_says_of_them(registry, vocabulary):
    samples = training_set(registry, vocabulary)

    def of(name, index=0):
        return samples[samples.find(f"{name}.json#{index}")]

    video = of("socialiq_2K")
    assert len(video.images) == 4 and len(video.sounds) == 4 and (video.informative == IGNORE).all()
    assert len(of("socialiq_2K", 1).sounds) == 0  # a video without a sound track
    reference = of("reference_text_training_data")
    assert (reference.informative == IGNORE).all() and (reference.events == IGNORE).all()
    warning = of("Anomaly_Warning_oops_train")
    assert warning.events[warning.informative == 1].tolist() == [LABELS.index("anomaly_warning")] * 2
    assert (warning.events[warning.informative == 0] == 0).all()
    goodbye = of("wake_up_text_training_data_split", 1)
    assert set(goodbye.events[goodbye.informative == 1]) == {LABELS.index("visual_termination")}
    assert len(of("Gesture_Understanding_trainv3_7k").sounds) == 0  # typed: nothing is heard
    without = training_set(registry, vocabulary, event_labels=())
    assert (without[without.find("Anomaly_Warning_oops_train.json#0")].events == IGNORE).all()


def test_the_share_is_the_first_part_and_the_seed_decides_the_order(registry, vocabulary):
    entries = YAML(typ="safe").load(registry)
    halved = registry.with_name("half.yaml")
    YAML(typ="safe").dump([{**entry, "share": 0.5} for entry in entries], halved)
    samples = training_set(halved, vocabulary)
    whole = training_set(registry, vocabulary)
    first = [whole.record(i) for i in range(24) if whole.name(i).endswith("#0")]
    assert [samples.record(i) for i in range(len(samples))] == first
    orders = [
        [s.name(i) for i in range(len(s))]
        for s in (training_set(registry, vocabulary, BuildOptions(seed=seed)) for seed in (1, 1, 2))
    ]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == sorted(orders[2])


def test_a_loader_with_workers_reads_the_same(registry, vocabulary):
    samples = training_set(registry, vocabulary)
    copied = pickle.loads(pickle.dumps(samples))
    loader = DataLoader(copied, batch_size=None, num_workers=1, collate_fn=lambda sample: sample)
    for index, sample in enumerate(loader):
        assert np.array_equal(sample.user, samples[index].user)
        if index == 2:
            break


def damaged(folder):
    """The twelve files with one fault of every kind."""
    files = copy.deepcopy(instruct_files())
    files["socialiq_2K"][1][1]["video"] = "gone.mp4"
    files["intentqa_5k"][1][0]["video"] = "broken.mp4"
    files["SMILE_1k"][1][0]["conversations"][1]["value"] = "a " * 7000
    files["HumorQA_train_2k"][1][0]["conversations"][0]["timespan"] = [1.5]
    files["socialiq_our_anno_1k"][1][0]["conversations"][0]["time"] = 1.2
    del files["Anomaly_Warning_oops_train"][1][0]["proactive"]
    registry = write_set(folder, files)
    whole = (folder / "videos/a.mp4").read_bytes()
    (folder / "videos/broken.mp4").write_bytes(whole[: len(whole) // 2])
    return registry


def test_damage_is_named_and_counted_and_nothing_takes_its_place(tmp_path, vocabulary, caplog):
    samples = training_set(damaged(tmp_path / "set"), vocabulary)
    report = check(samples, progress=False)
    named = {kind: [line.split(":")[0] for line in found] for kind, found in report.problems.items()}
    assert named == {
        MISSING: ["socialiq_2K.json#1"],
        MEDIA: ["intentqa_5k.json#0"],
        OVERLONG: ["SMILE_1k.json#0"],
        LABEL_FAULT: ["Anomaly_Warning_oops_train.json#0", "HumorQA_train_2k.json#0", "socialiq_our_anno_1k.json#0"],
    }
    assert not report.ok and report.samples == 24 and len(report.lengths) == 20
    text = "\n".join(report.lines())
    assert "missing file (1)" in text and "gone.mp4" in text and "second half" in text
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            built = [samples[index] for index in range(len(samples))]
    bad = {samples.name(index) for index, sample in enumerate(built) if sample is None}
    # the odd time is reported by the check, but such a sample can be built
    assert bad == set(samples.bad) == {n for found in named.values() for n in found} - {"socialiq_our_anno_1k.json#0"}
    assert len(caplog.records) == 5  # each is logged once
    assert "gone.mp4" in samples.bad["socialiq_2K.json#1"]


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([gpt("", 1.6, [1, 2])], "an empty reply"),
        ([gpt("a", 1.2, [1, 2])], "second half"),
        ([gpt("a", 2.5, [1, 2])], "outside timespan"),
        ([gpt("a", 1.6, [2, 1])], "no span of time"),
        ([gpt("a", 9.0, [8, 9.5])], "beyond the video"),
        ([gpt("a", -2.0, [-3, -1])], "before the video"),
        ([gpt("a <image>", 1.6, [1, 2])], "marker inside"),
        ([gpt("a >Note", 1.6, [1, 2])], "marker inside"),
        ([gpt("a", 3.6, [3, 4]), gpt("b", 1.6, [1, 2])], "before the turn above"),
        ([human(" ", 0.5), gpt("a", 1.6, [1, 2])], "an empty question"),
    ],
)
def test_odd_labels_are_told(turns, message):
    record = parse_record({"video": "v", "proactive": True, "conversations": turns}, "x#0", "streaming", {})
    assert any(message in line for line in label_anomalies(record, duration=4.0))


def test_usual_labels_are_not_odd():
    turns = [human("a < b?", 0.5), gpt("a", 1.5, [1, 2]), gpt("b", 2.0, [1, 2])]
    record = parse_record({"video": "v", "proactive": True, "conversations": turns}, "x#0", "streaming", {})
    assert label_anomalies(record, duration=4.0) == []
    spoken = {"video": "v", "use_audio": True, "conversations": [human("<audio>", 0.5), gpt("a", 1.5)]}
    assert label_anomalies(parse_record(spoken, "x#0", "audio_proactive", {}), 4.0) == []


GOOD = {"video": "v.mp4", "proactive": True, "conversations": [gpt("a", 1.6, [1, 2])]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": None}, "video is missing"),
        ({"video": ["a", "b"]}, "one file"),
        ({"video": 3}, "path"),
        ({"proactive": "yes"}, "proactive must be"),
        ({"video_start_time": float("nan")}, "video_start_time must be a number"),
        ({"video_start_time": 3, "video_end_time": 1}, "before"),
        ({"conversations": []}, "conversations must be"),
        ({"conversations": "a"}, "conversations must be"),
        ({"conversations": [human("a", 1)]}, "no turn of gpt"),
        ({"conversations": [{"from": "user", "value": "a", "time": 1}]}, "from"),
        ({"conversations": [{"from": "gpt", "value": None, "time": 1}]}, "value"),
        ({"conversations": [gpt("a")]}, "time is missing"),
        ({"conversations": [{**gpt("a"), "time": True}]}, "time must be a number"),
        ({"conversations": [gpt("a", 1)]}, "needs a timespan"),
        ({"conversations": [gpt("a", 1, [1, None])]}, "two times"),
        ({"subtask": "dancing"}, "none of visual_wake_up"),
    ],
)
def test_malformed_samples_are_refused_in_one_line(change, message):
    parse_record(GOOD, "x#0", "streaming", {})
    with pytest.raises(SampleError, match=message) as caught:
        parse_record({**GOOD, **change}, "x#0", "streaming", {})
    assert caught.value.kind == LABEL_FAULT and "\n" not in str(caught.value)


def test_placeholders_and_files_must_agree():
    for raw in ({"image": ["i"]}, {"video": "v"}, {"audio": "s", "image": "i"}):
        with pytest.raises(SampleError, match="in the text of human turns"):
            parse_record({"conversations": [human("<audio>"), gpt("a")], **raw}, "x#0", "offline", {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "must hold a list"),
        ("[]", "must hold a list"),
        ("- {file: a.json}", "kind None is unknown"),
        ("- {file: a.json, kind: gesture}", "kind 'gesture' is unknown"),
        ("- {file: a.json, kind: offline, ratio: 1}", "'ratio' is unknown"),
        ("- {file: a.json, kind: offline, share: 0}", "share must lie"),
        ("- {file: a.json, kind: offline, share: 1.5}", "share must lie"),
        ("- {kind: offline}", "file must be"),
        ("- {file: a.json, kind: offline, folders: {sound: x}}", "folders.sound"),
        ("- {file: a.json, kind: offline, visual_proactive: 3}", "visual_proactive"),
        ("- {file: a.json, kind: offline, subtask: x}", "subtask 'x'"),
        ("- {file: a.json, kind: offline}", "no such annotation file"),
        ("- {file: set.yaml, kind: offline}", "not a readable JSON"),
        ("- [", "not a readable YAML"),
    ],
)
def test_bad_registries_are_refused_in_one_line(tmp_path, vocabulary, text, message):
    (tmp_path / "set.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        training_set(tmp_path / "set.yaml", vocabulary)
    assert "\n" not in str(caught.value)


def test_the_kind_is_a_field_and_no_path_can_change_it(tmp_path):
    folder = tmp_path / "interrupt_gesture_audio_proactive"
    folder.mkdir()
    (folder / "set.yaml").write_text("- {file: gesture.json, kind: streaming, folders: videos}")
    source = read_registry(folder / "set.yaml")[0]
    record = source.record(GOOD, 0)
    assert record.kind == "streaming" and record.video == folder.resolve() / "videos/v.mp4"


def test_offline_pictures_and_sounds(registry, vocabulary):
    entry = {"image": ["wide.png", "square.png"], "audio": "speech.wav"}
    sample = {**entry, "conversations": [human("<image>\n<image>\nwhat"), gpt("a"), human("<audio>"), gpt("b")]}
    (registry.parent / "stills.json").write_text(json.dumps([sample]))
    stills = registry.with_name("stills.yaml")
    stills.write_text("- {file: stills.json, kind: offline}")
    built = training_set(stills, vocabulary)[0]
    # the wide one is two tiles and a thumbnail; one and a half seconds are padded to two
    assert built.images.shape[0] == 4 and built.sounds.shape[0] == 2
    assert np.abs(built.sounds[1][8001:]).max() == 0 and np.abs(built.sounds[1][:7000]).max() > 0.1
    assert len(training_set(stills, vocabulary, BuildOptions(tiles=False))[0].images) == 2
    refused = training_set(stills, vocabulary, BuildOptions(max_sound_file=1))
    assert refused[0] is None and "1 can be read" in refused.bad["stills.json#0"]


def test_frames_come_by_number_also_after_a_jump(tmp_path):
    path = write_clip(tmp_path / "long.mp4", seconds=6)
    video = VideoFile(path)
    assert len(video.times) == 60 and video.rate == pytest.approx(10)
    np.testing.assert_allclose(video.times, np.arange(60) / 10, atol=0.03)
    everything = dict(video.frames(range(60)))
    for wanted in ([0], [59], [3, 40, 41], [13, 13, 57]):
        found = dict(video.frames(wanted))
        assert sorted(found) == sorted(set(wanted))
        assert all(np.array_equal(found[number], everything[number]) for number in found)
    # the square of the clip moves a pixel a frame
    edges = [np.flatnonzero(everything[n][30, :, 0].astype(int) - everything[n][30, :, 2] > 90)[0] for n in (5, 25, 45)]
    assert edges == pytest.approx([5, 25, 45], abs=3)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"bf": "3", "g": "12"}),
        ("a.ts", "libx264", {"bf": "2", "g": "10"}),  # cannot be entered at its last key frame
        ("a.h264", "libx264", {"bf": "2"}),  # has no stamps
        ("a.avi", "mpeg4", {"bf": "2"}),
    ],
)
def test_any_container_gives_the_same_frames_in_any_order(tmp_path, name, codec, options):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        stream.bit_rate = 4_000_000  # little enough is lost that frames can be told apart
        for level in range(0, 240, 4):
            frame = av.VideoFrame.from_ndarray(np.full((72, 96, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = VideoFile(path)
    assert len(video.times) == 60
    for wanted in ([59], [3, 40, 41], [25, 26, 50], range(60)):
        found = dict(video.frames(wanted))
        assert [found[number].mean() for number in wanted] == pytest.approx([4 * n for n in wanted], abs=3)


def test_sound_is_mono_at_16_khz(tmp_path):
    write_wave(tmp_path / "a.wav", 2.0, rate=8000, channels=2)
    mean, left = read_sound(tmp_path / "a.wav"), read_sound(tmp_path / "a.wav", first_channel=True)
    assert mean.shape == left.shape == (32_000,) and mean.dtype == np.float32
    np.testing.assert_allclose(mean * 2, left, atol=1e-4)
    spectrum = np.abs(np.fft.rfft(left))
    assert spectrum.argmax() / 2.0 == pytest.approx(300, abs=1)


def test_a_track_that_cannot_be_decoded_is_refused_unless_published(tmp_path, registry, vocabulary, monkeypatch):
    def fail(path, first_channel=False):
        raise SampleError(MEDIA, "damaged")

    monkeypatch.setattr("vispeak_training.data.builder.read_sound", fail)
    name = "socialiq_2K.json#0"
    strict = training_set(registry, vocabulary)
    assert strict[strict.find(name)] is None
    lenient = training_set(registry, vocabulary, BuildOptions(shuffle=False, quirks=Quirks(silent_damage=True)))
    assert len(lenient[lenient.find(name)].sounds) == 0


@pytest.mark.parametrize("name", ["text.mp4", "empty.mp4", "folder.mp4"])
def test_what_is_no_medium_is_refused(tmp_path, name):
    (tmp_path / "text.mp4").write_text("hello " * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "folder.mp4").mkdir()
    for read in (VideoFile, read_sound, read_image):
        with pytest.raises(SampleError) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value) and caught.value.kind in (MEDIA, MISSING)


def test_packing_joins_neighbours_up_to_the_limit():
    assert group([3, 3, 3, 9, 1], range(5), most=6) == [[0, 1], [2], [3], [4]]
    entries = [{"conversations": [human(str(i)), gpt("a")], "image": [f"{i}.png"]} for i in range(9)]
    packed = pack(entries, [2.0] * 9, seed=1, most=8)
    assert [len(entry["conversations"]) for entry in packed] == [8, 8, 2]
    told = [turn["value"] for entry in packed for turn in entry["conversations"] if turn["from"] == "human"]
    assert sorted(told) == [str(i) for i in range(9)] != told  # all, and mixed
    assert [f"{text}.png" for text in told] == [name for entry in packed for name in entry["image"]]
    with pytest.raises(ValueError, match="video"):
        pack([{"video": "v", "conversations": []}], [1.0])


def test_the_histogram_counts_all():
    lines = histogram([10, 10, 20, 400])
    assert lines[0] == "positions: median 15, longest 400"
    assert sum(int(line.split("#")[0].split()[3]) for line in lines[1:]) == 4
    assert histogram([]) == ["no lengths"]


def test_a_table_holds_every_position_once(registry, vocabulary):
    samples = training_set(registry, vocabulary)
    sample = samples[samples.find("Anomaly_Warning_oops_train.json#0")]
    parts = runs(sample, vocabulary)
    assert [p for run in parts for p in range(run.first, run.last + 1)] == list(range(len(sample.user)))
    lines = table(sample, vocabulary, LABELS)
    assert sum("anomaly_warning" in line for line in lines) == 2
    assert any("☟" in line and "same" in line for line in lines)


@pytest.fixture
def run(tmp_path, vocabulary):
    """Runs a command over a checkpoint folder that has sizes and a tokenizer only."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_to_dict(toy_config())))
    vocabulary._tokenizer.save(str(folder / "tokenizer.json"))
    parser = argparse.ArgumentParser()
    commands.add_commands(parser.add_subparsers(required=True))

    def execute(*words):
        arguments = parser.parse_args([*map(str, words), "--model", str(folder)])
        return arguments.run(arguments)

    return execute


def test_check_says_all_is_well_and_draws(run, registry, tmp_path, capsys):
    assert run("check", registry, "--plot", tmp_path / "lengths.png") == 0
    assert "24 samples, 0 of them" in capsys.readouterr().out
    assert (tmp_path / "lengths.png").stat().st_size > 2000
    assert run("check", registry, "--max-length", 60) == 1
    assert "overlong (" in capsys.readouterr().out


def test_show_prints_and_draws_a_sample(run, registry, tmp_path, capsys):
    name = "interruption_text_training_data.json#0"
    assert run("show", registry, "--sample", name, "--plot", tmp_path / "sample.png") == 0
    out = capsys.readouterr().out
    assert "☜" in out and "☟" in out and "visual_interruption" in out
    assert (tmp_path / "sample.png").stat().st_size > 2000
    for words in (("--sample", "nothing#1"), ("--sample", 99)):
        with pytest.raises(ValueError, match=r"99: the registry has|no sample is called"):
            run("show", registry, *words)


def test_pack_writes_a_file_that_can_be_trained_on(run, registry, tmp_path, vocabulary, capsys):
    texts = registry.with_name("texts.yaml")
    texts.write_text("- {file: annotations/social_i_qa_merged_4k.json, kind: offline}")
    assert run("pack", texts, "--out", tmp_path / "packed") == 0
    assert "2 samples in 1, 0 left out" in capsys.readouterr().out
    packed = tmp_path / "packed.yaml"
    packed.write_text("- {file: packed/social_i_qa_merged_4k_packed.json, kind: offline}")
    joined, single = training_set(packed, vocabulary)[0], training_set(texts, vocabulary)
    assert len(joined.user) == len(single[0].user) + len(single[1].user) - 2  # one prompt and its marker
    with pytest.raises(ValueError, match="only offline"):
        run("pack", registry, "--out", tmp_path / "no")
