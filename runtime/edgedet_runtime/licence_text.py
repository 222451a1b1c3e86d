"""A license as files state it, in few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["licence_of"]

KEYS = ("license", "licence")
MAX_LENGTH = 80
NAMES = frozenset(["mit", "isc", "unlicense", "proprietary", "zlib"])
"""License identifiers without a version number."""


def licence_of(metadata: Mapping[Any, Any]) -> str | None:
    """Return the license in a file's metadata, as an identifier where its first word is one.

    Args:
        metadata: Texts by key; other values count as none.

    Returns:
        Such as ``AGPL-3.0`` for ``AGPL-3.0 License (https://…)``; words that are no identifier in one line, cut to 80
        characters; None where there is none.
    """
    for key in KEYS:
        text = metadata.get(key)
        words = text.split() if isinstance(text, str) else []
        if not words or not words[0][0].isalpha():
            continue
        first = words[0].strip(",;()")
        is_identifier = first.lower() in NAMES or any(c.isdigit() for c in first)
        return first if is_identifier else " ".join(words)[:MAX_LENGTH]
    return None
