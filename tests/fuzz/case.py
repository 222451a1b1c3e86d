"""What is fuzzed: a format's files, how they are changed, how they are read, and what reading may cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal, TypeAlias

__all__ = ["CHECKPOINT_BOUNDS", "FAULTS", "Bounds", "Files", "Format", "Mutator", "Verdict", "Weighted"]

Files: TypeAlias = Mapping[str, bytes]
"""The files of one input by their path within its folder."""

Mutator: TypeAlias = Callable[[Random, bytes], bytes]
"""Changes a file's content; draws from the generator alone."""

Weighted: TypeAlias = Sequence[tuple[float, Mutator]]
"""Mutators of one kind of file, and how often each is drawn."""

Verdict = Literal["accepted", "refused", "wordy", "traceback", "ran", "crash", "memory", "time"]
"""What came of reading a file.

========= ==========================================================================================================
accepted  it was read
refused   an error of edgedet, on one line
wordy     an error of edgedet, on several lines or too long a one
traceback any other exception
ran       a process was started, a socket opened, or a file written
crash     the process ended by a signal
memory    more memory than the file's size allows
time      more time than is allowed
========= ==========================================================================================================
"""

FAULTS: tuple[Verdict, ...] = ("wordy", "traceback", "ran", "crash", "memory", "time")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What reading n bytes may take: `base_bytes` + `per_byte` n of memory, `cpu_s` of processor time."""

    base_bytes: int
    per_byte: int
    cpu_s: int = 30

    def allowed(self, n_bytes: int) -> int:
        """Return the bytes of memory that n bytes of files may take."""
        return self.base_bytes + self.per_byte * n_bytes


CHECKPOINT_BOUNDS = Bounds(256 << 20, 32)


@dataclass(frozen=True, slots=True)
class Format:
    """One format that edgedet reads.

    Attributes:
        name: What it is called on the command line.
        seeds: Makes the files to change, in an empty folder; the same ones each time.
        mutators: By a file's ending: what can be done to it. ``""`` stands for all others.
        read: Reads the folder that an input was written to, as a command would.
        bounds: What that may take.
        may_start: Whether reading starts processes of its own.
    """

    name: str
    seeds: Callable[[Path], list[Files]]
    mutators: Mapping[str, Weighted]
    read: Callable[[Path], object]
    bounds: Bounds = CHECKPOINT_BOUNDS
    may_start: bool = False
