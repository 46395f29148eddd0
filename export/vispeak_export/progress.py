"""How far a long build is, on stderr when that is a terminal."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class BuildProgress:
    """A bar over the builder's outermost phase, with the name of the innermost one."""

    def __init__(self) -> None:
        self._bar: tqdm = tqdm(disable=None, file=sys.stderr, unit="step", leave=False)
        self._open: list[str] = []
        self.cancelled = False

    def start(self, phase: str, num_steps: int) -> None:
        """A phase begins, within the ones that are open."""
        if not self._open:
            self._bar.reset(total=num_steps)
        self._open.append(phase)
        self._bar.set_description(phase, refresh=False)

    def step(self, phase: str, step: int) -> bool:
        """A step of a phase is done; false asks the builder to give up."""
        try:
            if self._open and phase == self._open[0]:
                self._bar.update(max(0, step - self._bar.n))
        except KeyboardInterrupt:  # must not pass through the builder's own code
            self.cancelled = True
        return not self.cancelled

    def finish(self, phase: str) -> None:
        """A phase ends."""
        if phase in self._open:
            self._open.remove(phase)

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()


def monitor(trt: Any, progress: BuildProgress) -> Any:
    """The toolkit's own interface around it.

    Args:
        trt: the toolkit's module, whose class this must be derived from.
        progress: what is told.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # the binding refuses super().__init__

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()
