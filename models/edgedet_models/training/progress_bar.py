"""What a run shows on standard error: a bar with rate, loss and time to go; nothing where that is no terminal."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edgedet_models.training.state import TrainingProgress

__all__ = ["Report", "showing"]


class Report:
    """Shows nothing; `_Bar` draws a line."""

    def update(self, progress: TrainingProgress, means: dict[str, float], speed: float) -> None:
        """Show the state of the run."""


class _Bar(Report):
    """Rich progress with rate, loss and time to go."""

    def __init__(self, first: TrainingProgress) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("train"),
            BarColumn(),
            TextColumn("{task.percentage:5.1f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._first = dataclasses.replace(first)
        self._task = self._bar.add_task("train", total=1.0, note="")
        self._bar.update(self._task, completed=first.share)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, progress: TrainingProgress, means: dict[str, float], speed: float) -> None:
        """Show the state of the run."""
        done = progress.share - self._first.share
        left_s = (progress.seconds - self._first.seconds) * (1 - progress.share) / max(done, 1e-9)
        note = f"{speed:.1f} img/s, loss {means['loss']:.3f}, {left_s / 60:.0f} min to go"
        self._bar.update(self._task, completed=progress.share, note=note)


@contextmanager
def showing(show: bool, progress: TrainingProgress) -> Iterator[Report]:
    """Yield what shows a run that starts at `progress`."""
    if not show:
        yield Report()
        return
    with _Bar(progress) as bar:
        yield bar
