"""The command line: what it prints, and what it says to bad input: one line on stderr and exit code 2."""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vispeak_node.cli import COMMANDS, main
from vispeak_node.commands.plot import Said, Timeline, draw
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.settings import add_config_flags, config_from_args, default_model_dir, field_comments


def refuse(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """Runs a command line that must fail; returns its one line."""
    assert main([str(word) for word in argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("vispeak: ")
    return line


def run(*argv: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vispeak_node", *(str(word) for word in argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


# --- the command itself


def test_help_names_every_command_and_imports_no_torch() -> None:
    script = (
        "import sys; from vispeak_node.cli import main\n"
        "try: main(['--help'])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["watch"], ["watch", "--nonsense"], ["checkpoint"]])
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert "--help" in refuse(capsys, *argv)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    assert name in capsys.readouterr().out


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(_: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("vispeak_node.commands.checkpoint.run", interrupted)
    assert main(["checkpoint", str(tmp_path)]) == 130


def test_a_closed_pipe_is_no_traceback(model_folder: Path) -> None:
    command = f"{sys.executable} -m vispeak_node checkpoint {model_folder} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


# --- bad files


def test_missing_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "none.mp4" in refuse(capsys, "watch", tmp_path / "none.mp4")


def test_folder_instead_of_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert str(tmp_path) in refuse(capsys, "watch", tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"this is a text, not a video\n" * 50, bytes(range(256)) * 40], ids=["empty", "text", "noise"]
)
def test_no_video(capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    assert "bad.mp4" in refuse(capsys, "watch", path)


def test_truncated_video(capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    assert "cut.mp4" in refuse(capsys, "watch", path)


# --- bad arguments


@pytest.mark.parametrize("ask", ["what?", "3.2", "3.2:", "x:what?", "-1:what?", "nan:what?", "inf:what?", ":what?"])
def test_bad_question(capsys: pytest.CaptureFixture[str], clip: Path, ask: str) -> None:
    assert "--ask" in refuse(capsys, "watch", clip, f"--ask={ask}")


def test_question_after_the_end(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    assert "ends at 4.0 s" in refuse(capsys, "watch", clip, "--ask", "99:still there?")


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--threshold", "high"), ("--threshold", "-1"), ("--window", "0"), ("--device", "toaster"), ("--dtype", "int3")],
)
def test_bad_setting(capsys: pytest.CaptureFixture[str], clip: Path, flag: str, value: str) -> None:
    assert flag.strip("-") in refuse(capsys, "watch", clip, flag, value)


@pytest.mark.parametrize("plot", ["nowhere/out.png", "out.docx"])
def test_bad_plot(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, plot: str) -> None:
    refuse(capsys, "watch", clip, "--plot", tmp_path / plot)


def test_plot_without_matplotlib(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "vispeak_node[plot]" in refuse(capsys, "watch", clip, "--plot", tmp_path / "out.png")


@pytest.mark.parametrize("command", ["checkpoint", "watch"])
def test_no_checkpoint(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, command: str) -> None:
    argv = ["checkpoint", tmp_path] if command == "checkpoint" else ["watch", clip, "--model", tmp_path]
    assert "config.json" in refuse(capsys, *argv)


# --- bad checkpoints


@pytest.fixture
def damaged(tmp_path: Path, model_folder: Path) -> Path:
    """A copy of a checkpoint that works, for a test to break."""
    return Path(shutil.copytree(model_folder, tmp_path / "damaged"))


def refuse_checkpoint(capsys: pytest.CaptureFixture[str], clip: Path, folder: Path, word: str) -> None:
    assert word in refuse(capsys, "checkpoint", folder)
    assert word in refuse(capsys, "watch", clip, "--model", folder)


def test_truncated_shard(capsys: pytest.CaptureFixture[str], clip: Path, damaged: Path) -> None:
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    refuse_checkpoint(capsys, clip, damaged, "truncated")


@pytest.mark.parametrize(("key", "value"), [("combination", "magic"), ("hidden_size", "wide"), ("model_type", "bert")])
def test_unknown_config_value(
    capsys: pytest.CaptureFixture[str], clip: Path, damaged: Path, key: str, value: str
) -> None:
    config = json.loads((damaged / "config.json").read_text())
    config[key] = value
    if key == "model_type":
        config["architectures"] = ["BertModel"]
    (damaged / "config.json").write_text(json.dumps(config))
    refuse_checkpoint(capsys, clip, damaged, value)


def test_pickle_instead_of_safetensors(capsys: pytest.CaptureFixture[str], clip: Path, damaged: Path) -> None:
    (damaged / "model.safetensors").unlink()
    (damaged / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    refuse_checkpoint(capsys, clip, damaged, "--convert")


def test_pickle_named_safetensors(capsys: pytest.CaptureFixture[str], clip: Path, damaged: Path) -> None:
    (damaged / "model.safetensors").write_bytes(pickle.dumps({"weight": [1, 2, 3]}))
    refuse_checkpoint(capsys, clip, damaged, "model.safetensors")


def test_convert_refuses_code_and_takes_tensors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, target = tmp_path / "final.pt", tmp_path / "final.safetensors"
    source.write_bytes(pickle.dumps(print))
    assert "final.pt" in refuse(capsys, "checkpoint", "--convert", source, target)
    assert not target.exists()
    torch.save({"weight": torch.ones(2)}, source)
    assert main(["checkpoint", "--convert", str(source), str(target)]) == 0
    assert "1 tensors" in capsys.readouterr().out


# --- settings


def test_flags_follow_the_config() -> None:
    parser = argparse.ArgumentParser()
    add_config_flags(parser, SessionConfig)
    assert config_from_args(SessionConfig, parser.parse_args([])) == SessionConfig()
    args = parser.parse_args(["--threshold", "0.5", "--no-proactive", "--score-events", "all"])
    assert config_from_args(SessionConfig, args) == SessionConfig(threshold=0.5, proactive=False, score_events="all")


def test_every_setting_is_described() -> None:
    assert field_comments(SessionConfig).keys() == SessionConfig.__dataclass_fields__.keys()
    parser = argparse.ArgumentParser()
    add_config_flags(parser, SessionConfig)
    assert "one score is not counted" in " ".join(parser.format_help().split())


# --- good input

TALKATIVE = ("--threshold", "0.2", "--refractory", "0", "--max-reply-tokens", "8")  # random weights score about 0.5


def test_checkpoint_accounts_for_the_shipped_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", str(default_model_dir())]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the model can run"


def test_watch_prints_nothing_but_replies(clip: Path, model_folder: Path) -> None:
    done = run("watch", clip, "--model", model_folder, *TALKATIVE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar where there is no terminal
    assert done.stdout
    for line in done.stdout.splitlines():
        time, _ = line.split("  ", 1)
        assert 0 <= float(time) <= 5


def test_watch_json_tells_everything(capsys: pytest.CaptureFixture[str], clip: Path, model_folder: Path) -> None:
    assert main(["watch", str(clip), "--model", str(model_folder), "--json", "--ask", "2:What?", *TALKATIVE]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    times = [line["time"] for line in lines if line["event"] == "score"]
    assert len(times) >= 4
    assert times == sorted(times)
    started = [line["reply_id"] for line in lines if line["event"] == "reply_started"]
    finished = [line for line in lines if line["event"] == "reply_finished"]
    assert started
    assert started == [line["reply_id"] for line in finished]
    for reply in finished:
        pieces = [line["text"] for line in lines if line["event"] == "text" and line["reply_id"] == reply["reply_id"]]
        assert "".join(pieces) == reply["text"]


def test_watch_draws(clip: Path, model_folder: Path, tmp_path: Path) -> None:
    argv = ["watch", str(clip), "--model", str(model_folder), "--plot", str(tmp_path / "out.png"), *TALKATIVE]
    assert main(argv) == 0
    assert np.asarray(Image.open(tmp_path / "out.png").convert("L")).std() > 5


@pytest.mark.parametrize("full", [False, True])
def test_a_timeline_draws_empty_and_crowded(tmp_path: Path, full: bool) -> None:
    timeline = Timeline("a test", 0.35)
    if full:
        for second in range(60):
            timeline.scores.append((second, second % 7 / 10))
            timeline.frames.append((second, np.full((48, 64, 3), 4 * second, np.uint8)))
            timeline.replies.append(Said(second, second + 2, "$many_words ^{ " * 20, "text", interrupted=True))
        timeline.questions = [(3.0, "Why?")]
    draw(timeline, tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 5000
