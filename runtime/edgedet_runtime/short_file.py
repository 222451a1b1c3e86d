"""Files of text and settings, read whole into memory: with a bound, whatever a name leads to.

A link to ``/dev/zero`` never ends, and a file of holes says that it has a terabyte. Model files and pictures are not
read here: they are mapped, or hashed in pieces.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["DATASET_MB", "SETTINGS_MB", "read_short_bytes", "read_short_text"]

SETTINGS_MB = 64
"""Manifests, specs, reports, keys, labels of one picture: they have some kilobytes."""

DATASET_MB = 4096
"""The annotations of a data set: the largest public ones have a few gigabytes."""

_BLOCK = 1 << 20


def read_short_bytes(path: Path, *, at_most_mb: int = SETTINGS_MB) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        at_most_mb: Longest content, in MiB; of what is no plain file, `SETTINGS_MB` at the most. No more is read.

    Raises:
        OSError: It cannot be read, or is longer.
    """
    content = bytearray()
    with path.open("rb") as file:
        known = os.fstat(file.fileno())
        if not stat.S_ISREG(known.st_mode):
            at_most_mb = min(at_most_mb, SETTINGS_MB)
        if known.st_size > at_most_mb << 20:
            raise _too_long(path, at_most_mb)
        while block := file.read(_BLOCK):
            content += block
            if len(content) > at_most_mb << 20:
                raise _too_long(path, at_most_mb)
    return bytes(content)


def _too_long(path: Path, at_most_mb: int) -> OSError:
    return OSError(errno.EFBIG, f"expected at most {at_most_mb} MiB, got more", str(path))


def read_short_text(
    path: Path, *, at_most_mb: int = SETTINGS_MB, encoding: str = "utf-8", errors: str = "strict"
) -> str:
    """Return the text of a file as `Path.read_text` does, line ends as ``\\n``.

    Args:
        path: The file.
        at_most_mb: Longest content, in MiB; no more than that is read.
        encoding: Of the text.
        errors: What to do with bytes that are no text, see `bytes.decode`.

    Raises:
        OSError: It cannot be read, or is longer.
        UnicodeDecodeError: It is not in this encoding.
    """
    text = read_short_bytes(path, at_most_mb=at_most_mb).decode(encoding, errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")
