"""Faults in labelled data: the first in full, the others counted, so that none hides behind another."""

from __future__ import annotations

import reprlib
from pathlib import Path

from edgedet_runtime.errors import InputError

__all__ = ["Faults", "exists", "short"]

_MOST_CHARACTERS = 60
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxdict, _REPR.maxtuple = 2, 4, 4, 4
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _MOST_CHARACTERS


def short(value: object) -> str:
    """Return a value as ASCII text of bounded length on one line, whatever a file put into it."""
    text = _REPR.repr(value).encode("ascii", "backslashreplace").decode()
    return text if len(text) <= 2 * _MOST_CHARACTERS else text[: 2 * _MOST_CHARACTERS] + "…"


def exists(path: Path, *, folder: bool = False) -> bool:
    """Return whether a file (or a folder) is there; no for names that no file can have."""
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):  # too long, a null character, characters that the file system cannot write
        return False


class Faults:
    """Collects what is wrong; `check` raises if there is anything."""

    def __init__(self) -> None:
        """Start with nothing wrong."""
        self._first = ""
        self._count = 0
        self._files: set[str] = set()

    def add(self, file: Path | str, at: object, what: str) -> None:
        """Note a fault.

        Args:
            file: The file that holds it.
            at: Line or entry within the file.
            what: What was expected and what was got.
        """
        if not self._count:
            self._first = f"{file}:{at}: {what}" if isinstance(at, int) else f"{file}: {at}: {what}"
        self._count += 1
        self._files.add(str(file))

    def check(self) -> None:
        """Raise if anything is wrong.

        Raises:
            InputError: The first fault, and how many there are.
        """
        if self._count == 1:
            raise InputError(self._first)
        if self._count:
            files = "1 file" if len(self._files) == 1 else f"{len(self._files)} files"
            raise InputError(f"{self._first} ({self._count} such faults in {files})")
