"""Keeps what a session remembers in a file, so that a node that starts again goes on where it was."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

logger = logging.getLogger(__name__)

_MOST_REFUSED = 5  # files that were refused and are kept


class Keeper(Protocol):
    """What the assistant needs; all of it is called from the thread that pushes."""

    def begin(self) -> None:
        """Takes up what was kept."""
        ...

    def look(self, now: float) -> None:
        """Keeps what is remembered, if it is time; `now` is monotonic s."""
        ...

    def end(self) -> None:
        """Keeps it for the last time."""
        ...


class NoKeeper:
    """Keeps nothing."""

    def begin(self) -> None:
        """Nothing was kept."""

    def look(self, now: float) -> None:
        """Nothing is kept."""

    def end(self) -> None:
        """Nothing is kept."""


class FileKeeper:
    """Keeps a session's memory and dialogue in one file.

    Args:
        session: a `runtime.session.Session`.
        path: the file; written whole or not at all.
        period: s between two times.
    """

    def __init__(self, session: object, path: Path, period: float) -> None:
        self._session, self._path, self._period = session, path, period
        self._last: float | None = None
        self._failed = False

    def begin(self) -> None:
        """Takes up the file if there is one; what cannot be taken up is said, kept aside, and begun anew."""
        from vispeak_node.runtime.snapshot import restore_snapshot  # noqa: PLC0415 - torch is slow to import

        if not self._path.exists():
            return
        try:
            restore_snapshot(self._session, self._path)  # type: ignore[arg-type]
            logger.info("going on from %s", self._path)
        except ValueError as error:
            aside = self._aside()
            logger.error("%s; the node begins anew and keeps that file as %s", error, aside.name)
            self._path.replace(aside)

    def _aside(self) -> Path:
        """A name for a file that was refused: one that is free, or that of the oldest of several."""
        names = [".refused", *(f".refused-{number}" for number in range(2, _MOST_REFUSED + 1))]
        files = [self._path.with_name(self._path.name + name) for name in names]
        free = [file for file in files if not file.exists()]
        return free[0] if free else min(files, key=lambda file: file.stat().st_mtime)

    def look(self, now: float) -> None:
        """Writes the file if the last time is long enough ago."""
        if self._last is None:
            self._last = now
        if now - self._last >= self._period:
            self._last = now
            self.end()

    def end(self) -> None:
        """Writes the file; a full disk is said once and stops nothing."""
        from vispeak_node.runtime.snapshot import save_snapshot  # noqa: PLC0415

        try:
            save_snapshot(self._session, self._path)  # type: ignore[arg-type]
            self._failed = False
        except ValueError as error:
            if not self._failed:
                logger.error("%s", error)
            self._failed = True


def keeper_of(session: object, path: str, camera: str, period: float) -> Keeper:
    """What keeps a session: nothing without a path; each of several cameras has a file of its own."""
    if not path:
        return NoKeeper()
    file = Path(path)
    return FileKeeper(session, file.with_name(f"{file.stem}-{camera}{file.suffix}") if camera else file, period)
