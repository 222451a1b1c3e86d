"""The budget of one read: memory and work in proportion to the file, whatever the file says.

A pickle is a program for a stack machine. A few hundred bytes can copy one list into another again and again, build a
key whose hash takes hours, or print a value that holds itself a million times. So everything that costs memory or time
while a file is read is charged here, in bytes: each opcode, each item that is copied, each element that a tensor has
beyond its storage. An honest checkpoint stays far below the limit: a large network with its optimizer takes about
100,000 opcodes.
"""

from __future__ import annotations

from typing import Any

__all__ = ["COLLIDING_KEY", "ITEM", "OPCODE", "MalformedPickle", "ReadBudget", "brief"]

BASE_BYTES = 192 << 20
PER_FILE_BYTE = 16

OPCODE = 256
"""Bytes charged for an opcode: the largest object that one makes (an empty set, 216 bytes) and its place."""

ITEM = 128
"""Bytes charged for an item that is copied into a container: a slot of a dict, its share of the growth."""

COLLIDING_KEY = 1 << 16
"""Bytes charged for a dict key or set item whose hash a file can choose. Tuples and integers beyond 64 bits can be made
to collide, and inserting n of them then takes n² comparisons; the charge leaves room for some 3,000."""


class MalformedPickle(Exception):
    """The file is no checkpoint, is damaged, or would take more memory or time than its size allows."""


class ReadBudget:
    """Bytes that reading one file may still take: 192 MiB, and 16 for each byte of the file."""

    __slots__ = ("_left",)

    def __init__(self, file_bytes: int) -> None:
        """Give a file of so many bytes its budget."""
        self._left = BASE_BYTES + PER_FILE_BYTE * file_bytes

    def charge(self, n_bytes: int) -> None:
        """Take bytes off the budget.

        Raises:
            MalformedPickle: The budget is used up.
        """
        self._left -= n_bytes
        if self._left < 0:
            raise MalformedPickle(
                "it unfolds into far more than its size allows, as a file that is made to fill the memory does"
            )


def brief(value: Any) -> str:
    """Return a value from a file in at most some 60 characters, for a message.

    Containers are named by their kind only: their text could be endless.
    """
    if isinstance(value, str):
        return repr(value[:40]) + ("…" if len(value) > 40 else "")
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() < 128 else "a huge number"
    if isinstance(value, float):
        return repr(value)
    return f"a {type(value).__name__}"
