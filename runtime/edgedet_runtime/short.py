"""A value that a file holds, as text for a message: bounded, on one line, in ASCII."""

from __future__ import annotations

import reprlib

__all__ = ["short"]

_MOST_CHARACTERS = 60
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxdict, _REPR.maxtuple = 2, 4, 4, 4
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _MOST_CHARACTERS


def short(value: object) -> str:
    """Return a value as ASCII text of bounded length on one line, whatever a file put into it."""
    try:
        text = _REPR.repr(value).encode("ascii", "backslashreplace").decode()
    except ValueError:  # Python does not write out integers of thousands of digits
        text = "a huge number"
    return text if len(text) <= 2 * _MOST_CHARACTERS else text[: 2 * _MOST_CHARACTERS] + "…"
