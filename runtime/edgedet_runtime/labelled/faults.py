"""Faults in labelled data: the first in full, the others counted by kind, so that none hides behind another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedet_runtime.errors import InputError

__all__ = ["Faults", "exists"]

_MOST_KINDS = 3
"""How many kinds of faults are named beside the first."""


def exists(path: Path, *, folder: bool = False) -> bool:
    """Return whether a file (or a folder) is there; no for names that no file can have."""
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):  # too long, a null character, characters that the file system cannot write
        return False


@dataclass(slots=True)
class _Kind:
    """Faults that were expected to be the same thing.

    Attributes:
        what: What was expected.
        place: Where the first of them is; without the file, where that is the one of the first fault of all.
        count: How many there are.
    """

    what: str
    place: str
    count: int = 0


class Faults:
    """Collects what is wrong; `check` raises if there is anything."""

    def __init__(self) -> None:
        """Start with nothing wrong."""
        self._first = self._first_file = ""
        self._kinds: dict[str, _Kind] = {}
        self._files: set[str] = set()

    def add(self, file: Path | str, at: object, what: str) -> None:
        """Note a fault.

        Args:
            file: The file that holds it.
            at: Line or entry within the file.
            what: What was expected and what was got; what stands before ``, got`` is its kind.
        """
        place = f"{file}:{at}" if isinstance(at, int) else f"{file}: {at}"
        if not self._first:
            self._first, self._first_file = f"{place}: {what}", str(file)
        if str(file) == self._first_file:
            place = f"line {at}" if isinstance(at, int) else str(at)
        kind = what.partition(", got ")[0]
        self._kinds.setdefault(kind, _Kind(kind, place)).count += 1
        self._files.add(str(file))

    def check(self) -> None:
        """Raise if anything is wrong.

        Raises:
            InputError: The first fault, and how many there are of each kind.
        """
        if self._kinds:
            raise InputError(self._first + self._rest())

    def _rest(self) -> str:
        """Return what is to be said beyond the first fault."""
        first, *others = self._kinds.values()
        files = "1 file" if len(self._files) == 1 else f"{len(self._files)} files"
        if not others:
            return "" if first.count == 1 else f" ({first.count} such faults in {files})"
        count = first.count + sum(kind.count for kind in others)
        parts = [f"{first.count} such"]
        parts += [f"{kind.count} {kind.what}, first at {kind.place}" for kind in others[:_MOST_KINDS]]
        if len(others) > _MOST_KINDS:
            parts.append(f"{sum(kind.count for kind in others[_MOST_KINDS:])} of other kinds")
        return f" ({count} faults in {files}: {'; '.join(parts)})"
