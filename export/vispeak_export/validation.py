"""Whether an exported encoder says what torch says: per token over noise and real inputs, and in decisions."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from vispeak_node.model.checkpoint import load_model
from vispeak_node.model.tokens import Vocabulary
from vispeak_node.runtime.backends import Backend, Backends
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.runtime.outputs import Output, ReplyFinished, Score
from vispeak_node.runtime.session import Session
from vispeak_node.runtime.sidecar import FAILED, PASSED, Validation
from vispeak_node.stream.events import Event

Run = Callable[[Tensor], tuple[Tensor, ...]]

# least cosine of any token with torch in float32
LEAST_COSINE = {"fp32": 0.9999, "fp16": 0.999, "bf16": 0.99, "int8": 0.99, "fp8": 0.99}
BATCHES = (1, 3)  # in turn: the batch must really be dynamic


def compare(reference: Run, candidate: Run, inputs: Tensor, precision: str, max_batch: int = 8) -> Validation:
    """Runs both on the same inputs.

    Args:
        reference: torch in float32.
        candidate: the exported encoder.
        inputs: [count, ...].
        precision: decides how close is close enough.
        max_batch: the candidate gets no more at once.

    Returns:
        Over every token of every output; the decisions are left open.
    """
    cosines: list[Tensor] = []
    greatest, num_not_finite = 0.0, 0
    sizes = itertools.cycle(min(size, max_batch) for size in BATCHES)
    rest = inputs
    bar = tqdm(total=len(inputs), desc="comparing with torch", unit="input", disable=None, file=sys.stderr, leave=False)
    while len(rest):
        size = next(sizes)
        batch, rest = rest[:size], rest[size:]
        for wanted, found in zip(reference(batch), candidate(batch), strict=True):
            wanted_BND, found_BND = wanted.double().cpu(), found.double().cpu()
            num_not_finite += int((~found_BND.isfinite()).sum())
            greatest = max(greatest, float((wanted_BND - found_BND).abs().nan_to_num(torch.inf).max()))
            cosines.append(torch.cosine_similarity(wanted_BND, found_BND, dim=-1).nan_to_num(-1.0).flatten())
        bar.update(len(batch))
    bar.close()
    cosine = torch.cat(cosines)
    passed = num_not_finite == 0 and float(cosine.min()) >= LEAST_COSINE[precision]
    return Validation(
        PASSED if passed else FAILED,
        len(inputs),
        cosine_min=float(cosine.min()),
        cosine_mean=float(cosine.mean()),
        max_abs=greatest,
        num_not_finite=num_not_finite,
    )


def compare_decisions(
    validation: Validation, folder: Path, events: list[Event], part: str, exported: Backend, device: torch.device
) -> Validation:
    """Adds how far a session with one exported encoder decides and speaks as one with torch does.

    Args:
        validation: what is known so far.
        folder: the whole checkpoint, language model included.
        events: a clip.
        part: which encoder the exported one takes the place of.
        exported: it, with results in float32.
        device: where the model runs, in float32.

    Raises:
        ValueError: the checkpoint cannot run.
    """
    model, vocabulary = load_model(folder, device, torch.float32), Vocabulary.from_folder(folder)
    config = SessionConfig(proactive=model.informative_head is not None)
    runs = []
    ours = Backends.torch(model)
    for backends in (ours, dataclasses.replace(ours, **{part: exported})):
        session = Session(model, vocabulary, config, backends)
        outputs = [output for event in events for output in session.push(event)]
        runs.append(outputs + session.finish())
    pairs = list(zip(*map(_scores, runs), strict=True))
    same = sum(a.fired == b.fired and (a.total > a.threshold) == (b.total > b.threshold) for a, b in pairs)
    return dataclasses.replace(
        validation,
        num_decisions=len(pairs),
        decision_agreement=same / len(pairs) if pairs else 0.0,
        max_score_difference=max((abs(a.score - b.score) for a, b in pairs), default=0.0),
        same_replies=_said(runs[0]) == _said(runs[1]),
    )


def _scores(outputs: list[Output]) -> list[Score]:
    return [output for output in outputs if isinstance(output, Score)]


def _said(outputs: list[Output]) -> list[tuple[int, str]]:
    return [(output.start, output.text) for output in outputs if isinstance(output, ReplyFinished)]
