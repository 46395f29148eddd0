"""A registry's samples as a torch dataset. A bad sample is None, counted and named; no other takes its place."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from vispeak_node.model.config import ModelConfig
from vispeak_node.model.tokens import Vocabulary
from vispeak_training.data.builder import SampleBuilder
from vispeak_training.data.options import BuildOptions
from vispeak_training.data.record import Record
from vispeak_training.data.registry import read_registry
from vispeak_training.data.sample import Sample, SampleError

logger = logging.getLogger(__name__)


class TrainingSet(Dataset["Sample | None"]):
    """All samples that a registry lists; `[i]` reads media and builds streams.

    Attributes:
        bad: name and reason of every bad sample that was met. Each worker process of a DataLoader fills its own; the
            process that collates counts the Nones.

    Args:
        registry_yaml: see `registry`.
        vocabulary: of the model.
        config: of the model.
        options: how samples are built, and whether they are mixed.

    Raises:
        ValueError: the registry or an annotation file cannot be read, or there is no sample.
    """

    def __init__(self, registry_yaml: Path, vocabulary: Vocabulary, config: ModelConfig, options: BuildOptions) -> None:
        self._sources = read_registry(registry_yaml)
        self._entries: list[tuple[int, int, Any]] = [  # source, index in its file, what the JSON holds
            (number, index, raw)
            for number, source in enumerate(self._sources)
            for index, raw in enumerate(source.load())
        ]
        if not self._entries:
            raise ValueError(f"{registry_yaml}: its sources hold no sample")
        if options.shuffle:
            random.Random(options.seed).shuffle(self._entries)
        self.builder = SampleBuilder(vocabulary, config, options)
        self.bad: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample | None:
        try:
            return self.builder.build(self.record(index))
        except SampleError as error:
            name = self.name(index)
            if name not in self.bad:
                logger.warning("%s is left out: %s", name, error)
            self.bad[name] = str(error)
            return None

    def name(self, index: int) -> str:
        """File and index of a sample, for logs."""
        number, place, _ = self._entries[index]
        return self._sources[number].name(place)

    def record(self, index: int) -> Record:
        """What the annotation file says of a sample.

        Raises:
            SampleError: a field is missing or malformed.
        """
        number, place, raw = self._entries[index]
        return self._sources[number].record(raw, place)

    def find(self, name: str) -> int:
        """The index of the sample `name`, as `name()` gives it.

        Raises:
            ValueError: there is none.
        """
        for index in range(len(self)):
            if self.name(index) == name:
                return index
        raise ValueError(f"no sample is called {name!r}; names are FILE#INDEX, for example {self.name(0)}")
