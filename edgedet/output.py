"""What the command line says, and where: results on standard output, everything else on standard error.

With ``--json`` a command writes exactly one JSON document to standard output and nothing else.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from edgedet_runtime.errors import InputError
from edgedet_runtime.printable import UNPRINTABLE, printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ProgressBar",
    "console",
    "document",
    "error",
    "flush",
    "line",
    "note",
    "notes",
    "prepare",
    "printable",
    "progress_bar",
    "table",
]

_PLAIN_WIDTH = 140


def prepare() -> None:
    """Set up the streams and the log of a process that is a command line of its own; call it once, first.

    A character that the terminal's encoding lacks is written as an escape; warnings that libraries log are notes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger().addHandler(_Notes(logging.WARNING))


class _Notes(logging.Handler):
    """Writes log records as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        note(f"{record.levelname.lower()}: {record.getMessage()}")


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output or standard error; wide where the stream is a file or a pipe.

    Raises:
        InputError: Standard output is closed.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else _standard_output()
    width = _PLAIN_WIDTH if stream is None or not stream.isatty() else None
    return Console(file=stream or io.StringIO(), width=width, highlight=False, soft_wrap=False)


def line(text: str) -> None:
    """Write a line of result to standard output."""
    _write(f"{printable(text)}\n")


def note(text: str) -> None:
    """Write a remark to standard error, on one line; a standard error that is closed or full is no error."""
    try:
        if sys.stderr is not None:
            sys.stderr.write(f"{printable(' '.join(text.split()))}\n")
    except (OSError, ValueError):
        return


def notes(texts: Iterable[str]) -> None:
    """Write remarks to standard error, a line each."""
    for text in texts:
        note(text)


def error(problem: Exception | str) -> None:
    """Write an error to standard error, on one line."""
    note(f"error: {problem}")


def document(value: Any) -> None:
    """Write one JSON document to standard output.

    Raises:
        ValueError: The value holds NaN or infinity, which JSON does not have.
        InputError: Standard output cannot be written.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # in JSON these characters can only stand in strings, where an escape means the same
    escaped = UNPRINTABLE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)
    _write(escaped + "\n")
    flush()


def flush() -> None:
    """Write out what is still buffered for standard output.

    Raises:
        InputError: It cannot be written.
        BrokenPipeError: Its reader went away.
    """
    if sys.stdout is not None:
        _write("")


def _write(text: str) -> None:
    """Write text to standard output, all of it where the text is empty.

    Raises:
        InputError: It is closed or full.
        BrokenPipeError: Its reader went away.
    """
    stream = _standard_output()
    try:
        stream.write(text)
        if not text:
            stream.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as e:
        reason = (e.strerror if isinstance(e, OSError) else None) or str(e)
        raise InputError(f"standard output: cannot be written: {reason}") from None


def _standard_output() -> TextIO:
    if sys.stdout is None:  # where the process was started without one
        raise InputError("standard output: expected an open stream, it is closed")
    return sys.stdout


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
        drawn.add_row(*(Text("" if cell is None else printable(str(cell), keep="\n")) for cell in row))
    shown = console()
    with shown.capture() as text:
        shown.print(drawn)
    _write(text.get())


@contextmanager
def progress_bar(description: str, *, total: int | None = None) -> Iterator[ProgressBar]:
    """Show a progress bar on standard error while the block runs; silent where that is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
        disable=sys.stderr is None or not sys.stderr.isatty(),
    )
    with bar:
        yield ProgressBar(bar, bar.add_task(printable(description), total=total))


class ProgressBar:
    """A running progress bar: call it after each step."""

    def __init__(self, bar: Any, task: Any) -> None:
        """Remember the bar and its task."""
        self._bar = bar
        self._task = task

    def __call__(self, done: int | None = None, total: int | None = None, description: str | None = None) -> None:
        """Advance by one, or to `done` of `total`."""
        shown = None if description is None else printable(description)
        if done is None:
            self._bar.advance(self._task)
        self._bar.update(
            self._task,
            **{
                name: value
                for name, value in (("completed", done), ("total", total), ("description", shown))
                if value is not None
            },
        )
