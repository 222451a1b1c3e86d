"""A folder that is complete or absent, whatever happens while it is written.

The content is written into a folder beside the target, brought to the disk, and put in the target's place in one
step: by exchanging the two names where the system can (Linux's ``renameat2`` with ``RENAME_EXCHANGE``), else by moving
the old folder aside first. A process that is killed, or a machine that loses power, leaves the old folder or the new
one. What it leaves beside them is put in order by the next writer to the same place.

The folder in the making has a fixed name and is locked (``flock``) while its writer lives, so two writers to one place
cannot mix: the second one ends with an error, and a folder that nobody has locked was left by a killed one.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgedet_runtime.one_writer import try_lock

__all__ = ["whole_folder"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` if the block ends well, and is removed if not.

    Args:
        target: Where the folder shall be. Its parents are made. A folder that is there is replaced; where `target` is a
            symbolic link, the folder that it leads to is.

    Raises:
        InputError: Another process is writing to the same place.
        OSError: The place cannot be written.
    """
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    new, old = (target.parent / f".{target.name}.edgedet-{what}" for what in ("new", "old"))
    ours = [_lock(new, target)]
    try:
        _recover(target, old)
        _empty(new)
        new.chmod(0o755)
        yield new
        _sync_tree(new)
        if target.exists():
            ours.append(_lock(target, target))  # it is about to get the name that the next writer locks
            _swap(new, target, old)
        else:
            os.rename(new, target)
        _sync(target.parent)
    finally:
        for rest in (new, old) if target.exists() else (new,):
            if any(_is_at(folder, rest) for folder in ours):  # the name may already be the next writer's
                shutil.rmtree(rest, ignore_errors=True)
        with ExitStack() as closing:
            for folder in ours:
                closing.callback(os.close, folder)


def _lock(folder: Path, target: Path) -> int:
    """Make a folder, or take over one that is there (the one in the making may be a killed process's); return its
    locked descriptor."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # its writer has just put it in place
        try:
            try_lock(descriptor, target)
        except BaseException:
            os.close(descriptor)
            raise
        if _is_at(descriptor, folder):
            return descriptor
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open folder is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _recover(target: Path, old: Path) -> None:
    """Finish what a killed process began: bring the old folder back, or remove it where the new one is in place."""
    if old.exists() and not target.exists():
        os.rename(old, target)
    shutil.rmtree(old, ignore_errors=True)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _swap(new: Path, target: Path, old: Path) -> None:
    """Put `new` in the place of `target`."""
    exchange = _exchange()
    if exchange is not None and exchange(new, target):
        return
    os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        os.rename(old, target)
        raise


def _exchange() -> Callable[[Path, Path], bool] | None:
    """Return a function that exchanges two names in one step and says whether it did; None where there is none."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return None

    def exchange(a: Path, b: Path) -> bool:
        names = os.fsencode(a), os.fsencode(b)
        return bool(call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)

    return exchange


def _sync_tree(folder: Path) -> None:
    """Bring every file and folder below `folder`, and itself, to the disk."""
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(root, name))
        _sync(Path(root))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
