"""Numbers on the command line: one type per kind, with its range, for every option that takes one.

Click's own ranges let ``nan`` through, since it is neither below the least nor above the most, and have no end for
whole numbers, of which a library then keeps 32 bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import typer

from edgedet_runtime.cpu import MOST_THREADS

__all__ = [
    "COUNT",
    "COUNT_OR_NONE",
    "HOURS",
    "PIXELS",
    "POINTS",
    "RATE",
    "SECONDS",
    "SEED",
    "SHARE",
    "THREADS",
    "Real",
    "Whole",
    "number",
]

_LONGEST = 40


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `least` to `most`; as a function, reads it.

    Attributes:
        least: The least that is taken.
        most: The most.
    """

    least: int
    most: int

    def __call__(self, text: object) -> int:
        """Read a number.

        Raises:
            typer.BadParameter: It is none, or out of range.
        """
        word = str(text).strip()
        digits = word.removeprefix("-")
        good = digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST
        if not good or not self.least <= int(word) <= self.most:
            raise typer.BadParameter(f"expected a whole number from {self.least} to {self.most}, got {_shown(word)}")
        return int(word)


@dataclass(frozen=True, slots=True)
class Real:
    """A number from `least` to `most`, never NaN or infinite; as a function, reads it.

    Attributes:
        least: The least that is taken.
        most: The most.
        above: `least` itself is not taken.
    """

    least: float
    most: float
    above: bool = False

    def __call__(self, text: object) -> float:
        """Read a number.

        Raises:
            typer.BadParameter: It is none, or out of range.
        """
        word = str(text).strip()
        try:
            value = float(word) if "_" not in word else math.nan
        except ValueError:
            value = math.nan
        if not self.least <= value <= self.most or (self.above and value == self.least):
            start = f"above {self.least:g}, up to" if self.above else f"from {self.least:g} to"
            raise typer.BadParameter(f"expected a number {start} {self.most:g}, got {_shown(word)}")
        return value


def number(kind: Whole | Real, help: str, *flags: str, metavar: str | None = None) -> Any:
    """Return an option that takes a number of a kind.

    Args:
        kind: The kind.
        help: What the option is for.
        flags: How it is spelled, where that is not the parameter's name.
        metavar: What stands for the number in the help.
    """
    return typer.Option(*flags, parser=kind, metavar=metavar or ("N" if isinstance(kind, Whole) else "X"), help=help)


def _shown(word: str) -> str:
    return repr(word if len(word) <= _LONGEST else word[:_LONGEST] + "…")


COUNT = Whole(1, 10**9)
"""How many of something."""
COUNT_OR_NONE = Whole(0, 10**9)
"""How many of something, 0 for none."""
THREADS = Whole(1, MOST_THREADS)
"""Threads or processes."""
PIXELS = Whole(1, 1 << 14)
"""A side of a network's input."""
SEED = Whole(0, 2**63 - 1)
"""A seed."""
SHARE = Real(0.0, 1.0)
"""A share or a threshold."""
POINTS = Real(0.0, 100.0)
"""Points of 100."""
HOURS = Real(0.0, 10_000.0, above=True)
"""A length of training."""
RATE = Real(0.0, 100.0, above=True)
"""A learning rate."""
SECONDS = Real(0.0, 86_400.0)
"""A time to measure for."""
