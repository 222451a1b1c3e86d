"""What the command line says, and where: results on standard output, everything else on standard error.

With ``--json`` a command writes exactly one JSON document to standard output and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "document", "error", "line", "note", "notes", "progress_bar", "table"]

_PLAIN_WIDTH = 140


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output or standard error; wide where the stream is a file or a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _PLAIN_WIDTH, highlight=False, soft_wrap=False)


def line(text: str) -> None:
    """Write a line of result to standard output."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Write a remark to standard error, on one line."""
    sys.stderr.write(f"{' '.join(text.split())}\n")


def notes(texts: Iterable[str]) -> None:
    """Write remarks to standard error, a line each."""
    for text in texts:
        note(text)


def error(problem: Exception) -> None:
    """Write an error to standard error, on one line."""
    note(f"error: {problem}")


def document(value: Any) -> None:
    """Write one JSON document to standard output.

    Raises:
        ValueError: The value holds NaN or infinity, which JSON does not have.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    numeric: Iterable[str] = (),
) -> None:
    """Write a table to standard output; the columns named in `numeric` are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    right = set(numeric)
    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        drawn.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console().print(drawn)


@contextmanager
def progress_bar(description: str, *, total: int | None = None) -> Iterator[Progress]:
    """Show a progress bar on standard error while the block runs; silent where that is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        yield Progress(bar, bar.add_task(description, total=total))


class Progress:
    """A running progress bar: call it after each step."""

    def __init__(self, bar: Any, task: Any) -> None:
        """Remember the bar and its task."""
        self._bar = bar
        self._task = task

    def __call__(self, done: int | None = None, total: int | None = None, description: str | None = None) -> None:
        """Advance by one, or to `done` of `total`."""
        if done is None:
            self._bar.advance(self._task)
        self._bar.update(
            self._task,
            **{k: v for k, v in (("completed", done), ("total", total), ("description", description)) if v is not None},
        )
