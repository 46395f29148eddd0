"""What the theatre renders and writes: repeatable pictures, whole files, clear refusals."""

from __future__ import annotations

import io
import json
import subprocess
import wave

import numpy as np
import pytest

from vispeak_training.bench.annotations import read_annotations
from vispeak_training.bench.tasks import TASKS
from vispeak_training.theatre import cli, dataset, room, speech
from vispeak_training.theatre.acts import ACTS, BY_SUBTASK, EVENTS, REFERENCES
from vispeak_training.theatre.annotation import FILES
from vispeak_training.theatre.scene import FINGERTIPS, KEYPOINTS, render_backend_error
from vispeak_training.theatre.script import DISTRACTORS

NO_GL = render_backend_error()
needs_gl = pytest.mark.skipif(NO_GL is not None, reason=f"nothing can be rendered here: {NO_GL}")


# --- pictures ------------------------------------------------------------------------------------------------------


@needs_gl
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = (dataset.sample_clip(seed, 48) for seed in (7, 7, 8))
    for name in ("frames", "labels", "times", "keypoints", "fingertips"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert first.note == again.note != other.note
    count = len(first.times)
    assert first.frames.shape == (count, 48, 48, 3) and first.frames.std() > 5
    assert first.keypoints.shape == (count, len(KEYPOINTS), 2)
    assert first.fingertips.shape == (count, len(FINGERTIPS), 2)


@needs_gl
@pytest.mark.parametrize("held_out", [False, True])
def test_labels_agree_with_the_note_and_no_event_leaves_the_picture(held_out):
    seen = set()
    with dataset.Stage(48, 48) as stage:
        for seed in range(30):
            clip = dataset._clip(seed, dataset.ClipJob((seed,), 32, held_out), stage)
            for index, label in enumerate(clip.labels):
                act = ACTS[label] if label != dataset.UNSETTLED else None
                events = [event for event in clip.note["events"] if event["act"] == act]
                if not events:
                    assert act not in (*EVENTS, *REFERENCES)
                    continue
                seen.add(act)
                assert any(e["timespan"][0] - 0.1 <= clip.times[index] <= e["timespan"][1] for e in events)
                inside = ((clip.keypoints[index] > 0) & (clip.keypoints[index] < 32)).all(-1)
                assert inside[0] or inside[1:3].any() or inside.sum() >= 4, (seed, act)
    assert len(seen) > 8


@needs_gl
def test_sampled_files_are_whole_and_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "_AT_ONCE", 2)
    made = []
    render = dataset._render_job
    monkeypatch.setattr(dataset, "_render_job", lambda job: made.append(job.seeds) or render(job))
    path = dataset.render_dataset(2, 32, tmp_path, processes=1, subtask=DISTRACTORS, duration=3.0)
    assert path.name == "train-distractors.npz" and [file.name for file in tmp_path.iterdir()] == [path.name]
    clips = dataset.read_dataset(path)
    assert len(clips) == 2 and all(clip.note["subtask"] == DISTRACTORS for clip in clips)
    fresh = render(dataset.ClipJob((0,), 32, subtask=DISTRACTORS, duration=3.0))[0]
    assert np.array_equal(fresh.frames, clips[0].frames) and fresh.note == clips[0].note

    def fail(job):
        raise KeyboardInterrupt if job.seeds[0] else ValueError("never")

    frames = dataset.ClipJob((0, 1), 32, single=8)
    parts = tmp_path / "frames.parts"
    parts.mkdir()
    dataset._write_job((frames, parts / f"0-1-{dataset._key(frames)}.npz"))
    monkeypatch.setattr(dataset, "_render_job", fail)  # an interruption at the second batch
    with pytest.raises(KeyboardInterrupt):
        dataset.render_frames(4, 32, tmp_path, processes=1)
    monkeypatch.setattr(dataset, "_render_job", lambda job: made.append(job.seeds) or render(job))
    rooms = dataset.read_dataset(dataset.render_frames(4, 32, tmp_path, processes=1))
    assert made == [(0, 1), (0, 1), (2, 3)] and len(rooms) == 4 and all(len(clip.labels) == 8 for clip in rooms)


@needs_gl
def test_a_collection_has_the_published_files_and_is_resumed(tmp_path):
    from vispeak_node.stream.files import probe
    from vispeak_training.theatre.collection import CollectionConfig, render_collection

    config = CollectionConfig(7, held_out=True, minutes=1, width=48, height=48, frames_per_second=1, processes=1)
    files = render_collection(tmp_path, config)
    assert [file.stem for file in files] == [FILES[name] for name in BY_SUBTASK]
    # the benchmark takes them as it takes the published ones
    items = [item for task in TASKS for item in read_annotations(tmp_path, task)]
    assert [item.task.code for item in items] == ["aw", "aw", "vi", "hr", "vw", "vt", "gu", "vr"]
    assert [item.distractor for item in items] == [False, True, *[False] * 6]
    assert all(item.replies for item in items if not item.distractor)
    videos = sorted(tmp_path.rglob("*.mp4"))
    written = [video.stat().st_mtime_ns for video in videos]
    for file in files:
        item = json.loads(file.read_text())[0]
        info = probe(tmp_path / item["video"])
        assert info.has_video and info.has_sound and info.duration == pytest.approx(item["video_len"], abs=1.1)
    render_collection(tmp_path, config)
    assert [video.stat().st_mtime_ns for video in videos] == written


@needs_gl
def test_photographs_stand_behind_people_right_side_up(tmp_path):
    from PIL import Image

    from vispeak_training.theatre.scene import Scene, Stage

    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:30, :, 0] = pixels[30:, :, 2] = 255  # red above, blue below
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photos = room.photographs(tmp_path)
    with Stage(64, 64) as stage:
        for seed in range(20):
            scene = Scene(stage, np.random.default_rng(seed), framing="full", clean=True, photos=photos)
            picture = scene.picture({"z": -9.0}).astype(int)  # nobody there
            scene.close()
            red = picture[..., 0] - picture[..., 2] > 90
            if red[:20].mean() > 0.5:
                assert red[-20:].mean() < 0.2
                return
    raise AssertionError("no photograph was used")


@needs_gl
def test_a_broken_photograph_is_named(tmp_path):
    from vispeak_training.theatre.scene import Scene, Stage

    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    with Stage(32, 32) as stage, pytest.raises(ValueError, match=r"bad\.jpg"):
        for seed in range(20):
            Scene(stage, np.random.default_rng(seed), photos=room.photographs(tmp_path)).close()


@needs_gl
def test_a_sheet_has_a_row_for_every_act(tmp_path):
    from PIL import Image

    from vispeak_training.theatre.sheet import render_sheet

    with Image.open(render_sheet(tmp_path / "a.png", acts=("wave", "sit"), frames=2, size=32)) as sheet:
        assert sheet.size == (2 * (150 + 2 * 34), 34)


# --- sound and commands --------------------------------------------------------------------------------------------


def test_speech_is_brought_to_16_khz(monkeypatch):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes((3000 * np.sin(np.arange(22050) / 20)).astype(np.int16).tobytes())
    done = subprocess.CompletedProcess([], 0, buffer.getvalue(), b"")
    monkeypatch.setattr(speech.shutil, "which", lambda name: name)
    monkeypatch.setattr(speech.subprocess, "run", lambda *args, **more: done)
    samples = speech.speak("Hello", np.random.default_rng(0))
    assert samples.dtype == np.float32 and len(samples) == pytest.approx(16000, abs=20)
    assert np.abs(samples).max() == pytest.approx(0.6, abs=0.05)


def test_speech_without_the_program_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(speech.shutil, "which", lambda name: None)
    monkeypatch.setattr(cli, "render_backend_error", lambda: None)
    assert cli.main(["render", "--out", str(tmp_path / "a.mp4"), "--speech"]) == 2
    assert "espeak-ng" in capsys.readouterr().err
    assert cli.main(["dataset", "--out", str(tmp_path / "d"), "--speech", "--count", "1"]) == 2
    assert "espeak-ng" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["render", "--out", "a.avi"], "must end in .mp4"),
        (["render", "--out", "a.mp4", "--act", "juggle:3"], "unknown act"),
        (["render", "--out", "a.mp4", "--act", "wave:x"], "NAME:SECONDS"),
        (["render", "--out", "a.mp4", "--size", "33x32"], "even"),
        (["render", "--out", "a.mp4", "--photos", "nowhere"], "no photographs"),
        (["dataset", "--out", "d", "--count", "-1"], "--count"),
        (["dataset", "--out", "d", "--fps", "0"], "--fps"),
        (["dataset", "--out", "d", "--processes", "0"], "--processes"),
        (["frames", "--out", "d", "--count", "0"], "--count"),
        (["frames", "--out", "d", "--seconds", "2"], "--seconds"),
        (["frames", "--out", "d", "--photos", "nowhere"], "no photographs"),
        (["sheet", "--out", "a.png", "--size", "9999"], "--size"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(arguments, words, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
