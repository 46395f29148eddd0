"""Snapshots: what is saved comes back, a damaged file is refused with a reason, and a kill leaves a whole file."""

import dataclasses
import json
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from tests.golden.models import random_model, vocabulary
from tests.runtime.test_session import image_event, make_event, model, summary
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import ReplyFinished, Score
from vispeak_node.runtime.session import Session
from vispeak_node.runtime.snapshot import (
    load_snapshot,
    model_fingerprint,
    restore_snapshot,
    save_snapshot,
    write_atomically,
)
from vispeak_node.stream.events import TextEvent, nanoseconds

__all__ = ["model"]  # the fixture
CONFIG = SessionConfig(
    threshold=0.6, max_positions=500, window_positions=60, reply_positions=40, max_reply_tokens=6, memory="pyramid"
)
ROOT = Path(__file__).parents[2]


def session_at(model, seconds, config=CONFIG):
    session = Session(model, vocabulary(), config)
    for second in range(seconds):
        session.push(image_event(second))
        if second % 10 == 9:
            session.push(TextEvent(nanoseconds(second + 0.5), "What is in the video?"))
    return session


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """A session and its snapshot."""
    path = tmp_path_factory.mktemp("snapshots") / "memory.safetensors"
    session = session_at(model, 40)
    save_snapshot(session, path)
    return session, path


def contents(session):
    memory = session.past.memory
    frames = {name: [(f.stamp, f.index, f.features_NF) for f in found] for name, found in memory.groups().items()}
    return frames, memory.origin, memory.num_offered, list(session.past.dialogue)


def test_what_was_saved_comes_back(model, saved):
    session, path = saved
    resumed = Session(model, vocabulary(), CONFIG)
    restore_snapshot(resumed, path)
    before, after = contents(session), contents(resumed)
    assert before[1:] == after[1:] and any(turn.is_reply for turn in after[3])
    assert before[0].keys() == after[0].keys()
    for name, frames in before[0].items():
        assert [f[:2] for f in frames] == [f[:2] for f in after[0][name]]
        assert all(torch.equal(a[2], b[2]) for a, b in zip(frames, after[0][name], strict=True))
    assert resumed.num_positions > 60
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path], "nothing else is left in the folder"


def test_the_context_is_that_of_the_last_frames(model, tmp_path):
    """Without talk in between, a resumed session scores as one that read just these frames."""
    quiet = dataclasses.replace(CONFIG, threshold=10.0)
    session = Session(model, vocabulary(), quiet)
    for second in range(40):
        session.push(image_event(second))
    save_snapshot(session, tmp_path / "s")
    resumed = Session(model, vocabulary(), quiet)
    restore_snapshot(resumed, tmp_path / "s")
    fresh = Session(model, vocabulary(), quiet)
    for frame in session.past.memory.recent():
        fresh.push(image_event(frame.stamp // 10**9))
    scores = [[o.score for o in one.push(image_event(40)) if isinstance(o, Score)] for one in (resumed, fresh, session)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert scores[0] == pytest.approx(scores[2], abs=0.05)


def test_a_resumed_session_goes_on(model, saved):
    _, path = saved
    resumed = Session(model, vocabulary(), CONFIG)
    restore_snapshot(resumed, path)
    newest = resumed.past.newest
    outputs = [o for second in range(40, 60) for o in resumed.push(image_event(second))]
    assert any(isinstance(o, Score) for o in outputs)
    assert resumed.past.newest > newest and resumed.past.memory.num_offered == 60


def test_a_clock_that_began_anew_is_taken_over(model, saved):
    _, path = saved
    resumed = Session(model, vocabulary(), CONFIG)
    restore_snapshot(resumed, path)
    for second in range(5):
        resumed.push(image_event(second))
    stamps = [f.stamp for f in resumed.past.memory.recent()]
    assert stamps == sorted(stamps) and stamps[-5:] == [nanoseconds(s) for s in range(5)]
    assert stamps[-6] < 0


def test_rebuilding_needs_no_file(model):
    """After a failure in the midst of a pass, the context is made from memory; the reply under way is cut."""
    session = session_at(model, 30, dataclasses.replace(CONFIG, speak_ahead=0))
    outputs = session.rebuild()
    assert all(o.interrupted for o in outputs if isinstance(o, ReplyFinished)) and not session.speaking
    assert session.num_positions > 60
    assert any(isinstance(o, Score) for o in session.push(image_event(31)))


@pytest.mark.parametrize("policy", ["none", "window"])
def test_every_policy_can_be_saved(model, tmp_path, policy):
    config = dataclasses.replace(CONFIG, memory=policy)
    session = session_at(model, 25, config)
    save_snapshot(session, tmp_path / "s")
    resumed = Session(model, vocabulary(), config)
    restore_snapshot(resumed, tmp_path / "s")
    assert contents(resumed)[3] == contents(session)[3] and resumed.num_positions > 40


def test_a_session_under_way_takes_up_nothing(model, saved):
    session, path = saved
    with pytest.raises(ValueError, match="before the first push"):
        restore_snapshot(session, path)


def refused(model, data, path, match, config=CONFIG):
    path.write_bytes(data)
    session = Session(model, vocabulary(), config)
    with pytest.raises(ValueError, match=match) as caught:
        restore_snapshot(session, path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert session.num_positions == 0 and not session.past.memory.groups()["recent"] and not len(session.past.dialogue)


def test_other_models_settings_and_versions_are_refused(model, saved, tmp_path):
    data = saved[1].read_bytes()
    refused(random_model(7), data, tmp_path / "s", "another model")
    refused(model.__class__(model.config).eval(), data, tmp_path / "s", "another model")
    small = dataclasses.replace(CONFIG, window_positions=40)
    refused(model, data, tmp_path / "s", "use the memory settings", small)
    window = dataclasses.replace(CONFIG, memory="window")
    refused(model, data, tmp_path / "s", "memory", window)
    refused(model, data.replace(b'\\"version\\": 1', b'\\"version\\": 2'), tmp_path / "s", "version 2")
    refused(model, data.replace(b"vispeak-snapshot", b"vispeak-snapshit"), tmp_path / "s", "not a snapshot")
    refused(model, b"", tmp_path / "s", "header")
    refused(model, b"\xff" * 4096, tmp_path / "s", "header")
    refused(model, data + b"0", tmp_path / "s", "cut short")
    with pytest.raises(ValueError, match="no such file"):
        restore_snapshot(Session(model, vocabulary(), CONFIG), tmp_path / "nothing")


def test_a_file_that_is_too_large_is_not_read(model, tmp_path):
    path = tmp_path / "s"
    with path.open("wb") as file:
        file.truncate(2**34)  # sparse
    with pytest.raises(ValueError, match="can hold"):
        load_snapshot(Session(model, vocabulary(), CONFIG), path)


def test_a_header_that_promises_too_much_is_refused_before_anything_is_made(model, tmp_path):
    state = json.dumps({"format": "vispeak-snapshot", "version": 1})
    entry = {"dtype": "F32", "shape": [2**40, 4, 64], "data_offsets": [0, 0]}
    header = json.dumps({"__metadata__": {"vispeak": state}, "frames/recent": entry}).encode()
    refused(model, len(header).to_bytes(8, "little") + header, tmp_path / "s", "holds at most")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_noticed(model, saved, tmp_path, data):
    """One bit turned anywhere, or the end cut off anywhere."""
    whole = saved[1].read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        broken = whole[:place]
    else:
        broken = whole[:place] + bytes([whole[place] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[place + 1 :]
    path = tmp_path / "s"
    path.write_bytes(broken)
    session = Session(model, vocabulary(), CONFIG)
    try:
        found = load_snapshot(session, path)
    except ValueError:
        return
    # the one harmless change is to white space or spelling in the header that means the same
    frames, origin, num_offered, turns = contents(saved[0])
    assert (found.origin, found.num_offered, found.turns) == (origin, num_offered, turns)
    for name, wanted in frames.items():
        assert [(f.stamp, f.index) for f in found.groups.get(name, [])] == [f[:2] for f in wanted]
        assert all(torch.equal(a.features_NF, b[2]) for a, b in zip(found.groups.get(name, []), wanted, strict=True))


def test_a_save_that_fails_leaves_the_old_file(model, saved, tmp_path, monkeypatch):
    path = tmp_path / "s"
    path.write_bytes(b"old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match="No space left"):
        save_snapshot(saved[0], path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="cannot be written"):
        save_snapshot(saved[0], tmp_path / "no" / "folder" / "s")


def test_the_file_is_plain_safetensors(saved):
    with safe_open(saved[1], framework="pt") as file:
        assert all(name.startswith("frames/") for name in file.keys())  # noqa: SIM118 - it is no dictionary
        state = json.loads(file.metadata()["vispeak"])
    assert state["model"] == model_fingerprint(saved[0].model)


# saves in a loop, in a child that is killed; the parent then loads, and counts what it found
KILLER = """
    import os, random, signal, sys, time
    from pathlib import Path
    import torch
    from safetensors.torch import load
    from vispeak_node.runtime.memory.frame import Frame
    from vispeak_node.runtime.snapshot import Snapshot, _checked_header, _digest, to_bytes, write_atomically

    path, rounds, dice = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    frames = [[Frame(n, n, torch.full((16, 512), float(n)))] * 20 for n in range(2)]
    files = [to_bytes(Snapshot({"recent": frames[n]}, n, n, []), "m", "window") for n in range(2)]
    write_atomically(path, files[0])
    seen, torn, number = set(), 0, 0
    partial = path.with_name(f".{path.name}.partial")
    while number < rounds or (not torn and number < 1000):
        number += 1
        child = os.fork()
        if child == 0:
            while True:
                for data in files:
                    write_atomically(path, data)
        begun = time.monotonic() + 20
        while not partial.exists():  # a save is under way
            assert time.monotonic() < begun, "the child saves nothing"
        time.sleep(dice.choice([0.0, 0.0005, 0.003]))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if partial.exists():
            torn += 1
            partial.unlink()
        data = path.read_bytes()
        state = _checked_header(data, {"frames/recent": (20, 16, 512)})
        assert state["digest"] == _digest(state, load(data)), "a broken file"
        seen.add(state["origin"])
    print(len(seen), torn)
"""


def kill_rounds(path, rounds, seed):
    script = textwrap.dedent(KILLER)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(rounds), str(seed)],
        capture_output=True, text=True, env=environment, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_kill_9_during_saves_leaves_a_whole_file(tmp_path):
    seen, torn = kill_rounds(tmp_path / "memory.safetensors", 12, 0)
    assert seen >= 1 and torn >= 1, "some kills must come in the midst of a save"


@pytest.mark.slow
def test_kill_9_fifty_times(tmp_path):
    seen, torn = kill_rounds(tmp_path / "memory.safetensors", 50, 1)
    assert seen >= 1 and torn >= 1


def test_leftovers_of_a_killed_save_are_written_over(tmp_path):
    path = tmp_path / "s"
    (tmp_path / ".s.partial").write_bytes(b"half")
    write_atomically(path, b"whole")
    assert path.read_bytes() == b"whole" and list(tmp_path.iterdir()) == [path]


def test_saving_and_resuming_takes_nothing_from_the_stream(model, tmp_path):
    """A session that saves itself on the way says what one says that does not."""
    events = [make_event(kind, second) for second, kind in enumerate(["image", "sound", "image", "text", "image"] * 4)]
    plain, saving = (Session(model, vocabulary(), CONFIG) for _ in range(2))
    outputs = ([], [])
    for event in events:
        outputs[0].extend(plain.push(event))
        outputs[1].extend(saving.push(event))
        save_snapshot(saving, tmp_path / "s")
    assert summary(outputs[0]) == summary(outputs[1])
