"""Runs: a past with an earlier reply, a run that is stopped half-way, and a checkpoint from end to end."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import write_clip
from tests.golden.models import random_model, vocabulary
from tests.training.bench_items import TASK, entry, write_annotations
from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.prompts import SYSTEM_PROMPTS
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import ReplyFinished, Score
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import ImageEvent, TextEvent, nanoseconds, seconds
from vispeak_training.bench.annotations import Item, Turn, read_annotations
from vispeak_training.bench.answerer import AnswerConfig, SessionAnswerer
from vispeak_training.bench.cli import main
from vispeak_training.bench.frames import Clip, open_clip, read_frames
from vispeak_training.bench.history import image_rows, prefill_with_reply, prompt_rows, reply_ids, text_rows
from vispeak_training.bench.record import Record, RecordLog, items_file, published_file, read_records
from vispeak_training.bench.run import Run, run_task
from vispeak_training.bench.tasks import TASKS, find_tasks

TINY = Path(__file__).parent.parent.parent / "models/vispeak-tiny"


# --- a past in which the assistant spoke


def test_earlier_reply_stands_beside_the_question_and_what_follows():
    model, words = random_model(), vocabulary()
    image = np.full((60, 60, 3), 90, np.uint8)
    events = [ImageEvent(0, image, 0), TextEvent(1, "What is this?"), ImageEvent(nanoseconds(1), image, nanoseconds(1))]
    position = prompt_rows(words, "vispeak") + image_rows(model.config) + text_rows(words, "What is this?")
    ids = reply_ids(words, "It is a person. " * 20)  # longer than the past: cut
    session = Session(
        model, words, SessionConfig(speak_ahead=0, first_score_is_zero=False, recognition="never", threshold=9.0)
    )
    outputs = prefill_with_reply(session, events, position, ids)
    (score,) = [output for output in outputs if isinstance(output, Score)]

    encoder = session._encoder
    segments = [encoder.prompt(SYSTEM_PROMPTS["vispeak"], 0), *(encoder.segment(event) for event in events)]
    user = torch.cat([segment.user_TD for segment in segments])
    agent = [words.pad] * len(user)
    agent[position:] = ids[: len(user) - position]
    assert len(ids) > len(user) - position > 1
    hidden = model.forward_embeds(model.combine(encoder.embed(agent), user)[None])[0]
    assert score.score == pytest.approx(float(model.informative(hidden[-2]).sigmoid()), abs=1e-5)

    # and silence follows: the next frame's score depends on every position before
    later = ImageEvent(nanoseconds(2), image, nanoseconds(2))
    (following,) = [output for output in session.push(later) if isinstance(output, Score)]
    user = torch.cat([user, encoder.segment(later).user_TD])
    agent += [words.pad] * (len(user) - len(agent))
    hidden = model.forward_embeds(model.combine(encoder.embed(agent), user)[None])[0]
    assert following.score == pytest.approx(float(model.informative(hidden[-2]).sigmoid()), abs=1e-6)

    silent = Session(model, words, session.config)
    (unspoken,) = [output for output in silent.prefill(events) if isinstance(output, Score)]
    assert abs(unspoken.score - score.score) > 1e-5  # else this test would show nothing


@pytest.mark.parametrize(("code", "earlier", "start", "asked"), [("vi", "w " * 300, 3, 2), ("vw", "", 0, None)])
def test_where_the_model_may_first_speak(code, earlier, start, asked):
    answerer = SessionAnswerer(random_model(), vocabulary())
    question = None if asked is None else Turn("Hm?", 1.5)
    item = Item(TASK[code], "v", question=question, earlier=Turn(earlier, 1.6) if earlier else None)
    slots = answerer.slots(item, Clip(Path("v"), tuple(range(0, 60, 10)), 10.0))
    assert [slot.text for slot in slots].count("Hm?") == (asked is not None)
    first, position = answerer.start(item, slots)
    assert first == start
    if asked is not None:
        assert position == prompt_rows(vocabulary(), "vispeak") + sum(slot.rows for slot in slots[: asked + 1])


@pytest.mark.parametrize("code", ["vt", "gu"])
@pytest.mark.parametrize("count", [1, 40])
def test_the_start_comes_after_the_earlier_reply(code, count):
    answerer = SessionAnswerer(random_model(), vocabulary())
    item = Item(TASK[code], "v", question=Turn("Hm?", 0.0), earlier=Turn("w " * count, 0.1))
    slots = answerer.slots(item, Clip(Path("v"), tuple(range(0, 200, 10)), 10.0))
    first, position = answerer.start(item, slots)
    said = position + len(reply_ids(vocabulary(), item.earlier.text))
    ends = prompt_rows(vocabulary(), "vispeak") + np.cumsum([slot.rows for slot in slots])
    assert ends[first] > said >= ends[first - 1]


# --- runs that are stopped


def answer_by_name(item: Item, video: Path) -> Record:
    index = int(item.video)
    return Record(item.video, f"line\n{index} ☜" if index % 3 else "", index + 0.5 if index % 3 else None, 9.0)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> tuple[list[Item], Path, bytes, bytes]:
    """Items, their videos, and both result files of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("bench")
    items = [Item(TASK["vw"], str(index), span=(1.0, 3.0)) for index in range(7)]
    for item in items:
        (folder / item.video).touch()
    run_task(TASK["vw"], items, answer_by_name, Run(folder, folder))
    files = items_file(folder, TASK["vw"]), published_file(folder, TASK["vw"])
    return items, folder, *(path.read_bytes() for path in files)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_run_killed_at_any_byte_goes_on(whole_run, tmp_path_factory, data):
    items, videos, log, published = whole_run
    out = tmp_path_factory.mktemp("out")
    cut = data.draw(st.integers(0, len(log)))
    items_file(out, TASK["vw"]).write_bytes(log[:cut])
    finished, asked = log[:cut].count(b"\n"), []

    def answer(item: Item, video: Path) -> Record:
        asked.append(item.video)
        return answer_by_name(item, video)

    run_task(TASK["vw"], items, answer, Run(videos, out))
    assert asked == [item.video for item in items[finished:]]
    assert items_file(out, TASK["vw"]).read_bytes() == log
    assert published_file(out, TASK["vw"]).read_bytes() == published


def test_an_error_keeps_what_is_finished_and_publishes_nothing(whole_run, tmp_path):
    items, videos, log, _ = whole_run

    def answer(item: Item, video: Path) -> Record:
        if item.video == "4":
            raise KeyboardInterrupt
        return answer_by_name(item, video)

    with pytest.raises(KeyboardInterrupt):
        run_task(TASK["vw"], items, answer, Run(videos, tmp_path))
    assert items_file(tmp_path, TASK["vw"]).read_bytes() == b"".join(log.splitlines(keepends=True)[:4])
    assert not published_file(tmp_path, TASK["vw"]).exists()


def test_published_shape_is_written_and_read(whole_run, tmp_path):
    _, _, _, published = whole_run
    rows = json.loads(published)
    assert rows[0] == {"0": ["", 9.0]} and rows[1] == {"1": ["line\n1 ☜", 1.5]}
    published_file(tmp_path, TASK["vw"]).write_bytes(published)
    found = read_records(tmp_path, TASK["vw"])
    assert found["0"].silent and found["0"].published_time == 9.0 and found["1"].time == 1.5
    # of the protocol for offline models: no reply is null, and the dialogue comes third
    published_file(tmp_path, TASK["vw"]).write_text('[{"a": [null, 7, "dialogue"]}]')
    assert read_records(tmp_path, TASK["vw"])["a"].silent
    published_file(tmp_path, TASK["vw"]).write_text('[{"a": ["x", "soon"]}]')
    with pytest.raises(ValueError, match="must be a list"):
        read_records(tmp_path, TASK["vw"])


def test_log_is_one_writers_and_says_when_it_is_damaged(tmp_path):
    path = tmp_path / "log.jsonl"
    with RecordLog(path) as log:
        log.append(Record("a", "b", 1.0))
        with pytest.raises(ValueError, match="another process"), RecordLog(path):
            pass
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(ValueError, match="line 2"), RecordLog(path):
        pass


def test_missing_videos_stop_the_run_or_are_left_out(whole_run, tmp_path):
    items, videos, *_ = whole_run
    more = [*items, Item(TASK["vw"], "99", span=(1.0, 3.0))]
    with pytest.raises(ValueError, match="1 of 8 videos missing, first 99"):
        run_task(TASK["vw"], more, answer_by_name, Run(videos, tmp_path))
    assert len(run_task(TASK["vw"], more, answer_by_name, Run(videos, tmp_path, skip_missing=True))) == 7


# --- from end to end


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Path:
    """Two clips and their annotations: a greeting with a question before it, and one in which nothing happens."""
    folder = tmp_path_factory.mktemp("split")
    write_clip(folder / "a.mp4", seconds=6)
    write_clip(folder / "b.mp4", seconds=5, sound=False)
    idle = {"video": "b.mp4", "proactive": True, "conversations": [], "distractor": True}
    write_annotations(folder / "notes", "vw", [entry("vw", video="a.mp4", words=["hello"]), idle])
    write_annotations(folder / "notes", "gu", [entry("gu", video="a.mp4")])
    write_annotations(folder / "notes", "vr", [entry("vr", video="a.mp4")])
    return folder


def bench(split: Path, out: Path, *more: object) -> int:
    words = ["vispeak", "--model", TINY, "--annotations", split / "notes", "--videos", split, "--out", out, *more]
    return main([str(word) for word in words])


def test_a_checkpoint_takes_the_benchmark(split, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", None)
    out = tmp_path / "out"
    assert bench(split, out, "--judge", "rubric", "--threshold", 1e-6, "--plot", tmp_path / "bars.png") == 0
    printed = capsys.readouterr().out
    assert printed == (out / "scores.md").read_text() and "never speaks" in printed and "false triggers" in printed
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
    scores = json.loads((out / "scores.json").read_text())
    assert set(scores["tasks"]) == {"vw", "gu", "vr"} and scores["model"] == "vispeak-tiny"
    # with so low a threshold the second frame fires in every clip, whatever the model then finds to say
    rows = json.loads((out / "Visual_Wake-Up_output.json").read_text())
    text, _ = rows[0]["a.mp4"]
    assert [time for row in rows for _, time in row.values()] == [1, 1]
    found = scores["tasks"]["vw"]
    assert found["legacy"]["time_accuracy"] == 1 and found["strict"]["time_accuracy"] == bool(text.strip())
    assert found["run"] == 1 and found["false_triggers"] >= 1
    assert scores["tasks"]["vw"]["baselines"]["always_start_plus_1"] == 1
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert bench(split, out, "--judge", "rubric", "--threshold", 1e-6) == 0  # nothing left to do
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    assert (
        main(["score", str(out), "--annotations", str(split / "notes"), "--judge", "rubric", "--name", "vispeak-tiny"])
        == 0
    )
    assert (out / "scores.md").read_bytes() == before["scores.md"]
    capsys.readouterr()
    assert bench(split, out, "--threshold", 0.5) == 2
    assert "other threshold" in capsys.readouterr().err


def test_a_timed_item_is_what_a_plain_session_does(split):
    model, words = load_model(TINY), Vocabulary.from_folder(TINY)
    item = read_annotations(split / "notes", TASK["vw"])[0]
    for threshold in (1e-6, 1e9):
        record = SessionAnswerer(model, words, AnswerConfig(threshold))(item, split / "a.mp4")
        chosen = open_clip(split / "a.mp4", item.start, item.end)
        session = Session(
            model,
            words,
            SessionConfig(
                threshold=threshold, refractory=0, speak_ahead=0, visual_interruption=False, max_reply_tokens=2048
            ),
        )
        outputs = []
        for time, frame in zip(chosen.times, read_frames(chosen), strict=True):
            outputs += session.push(ImageEvent(nanoseconds(time), frame, nanoseconds(time)))
        outputs += session.finish()
        replies = [output for output in outputs if isinstance(output, ReplyFinished)]
        assert record.silent_time == chosen.times[-1] == 5.0
        if threshold > 1:
            assert not replies and record.silent and record.time is None
        else:
            assert (record.text, record.time) == (replies[0].text, seconds(replies[0].start))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "xx"], "task 'xx' is unknown; use aw, vi, hr"),
        (["--tasks", "aw"], "no Anomaly_Warning.json"),
        (["--judge", "openai"], "VISPEAK_JUDGE_URL is not set"),
        (["--videos", "/nowhere"], "2 of 2 videos missing"),
        (["--plot", "bars.txt"], "ends in .png"),
        (["--device", "nonsense"], "device nonsense is unknown; use cpu, cuda"),
    ],
)
def test_bad_input_is_one_line(split, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.delenv("VISPEAK_JUDGE_URL", raising=False)
    assert bench(split, tmp_path / "out", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vispeak-bench: ") and message in line
    assert not (tmp_path / "out").exists()


def test_tasks_are_the_seven_subtasks():
    from vispeak_node.model.subtasks import SUBTASKS

    assert {task.subtask for task in TASKS} == set(SUBTASKS)
    assert find_tasks(["vr", "aw", "aw"]) == [TASK["aw"], TASK["vr"]]
