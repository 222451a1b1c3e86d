"""Texts out of files, made fit for one line and for a terminal."""

from __future__ import annotations

import re

__all__ = ["UNPRINTABLE", "printable", "shown"]

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls (C0, DEL, C1), line and paragraph separators, marks that reverse text, and halves of surrogate pairs."""


def printable(text: str, *, keep: str = "") -> str:
    """Return a text in which nothing can command a terminal: such characters become escapes as ``\\x1b``.

    Names come from files: of classes, of pictures, of layers. Escape sequences in them could move the cursor, rewrite
    what stands above, or worse.

    Args:
        text: Any text.
        keep: Characters that stay as they are, such as a line feed.
    """
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def shown(name: str) -> str:
    """Return a name out of a file as a message shows it: one line, without control characters, not too long."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= 60 else text[:60] + "…"
