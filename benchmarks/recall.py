"""A question about what was seen ten minutes ago, with each policy of memory.

    python benchmarks/recall.py [--model DIR] [--data out/theatre] [--questions 24] [--write [FILE.md]]

A person does one everyday thing for a minute, then ten minutes of other people's everyday life go by (held-out clips of
the theatre), then somebody asks what was seen first, in words that were not trained. Right is the sentence that was
taught for that act. Chance is measured by asking the policy that remembers nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from report import add_write, foot, publish, table
from tqdm import tqdm

from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import ReplyFinished, Trigger
from vispeak_node.runtime.session import Session
from vispeak_node.settings import default_model_dir
from vispeak_node.stream.events import ImageEvent, TextEvent, nanoseconds
from vispeak_training.phrases import HELD_OUT_PAST_QUESTIONS
from vispeak_training.theatre.acts import SENTENCES
from vispeak_training.theatre.dataset import HELD_OUT, SHRINK, SampledClip, read_dataset, render_dataset
from vispeak_training.theatre.figure import Look
from vispeak_training.theatre.scene import Stage
from vispeak_training.theatre.script import DISTRACTORS, fixed_script
from vispeak_training.theatre.staging import set_scene

POLICIES = ("none", "window", "pyramid")
ACTS = (
    "sit",
    "phone",
    "hips",
    "cross_arms",
    "carry",
    "drink",
    "reach_up",
    "squat",
)  # go on for a minute, and look apart
MINUTE = 60  # s


def first_minute(seed: int, size: int) -> tuple[str, np.ndarray]:
    """An act and its frames, uint8 [60, size, size, 3]."""
    rng = np.random.default_rng(seed + 7 * HELD_OUT)
    act, look = ACTS[seed % len(ACTS)], Look.random(rng, True)
    side = round(size * SHRINK)
    with Stage(side, side) as stage:
        script = fixed_script(rng, [(act, float(MINUTE))], look, True)
        scene = set_scene(stage, rng, script, look, True)
        moments = [k + 0.5 for k in range(MINUTE)]
        frames = [scene.picture(script.pose(moment), moment, SHRINK) for moment in moments]
        scene.close()
    return act, np.stack(frames)


def answer(session: Session, frames: list[np.ndarray], question: str) -> str:
    """What is said to the question at the end."""
    for second, frame in enumerate(frames):
        stamp = nanoseconds(second)
        session.push(ImageEvent(stamp, frame, stamp))
    outputs = session.push(TextEvent(nanoseconds(len(frames)), question)) + session.finish()
    replies = [out.text for out in outputs if isinstance(out, ReplyFinished) and out.trigger is Trigger.TEXT]
    return replies[0] if replies else ""


def run(folder: Path, data: Path, questions: int) -> list[str]:
    """The report."""
    model, vocabulary = load_model(folder), Vocabulary.from_folder(folder)
    size = model.config.vision.image_size
    path = data / f"held_out-{DISTRACTORS}.npz"
    if not path.is_file():
        render_dataset(100, size, data, "held_out", subtask=DISTRACTORS, duration=float(MINUTE))
    life: list[SampledClip] = read_dataset(path)
    right = dict.fromkeys(POLICIES, 0)
    for number in tqdm(range(questions), disable=None):
        act, frames = first_minute(number, size)
        later = [frame for k in range(10) for frame in life[(10 * number + k) % len(life)].frames[:MINUTE]]
        question = HELD_OUT_PAST_QUESTIONS[number % len(HELD_OUT_PAST_QUESTIONS)]
        for policy in POLICIES:
            session = Session(model, vocabulary, SessionConfig(memory=policy, refractory=1e6))
            right[policy] += answer(session, [*frames, *later], question) == SENTENCES[act]
    rows = [(policy, f"{right[policy]} of {questions}", f"{right[policy] / questions:.0%}") for policy in POLICIES]
    return [
        "# A question about what was seen ten minutes ago",
        "",
        *table(("memory", "right", ""), rows),
        *foot("cpu", remark=f"{folder.name}; {len(ACTS)} acts take turns; the question is worded as none in training"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=default_model_dir())
    parser.add_argument("--data", type=Path, default=Path("out/theatre"))
    parser.add_argument("--questions", type=int, default=24)
    add_write(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    publish("recall", run(arguments.model, arguments.data, arguments.questions), arguments.write)


if __name__ == "__main__":
    main()
