"""Darknet's ``.cfg`` text as sections that remember their line, for messages that name it.

The rules are darknet's own: white space counts for nothing, ``#`` and ``;`` start a comment line, the first
of two equal keys wins, and text after ``#`` in a value is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.short import short

__all__ = ["Section", "parse_cfg"]


_MOST_OF_A_NAME = 40
"""Characters of a section's name; none that is known has more, and it goes into messages."""


@dataclass(frozen=True, slots=True)
class Section:
    """One ``[kind]`` block.

    Attributes:
        kind: Name in the brackets, lower case.
        line: Line of the bracket, from 1.
        source: Name of the cfg, for messages.
        options: Value and line by key.
    """

    kind: str
    line: int
    source: str
    options: Mapping[str, tuple[str, int]]

    def error(self, message: str, key: str | None = None) -> CheckpointError:
        """Make the error that names this section, and the line of `key` if it was given."""
        line = self.options[key][1] if key is not None and key in self.options else self.line
        return CheckpointError(f"{self.source}: line {line}, [{self.kind}]: {message}")

    def text(self, key: str, default: str) -> str:
        """Return a value as text."""
        return self.options[key][0] if key in self.options else default

    def number(self, key: str, default: float) -> float:
        """Return a value as a float."""
        if key not in self.options:
            return default
        return self.numbers(key)[0]

    def integer(self, key: str, default: int, *, low: int = 0, high: int = 1 << 20) -> int:
        """Return a value as a whole number within bounds."""
        if key not in self.options:
            return default
        value = self.integers(key)[0]
        if not low <= value <= high:
            raise self.error(f"{key}: expected {low}..{high}, got {value}", key)
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a comma-separated value as whole numbers; the key must be there."""
        return tuple(int(v) for v in self.numbers(key, whole=True))

    def numbers(self, key: str, *, whole: bool = False) -> tuple[float, ...]:
        """Return a comma-separated value as numbers; the key must be there."""
        if key not in self.options:
            raise self.error(f"expected {key}=, which is missing")
        parts = [part for part in self.options[key][0].split(",") if part]
        try:
            values = tuple(float(part) for part in parts)
        except ValueError:
            values = ()
        if not values or not all(abs(v) < 1e9 for v in values) or (whole and any(v % 1 for v in values)):
            expected = "whole numbers" if whole else "numbers"
            raise self.error(f"{key}: expected {expected}, got {short(self.options[key][0])}", key)
        return values

    def refuse(self, *keys: str) -> None:
        """Raise if one of `keys` is set to anything but zero: features that are not supported."""
        for key in keys:
            if self.text(key, "0") not in ("0", "0.0", "none"):
                raise self.error(f"{key}={self.text(key, '')} is not supported", key)


def parse_cfg(text: str, source: str) -> tuple[Section, ...]:
    """Split a cfg into its sections, the first of which is ``[net]``.

    Args:
        text: Content of the file.
        source: Its name, for messages.

    Raises:
        CheckpointError: A line is neither section, option nor comment, or the first section is another.
    """
    sections: list[Section] = []
    options: dict[str, tuple[str, int]] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = "".join(raw.split())
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            options = {}
            sections.append(Section(line.strip("[]").lower()[:_MOST_OF_A_NAME], number, source, options))
            continue
        key, equals, value = line.partition("=")
        if not equals or not sections:
            raise CheckpointError(f"{source}: line {number}: expected [section] or key=value, got {raw[:40]!r}")
        options.setdefault(key, (value.partition("#")[0], number))
    if not sections or sections[0].kind not in ("net", "network"):
        got = f"[{sections[0].kind}]" if sections else "nothing"
        raise CheckpointError(f"{source}: expected a darknet cfg that begins with [net], got {got}")
    return tuple(sections)
