"""The small checkpoint's way through the published four stages, scaled down: `vispeak-train tiny`.

Every stage is a run of `vispeak_training.stages`, as for the full-size model, on the theatre's clips. Three things
differ from the published recipe: there is no pretrained language model, so it learns as a whole and without LoRA in
every stage; the tower learns to see beforehand (`seeing`); and the learning rates are those of a small model. Every
stage hears all kinds of words, so that none is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.tokens import Vocabulary
from vispeak_training.apart import run_apart
from vispeak_training.seeing import quick_on_cpu
from vispeak_training.stages.config import StageConfig
from vispeak_training.stages.merge import merge
from vispeak_training.stages.run import run_stage
from vispeak_training.streams import LABELS, TellingConfig
from vispeak_training.theatre.dataset import Footage
from vispeak_training.theatre_set import Mix, TheatreSet
from vispeak_training.tiny_config import TinyConfig

logger = logging.getLogger(__name__)

_EVERYTHING = ("mm_projector", "combination", "language_model")
_FOCAL_WEIGHT = 20.0  # the focal loss is a small number next to the cross-entropy
_EVENT_WEIGHT = 0.5


@dataclass(frozen=True)
class TinyStage:
    """One of the four stages on the theatre."""

    name: str
    mix: Mix
    steps: int
    batch: int  # samples
    rate: float
    heads: tuple[str, ...] = ()
    event_labels: tuple[str, ...] = ()


def tiny_stages(config: TinyConfig) -> list[TinyStage]:
    """What each stage learns from: pictures, then talk, then when to speak, then the seven subtasks.

    The last two parts of stage 3 are stages of their own here: in both nearly all replies run beside what is seen, so
    that signs to stop are noticed while it speaks, and in the last a third of the samples asks for the past.
    """
    told = TellingConfig(proactive=0.0, events=False, question=0.5)
    watched = TellingConfig(proactive=0.8, events=False)
    full = TellingConfig(proactive=0.88, silence=True)
    beside = TellingConfig(proactive=0.88, lockstep=0.85, interrupted=0.5, silence=True)
    still = TellingConfig(proactive=0.0, events=False, question=1.0, conversation=0.0, lockstep=0.0, late=(1.0,))
    seen = TellingConfig(question=0.7, conversation=0.0, lockstep=0.0, late=(1.0,))
    head = ("informative_head",)
    return [
        TinyStage("1a", Mix(told, 0.5, still, texts=0.25), config.align_steps, config.batch, config.stage_lr),
        TinyStage("1b", Mix(told, 0.4, still, texts=0.2), config.template_steps, config.batch, config.stage_lr),
        TinyStage(
            "2",
            Mix(watched, 0.3, seen, recalls=0.12, texts=0.1, long=0.15),
            config.streaming_steps,
            config.batch,
            config.stage_lr,
            head,
        ),
        TinyStage(
            "3",
            Mix(full, 0.22, seen, recalls=0.12, texts=0.05, long=0.23),
            config.instruct_steps,
            config.batch,
            config.instruct_lr,
            head,
            LABELS,
        ),
        TinyStage(
            "lockstep",
            Mix(beside, 0.15, seen, recalls=0.1, texts=0.05, long=0.1),
            config.lockstep_steps,
            config.batch,
            config.lockstep_lr,
            head,
            LABELS,
        ),
        TinyStage(
            "past",
            Mix(beside, 0.12, seen, recalls=0.35, texts=0.05, long=0.12),
            config.past_steps,
            config.batch,
            config.lockstep_lr,
            head,
            LABELS,
        ),
    ]


def train_stages(
    base: Path,
    folder: Path,
    footage: Footage,
    config: TinyConfig,
    stages: Sequence[TinyStage] | None = None,
    apart: bool = True,
) -> Path:
    """Runs stages one after the other; started again, it goes on where it was.

    Stages that two ways through the recipe begin with are run once: folders are named after the way so far.

    Args:
        base: checkpoint of a model that sees.
        folder: for runs and checkpoints between the stages.
        footage: of the training split.
        config: steps and batches.
        stages: those of `tiny_stages` by default.
        apart: every stage in a process of its own, so that none begins with the memory of those before.

    Returns:
        The checkpoint after the last stage, in float32.

    Raises:
        ValueError: a stage had to stop; those before it are kept.
    """
    way: list[str] = []
    for stage in tiny_stages(config) if stages is None else stages:
        way.append(stage.name)
        run, merged = (folder / f"{kind}-{'-'.join(way)}" for kind in ("stage", "after"))
        if not merged.exists():
            job = (stage, base, run, merged, footage, config)
            if apart:
                run_apart(train_stage, *job)
            else:
                train_stage(*job)
        base = merged
    return base


def train_stage(stage: TinyStage, base: Path, run: Path, merged: Path, footage: Footage, config: TinyConfig) -> None:
    """Runs one stage from the checkpoint `base` in the folder `run`, and writes the checkpoint `merged`.

    Raises:
        ValueError: it had to stop.
    """
    clips, rooms = footage.read()
    vocabulary, model, length = Vocabulary.from_folder(base), load_model(base).config, stage.steps * stage.batch
    data = TheatreSet(clips, rooms, vocabulary, model, stage.mix, length, config.seed, stage.batch)
    with quick_on_cpu():
        final = run_stage(stage_config(stage, base, run, config), data)
    merge(final, base, merged, "float32")


def stage_config(stage: TinyStage, base: Path, output: Path, config: TinyConfig) -> StageConfig:
    """A stage of the small model as the full-size ones are described."""
    made = StageConfig(
        name=f"tiny {stage.name}",
        base=str(base),
        data="theatre",
        output=str(output),
        train=(*_EVERYTHING, *stage.heads),
        lora=None,
        pooling_size=1,
        event_labels=stage.event_labels,
        focal_weight=_FOCAL_WEIGHT,
        event_weight=_EVENT_WEIGHT,
        learning_rate=stage.rate,
        projector_learning_rate=config.projector_lr,
        matrix_learning_rate=stage.rate * config.matrix_factor or None,
        # no clipping: small weights before the large rows of the tower have gradients that would shrink all others,
        # and only where there are pictures
        max_gradient_norm=1e4,
        batch_size=stage.batch,
        accumulation=1,
        max_steps=stage.steps,
        weight_decay=config.weight_decay,
        max_length=2048,
        gradient_checkpointing=False,
        weights="float32",
        seed=config.seed,
        workers=1,  # pictures are changed while the model learns
        save_steps=200,
        save_limit=1,
    )
    made.check()
    return made
