"""Kinds of events: by a head, by options on a fork that leaves no trace, or not at all."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.models import random_model, vocabulary
from tests.runtime.test_session import make_event, model, run_session, summary
from vispeak_node.model.checkpoint import config_to_dict, inspect_checkpoint, load_model, save_checkpoint
from vispeak_node.model.config import ModelConfig
from vispeak_node.model.subtasks import split_label
from vispeak_node.model.vispeak import ViSpeakModel
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import ReplyFinished, ReplyStarted, Score
from vispeak_node.runtime.recogniser import OPTIONS, UNKNOWN, Recogniser

LABELS = ("none", "visual_wake_up/wave", "anomaly_warning/fall")

__all__ = ["model"]  # the fixture


def with_head(model, labels=LABELS):
    torch.manual_seed(3)
    other = ViSpeakModel(dataclasses.replace(model.config, event_labels=labels)).eval().requires_grad_(False)
    other.load_state_dict(model.state_dict(), strict=False)
    return other


@settings(max_examples=20, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["image", "image", "sound", "text"]), min_size=2, max_size=8),
    ahead=st.sampled_from([0, 3, 64]),
)
def test_asking_for_the_kind_changes_nothing_else(model, kinds, ahead):
    events = [make_event(kind, second) for second, kind in enumerate(kinds)]
    config = SessionConfig(threshold=0.6, refractory=0.0, speak_ahead=ahead, max_reply_tokens=12)
    asked = run_session(model, dataclasses.replace(config, recognition="options"), events)
    plain = run_session(model, dataclasses.replace(config, recognition="never"), events)
    assert summary(asked) == summary(plain)
    known = {label for label, _ in OPTIONS}
    for output in asked:
        if isinstance(output, ReplyStarted | ReplyFinished) and output.trigger.value == "visual":
            assert output.event_label in known and 0 < output.event_score <= 1
    assert all(o.event_label == "" for o in plain if isinstance(o, ReplyFinished))


def test_a_reply_carries_the_heads_likeliest_event(model):
    events = [make_event("image", second) for second in range(8)]
    outputs = run_session(with_head(model), SessionConfig(threshold=0.2, refractory=0.0), events)
    scores = {o.stamp: dict(o.events) for o in outputs if isinstance(o, Score)}
    started = [o for o in outputs if isinstance(o, ReplyStarted)]
    assert started
    for shares in scores.values():
        assert tuple(shares) == LABELS and sum(shares.values()) == pytest.approx(1)
    for reply in started:
        shares = scores[reply.stamp]
        best = max(LABELS[1:], key=lambda label: shares[label])
        assert reply.event_label == best and reply.event_score == pytest.approx(
            shares[best] / (1 - shares["none"]), rel=1e-4
        )


def test_without_letters_in_the_tokenizer_the_kind_is_unknown(model, monkeypatch):
    words = vocabulary()
    monkeypatch.setattr(type(words), "encode", lambda self, text: [1, 2])
    assert not Recogniser(model, words, "auto").by_options
    with pytest.raises(ValueError, match="letters A to H"):
        Recogniser(model, words, "options")
    assert Recogniser(model, words, "auto").by_head(()) == UNKNOWN


def test_an_event_head_survives_a_checkpoint(model, tmp_path):
    save_checkpoint(with_head(model), tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((vocabulary_folder() / "tokenizer.json").read_bytes())
    report = inspect_checkpoint(tmp_path)
    assert report.config.event_labels == LABELS and "event head: none, visual_wake_up/wave" in "\n".join(report.lines())
    loaded = load_model(tmp_path)
    torch.testing.assert_close(loaded.event_head.weight, with_head(model).event_head.weight)
    assert random_model().event_head is None


def vocabulary_folder():
    from tests.golden.models import FOLDER

    return FOLDER


@pytest.mark.parametrize(
    "labels", [["visual_wake_up"], ["none"], ["none", "wave"], ["none", "none"], "none", [1], ["none"] * 300]
)
def test_labels_that_make_no_sense_are_refused(labels):
    raw = config_to_dict(random_model().config) | {"event_labels": labels}
    with pytest.raises(ValueError, match="event_labels"):
        ModelConfig.from_dict(raw)


def test_a_label_is_a_subtask_and_a_name():
    assert split_label("visual_wake_up/wave") == ("visual_wake_up", "wave")
    assert split_label("humor_reaction") == ("humor_reaction", "humor_reaction")
