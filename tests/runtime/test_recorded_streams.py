"""The session against recorded runs of the published loop: same scores, same start, same tokens."""

import copy
import json

import numpy as np
import pytest
import torch

from tests.golden import recipe
from tests.golden.models import FOLDER, recorded_model, vocabulary
from vispeak_node.model import fbank as fbank_module
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import ReplyFinished, Score
from vispeak_node.runtime.session import Session
from vispeak_node.stream.events import ImageEvent, SoundEvent, TextEvent, nanoseconds

RUNS = sorted(path.stem.removeprefix("stream_") for path in FOLDER.glob("stream_*.npz"))
LINEAR = "linear_combine"


def tweaked_model(run, note):
    """The recorded model with the changes that the run's note names."""
    model = recorded_model(LINEAR if LINEAR in run else "adaptive_combine", 1 if run.startswith("f1") else 2)
    model = copy.deepcopy(model)
    words = note.replace(",", " ").replace(". ", " ").split()
    settings = dict(word.split("=") for word in words if "=" in word)
    if settings:
        constant, gain = float(settings["b"]), float(settings["gain"].rstrip("."))
        head = model.informative_head
        head[0].weight[0], head[0].bias[0] = 0.0, 1.0
        head[2].weight *= gain
        head[2].weight[0, 0] = constant
    if "swapped" in words:
        first, second = int(words[words.index("rows") + 1]), int(words[words.index("rows") + 3])
        model.lm_head.weight[[first, second]] = model.lm_head.weight[[second, first]]
    return model


def events_of(run):
    """The run's events, read off its id array."""
    ids, ends, frames = run["user_ids"], run["num_token"], iter(run["frames"])
    start, sounds, found = int(np.flatnonzero(ids == 97729)[0]) + 1, 0, []
    for end, time in zip(ends, run["timestamps"], strict=True):
        content, stamp = ids[start : end - 1], nanoseconds(float(time))
        if content[0] == -200:
            found.append(ImageEvent(stamp, recipe.image(int(next(frames)), 448, 448), stamp))
        elif content[0] == -600:
            found.append(SoundEvent(stamp, np.full(16000, sounds, np.float32)))
            sounds += 1
        else:
            found.append(TextEvent(stamp, vocabulary().decode([int(i) for i in content])))
        start = int(end)
    return found


@pytest.mark.parametrize("name", RUNS)
def test_session_repeats_the_recorded_run(name, monkeypatch):
    with np.load(FOLDER / f"stream_{name}.npz") as data:
        run = dict(data)
    options = json.loads(str(run["kwargs"]))
    if "video_audio_fbank" in run:
        # the recorded features are fed in, so that this test is about the session and not about the fbank
        monkeypatch.setattr(
            "vispeak_node.runtime.encoders.fbank", lambda samples, config: run["video_audio_fbank"][int(samples[0])]
        )
    prompt = "video" if "reactive" in name else "vispeak"
    session = Session(
        tweaked_model(name, str(run["note"])),
        vocabulary(),
        SessionConfig(
            system_prompt=prompt,
            proactive=options["proactive"],
            score_events="all",
            refractory=0.0,
            speak_ahead=0,
            finish_padding=options.get("padding_size", 16),
            max_reply_tokens=4096,
            prefill_order="trained" if name.endswith("fixorder") else "reference",
        ),
    )
    events = events_of(run)
    first = int(run["start_inference_seg"][0])
    outputs = session.prefill(events[: first + 1])
    for event in events[first + 1 :]:
        outputs += session.push(event)
    outputs += session.finish()

    if options["proactive"]:
        totals = [output.total for output in outputs if isinstance(output, Score) and not output.speaking]
        sums = run["queue_sums"]
        np.testing.assert_allclose(totals[: len(sums)], sums, atol=1e-4)
    spoken = run["output_ids"][0]
    reply_ids = spoken[np.argmax(spoken != 151643) :] if (spoken != 151643).any() else spoken[:0]
    safe = int(run["safe_len"]) - (len(spoken) - len(reply_ids))
    replies = [output for output in outputs if isinstance(output, ReplyFinished)]
    if not len(reply_ids):
        assert not replies
        return
    assert len(replies) == 1
    assert replies[0].start == nanoseconds(float(run["response_time"]))
    assert len(replies[0].token_ids) == len(reply_ids) or safe < len(reply_ids)
    assert list(replies[0].token_ids[:safe]) == reply_ids[:safe].tolist()
    assert safe > 0


def test_features_of_the_recorded_sound():
    with np.load(FOLDER / "audio.npz") as data:
        for key, samples in (("fbank_1s", recipe.waveform(1)), ("fbank_1s_k1", recipe.waveform(1, 1))):
            made = fbank_module.fbank(samples, recorded_model().config.audio)
            np.testing.assert_allclose(made, data[key], atol=1e-3)


def test_recorded_runs_are_all_there():
    assert len(RUNS) == 12
    assert torch.get_default_dtype() == torch.float32
