"""Which step of a long piece of work is going on: what progress displays are told."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["StepProgress", "Steps"]

StepProgress = Callable[[int, int, str], object]
"""Called with steps done, steps in all, and what is being done."""


class Steps:
    """Counts the steps of a piece of work for whoever watches."""

    def __init__(self, watcher: StepProgress | None, total: int) -> None:
        """Remember the watcher, if there is one; nothing has begun."""
        self._watcher, self._total, self._begun = watcher, total, 0

    def begin(self, what: str) -> None:
        """Begin the next step."""
        self._begun += 1
        self.say(what)

    def say(self, what: str) -> None:
        """Say what happens within the step."""
        if self._watcher is not None:
            self._watcher(max(0, self._begun - 1), self._total, what)
