"""Which annotation files make up a training set: a list in YAML.

    - file: annotations/oops_train.json
      kind: streaming              # offline, streaming or audio_proactive
      folders: {video: UAL-Bench}  # or one folder for all media; where the file's relative paths begin
      share: 1.0                   # the first part of the file that is used
      visual_proactive: true       # audio_proactive only: whether frames are labelled for the informative head
      subtask: anomaly_warning     # what the event head learns from it

Relative paths begin at the YAML file. Only `file` and `kind` are required.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from vispeak_training.data.record import RECORD_KINDS, Record, check_subtask, parse_record
from vispeak_training.data.sample import SampleError

MEDIA_KINDS = ("image", "audio", "video")
MAX_REGISTRY, MAX_ANNOTATIONS = 2**20, 4 * 2**30  # bytes


@dataclass(frozen=True)
class Source:
    """One annotation file."""

    file: Path  # JSON, a list of samples
    kind: str  # see RECORD_KINDS
    folders: Mapping[str, Path] = field(default_factory=dict)  # "image", "audio", "video": where paths begin
    share: float = 1.0  # 0 to 1, the first part of the file that is used
    visual_proactive: bool = True  # audio_proactive only: whether frames are labelled for the informative head
    subtask: str | None = None  # a subtask, or subtask/label

    def load(self) -> list[Any]:
        """The entries of its share, unchecked.

        Raises:
            ValueError: the file is missing or no JSON list.
        """
        if not self.file.is_file():
            raise ValueError(f"{self.file}: no such annotation file")
        if self.file.stat().st_size > MAX_ANNOTATIONS:
            raise ValueError(f"{self.file}: larger than {MAX_ANNOTATIONS} bytes; split it")
        try:
            entries = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{self.file}: not a readable JSON file ({str(error).splitlines()[0]})") from error
        if not isinstance(entries, list):
            raise ValueError(f"{self.file}: must hold a list of samples, not {type(entries).__name__}")
        return entries[: int(len(entries) * self.share)]

    def record(self, raw: Any, index: int) -> Record:
        """Entry `index` as a record.

        Raises:
            SampleError: a field is missing or malformed.
        """
        return parse_record(raw, self.name(index), self.kind, self.folders, self.visual_proactive, self.subtask)

    def name(self, index: int) -> str:
        """How entry `index` is called in logs."""
        return f"{self.file.name}#{index}"


def read_registry(path: Path) -> list[Source]:
    """The sources that a YAML file lists.

    Raises:
        ValueError: the file is missing, no YAML list, or an entry is malformed.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such registry file")
    if path.stat().st_size > MAX_REGISTRY:
        raise ValueError(f"{path}: larger than {MAX_REGISTRY} bytes, which no registry is")
    try:
        raw = YAML(typ="safe").load(path)
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable YAML file ({str(error).splitlines()[0]})") from error
    if not isinstance(raw, list) or not raw:
        raise ValueError(f"{path}: must hold a list of sources, each with file and kind")
    return [_source(entry, f"{path}: entry {index + 1}", path.resolve().parent) for index, entry in enumerate(raw)]


def _source(raw: Any, place: str, base: Path) -> Source:
    if not isinstance(raw, Mapping):
        raise ValueError(f"{place} must have file and kind, not be {raw!r}")
    known = tuple(Source.__dataclass_fields__)
    for key in raw:
        if key not in known:
            raise ValueError(f"{place}: {key!r} is unknown; known are {', '.join(known)}")
    file, kind, share = raw.get("file"), raw.get("kind"), raw.get("share", 1.0)
    if not isinstance(file, str) or not file:
        raise ValueError(f"{place}: file must be a path, not {file!r}")
    if kind not in RECORD_KINDS:
        raise ValueError(f"{place}: kind {kind!r} is unknown; use one of {', '.join(RECORD_KINDS)}")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(f"{place}: share must lie above 0 and up to 1, not {share!r}")
    visual = raw.get("visual_proactive", True)
    if not isinstance(visual, bool):
        raise ValueError(f"{place}: visual_proactive must be true or false, not {visual!r}")
    try:
        subtask = check_subtask(raw.get("subtask"), "subtask")
    except SampleError as error:
        raise ValueError(f"{place}: {error.reason}") from error
    return Source(base / file, kind, _folders(raw.get("folders"), place, base), float(share), visual, subtask)


def _folders(raw: Any, place: str, base: Path) -> dict[str, Path]:
    """Where each medium's relative paths begin: at the registry, if it says nothing."""
    if raw is None or isinstance(raw, str):
        return dict.fromkeys(MEDIA_KINDS, base / (raw or ""))
    if not isinstance(raw, Mapping) or not all(isinstance(value, str) for value in raw.values()):
        raise ValueError(f"{place}: folders must be a path, or paths for {', '.join(MEDIA_KINDS)}")
    for key in raw:
        if key not in MEDIA_KINDS:
            raise ValueError(f"{place}: folders.{key} is unknown; known are {', '.join(MEDIA_KINDS)}")
    return {key: base / raw.get(key, "") for key in MEDIA_KINDS}
