"""A file that has its old content or its new content, whatever happens while it is written.

The content goes into a file beside the target, is brought to the disk, and takes the target's name in one step; then
the folder is brought to the disk. A process that is killed, or a machine that loses power, leaves the old content or
the new one. The file in the making has a fixed name, so what a killed writer left is taken over by the next one; it is
locked (``flock``) while its writer lives, and a second writer to the same place waits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["remove_leftovers", "whole_file", "write_whole_file"]

_MARK = ".edgedet-"


@contextmanager
def whole_file(target: Path, *, mode: int = 0o644, previous: Path | None = None) -> Iterator[BinaryIO]:
    """Yield an empty file whose content becomes that of `target` if the block ends well, and is removed if not.

    Args:
        target: Where the content shall be. What is there is replaced; a symbolic link itself, not what it leads to.
        mode: Rights of the file.
        previous: Where to keep the old content; None: nowhere. A process killed between the two renames leaves it there
            and nothing at `target`.

    Raises:
        OSError: The place cannot be written.
    """
    aside = target.with_name(f".{target.name}{_MARK}new")
    with _locked(aside, mode) as file:
        try:
            os.ftruncate(file.fileno(), 0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if previous is not None and target.exists():
                os.replace(target, previous)
            os.replace(aside, target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_whole_file(target: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Write a file in one step, see `whole_file`; text becomes UTF-8.

    Raises:
        OSError: The place cannot be written.
    """
    with whole_file(target, mode=mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left in a folder; nobody may be writing there."""
    for aside in folder.glob(f".*{_MARK}*"):
        if aside.is_symlink() or aside.is_file():
            aside.unlink(missing_ok=True)


def _locked(path: Path, mode: int) -> BinaryIO:
    """Open a file for writing, when no other process writes it."""
    import fcntl  # not on Windows, where the runtime otherwise works

    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, mode), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.fchmod(file.fileno(), mode)
            if os.path.samestat(os.fstat(file.fileno()), os.lstat(path)):
                return file
        except FileNotFoundError:
            pass  # its writer has put it in place, or removed it: the name is free
        except BaseException:
            file.close()
            raise
        file.close()
