"""Reads every sample of a training set once and says what is wrong with the set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vispeak_node.stream.files import probe
from vispeak_training.data.anomalies import label_anomalies
from vispeak_training.data.dataset import TrainingSet
from vispeak_training.data.record import Record
from vispeak_training.data.sample import IGNORE, KINDS_OF_ERROR, LABELS, SampleError

_BINS, _WIDTH = 16, 40  # of the histogram: rows, characters


@dataclass(frozen=True)
class Finding:
    """What was found in one sample."""

    name: str
    length: int = 0  # positions; 0 if it could not be built
    positives: int = 0  # frames labelled 1
    problems: tuple[tuple[str, str], ...] = ()  # kind and reason


@dataclass
class CheckReport:
    """What was found in a training set."""

    samples: int = 0
    lengths: list[int] = field(default_factory=list)  # of every sample whose length is known
    problems: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS_OF_ERROR})

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.problems.values())

    def add(self, finding: Finding) -> None:
        """Counts one sample."""
        self.samples += 1
        if finding.length:
            self.lengths.append(finding.length)
        for kind, reason in finding.problems:
            self.problems[kind].append(f"{finding.name}: {reason}")

    def lines(self, most: int = 40) -> list[str]:
        """The report as text; at most `most` problems of a kind are named."""
        lines = [f"{self.samples} samples, {self.samples - len(self.lengths)} of them could not be built"]
        for kind, found in self.problems.items():
            if found:
                lines += [f"{kind} ({len(found)}):", *(f"  {line}" for line in found[:most])]
            if len(found) > most:
                lines.append(f"  and {len(found) - most} more")
        return [*lines, *histogram(self.lengths)]


class _Inspection(Dataset[Finding]):
    """A training set's findings, so that a DataLoader's workers can share the reading."""

    def __init__(self, samples: TrainingSet) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Finding:
        return inspect_sample(self._samples, index)


def check(samples: TrainingSet, workers: int = 0, progress: bool = True) -> CheckReport:
    """Reads everything once.

    Args:
        samples: the set.
        workers: processes that read; 0 reads in this one.
        progress: whether to show a bar.
    """
    report = CheckReport()
    loader = DataLoader(_Inspection(samples), batch_size=None, num_workers=workers, collate_fn=_same)
    for finding in tqdm(loader, desc="samples", total=len(samples), disable=None if progress else True):
        report.add(finding)
    return report


def inspect_sample(samples: TrainingSet, index: int) -> Finding:
    """Builds one sample and looks at its labels."""
    name = samples.name(index)
    try:
        record = samples.record(index)
    except SampleError as error:
        return Finding(name, 0, 0, ((error.kind, error.reason),))
    problems = [(LABELS, line) for line in label_anomalies(record, _duration(record))]
    try:
        sample = samples.builder.build(record)
    except SampleError as error:
        return Finding(name, error.length, 0, (*problems, (error.kind, error.reason)))
    positives = int((sample.informative == 1).sum())
    if not problems and not positives and (sample.informative != IGNORE).any() and _wants_positives(record):
        problems.append((LABELS, "no frame that is looked at lies in the second half of a timespan"))
    return Finding(name, len(sample.user), positives, tuple(problems))


def histogram(lengths: Sequence[int], bins: int = _BINS) -> list[str]:
    """Lengths as rows of `#`, with the median and the longest."""
    if not lengths:
        return ["no lengths"]
    counts, edges = np.histogram(lengths, bins=bins, range=(0, max(lengths) + 1))
    rows = [
        f"{int(low):>6} .. {int(high):>6} {count:>7} {'#' * round(_WIDTH * count / counts.max())}"
        for count, low, high in zip(counts, edges, edges[1:], strict=False)
        if count
    ]
    return [f"positions: median {int(np.median(lengths))}, longest {max(lengths)}", *rows]


def plot_lengths(lengths: Sequence[int], path: Path) -> None:
    """The histogram as a picture.

    Raises:
        ValueError: matplotlib is not installed.
    """
    from vispeak_training.data.drawing import new_figure  # noqa: PLC0415 - matplotlib is optional

    figure = new_figure(7, 3.5)
    axes = figure.add_subplot()
    axes.hist(lengths, bins=40, color="#3b6ea5")
    axes.set(xlabel="positions", ylabel="samples", title=f"{len(lengths)} samples")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _wants_positives(record: Record) -> bool:
    return any(turn.timespan is not None for turn in record.turns)


def _duration(record: Record) -> float:
    """Of the record's video, s; 0 where it cannot be read, which building tells."""
    if record.video is None:
        return 0.0
    try:
        return probe(record.video).duration
    except (ValueError, OSError):
        return 0.0


def _same(finding: Any) -> Any:
    return finding
