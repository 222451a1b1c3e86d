"""One writer to a place at a time: a folder is locked (``flock``) while its writer lives, and no longer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgedet_runtime.errors import InputError

__all__ = ["locked_folder", "try_lock"]


@contextmanager
def locked_folder(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder's lock while the block runs; a process that dies gives it back.

    Args:
        folder: What to lock.
        wait: Wait while another process has it.

    Raises:
        InputError: Another process has it, and `wait` is not set.
        OSError: The folder cannot be opened.
    """
    import fcntl  # not on Windows, where the runtime otherwise works

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if wait:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        else:
            try_lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, target: Path) -> None:
    """Lock an open folder at once.

    Args:
        descriptor: Of the folder.
        target: What is written, for the message.

    Raises:
        InputError: Another process has it.
    """
    import fcntl  # not on Windows, where the runtime otherwise works

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"{target}: expected to be the only one that writes there, got another process that is writing it now;"
            " wait for it, or choose another place"
        ) from None
