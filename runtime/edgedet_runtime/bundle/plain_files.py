"""Reading a bundle whose files are not to be trusted yet: plain files only, no symbolic link on the way to any.

A link could lead out of the bundle, or elsewhere tomorrow than today. Every folder on the way is opened relative to the
one before and no link is followed (``openat`` with ``O_NOFOLLOW``): none can be exchanged between a look and a read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from edgedet_runtime.errors import ModelFileError

__all__ = ["copy_plain_file", "read_plain_file", "sha256_of_plain_file", "strange_entries"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not keep us waiting
_BLOCK = 1 << 20


def read_plain_file(folder: Path, path: str, *, limit: int) -> bytes:
    """Return the content of a file of a bundle.

    Args:
        folder: The bundle; it may be reached through links.
        path: Within it, with forward slashes.
        limit: Bytes that it may have.

    Raises:
        ModelFileError: It is missing, a link, reached through one, no plain file, larger, or cannot be read.
    """
    with _opened(folder, path) as file:
        content = _read(file, folder / path, limit + 1)
    if len(content) > limit:
        raise ModelFileError(f"{folder / path}: expected at most {limit} bytes, got more")
    return content


def copy_plain_file(folder: Path, path: str, target: Path, *, limit: int) -> None:
    """Copy a file of a bundle.

    Args:
        folder: The bundle; it may be reached through links.
        path: Within it, with forward slashes.
        target: Where the copy shall be; its folder is made.
        limit: Bytes that it may have.

    Raises:
        ModelFileError: As `read_plain_file`.
        OSError: The copy cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as copy, _opened(folder, path) as file:
        size = 0
        while block := _read(file, folder / path):
            size += len(block)
            if size > limit:
                raise ModelFileError(f"{folder / path}: expected at most {limit} bytes, got more")
            copy.write(block)


def sha256_of_plain_file(folder: Path, path: str, *, limit: int) -> tuple[int, str]:
    """Return the size and the SHA-256, hexadecimal, of a file of a bundle.

    Args:
        folder: The bundle; it may be reached through links.
        path: Within it, with forward slashes.
        limit: Bytes that it may have; one that says it has more is not read, and its hash is empty.

    Raises:
        ModelFileError: As `read_plain_file`.
    """
    digest, size = hashlib.sha256(), 0
    with _opened(folder, path) as file:
        said = os.fstat(file.fileno()).st_size
        if said > limit:
            return said, ""
        while block := _read(file, folder / path):
            size += len(block)
            if size > limit:  # it grows
                raise ModelFileError(f"{folder / path}: expected at most {limit} bytes, got more")
            digest.update(block)
    return size, digest.hexdigest()


def strange_entries(folder: Path, listed: Collection[str]) -> list[str]:
    """Return what lies in a bundle and must not, one line each: links, devices and the like, files that are not listed.

    Args:
        folder: The bundle.
        listed: Paths within it, with forward slashes, that may be there.

    Raises:
        ModelFileError: A folder cannot be read.
    """
    return list(_strange(folder, PurePosixPath(), frozenset(listed)))


def _strange(folder: Path, below: PurePosixPath, listed: frozenset[str]) -> Iterator[str]:
    try:
        with os.scandir(folder / below) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as e:
        raise ModelFileError(f"{folder / below}: cannot be read ({e.strerror})") from None
    for entry in entries:
        path = below / entry.name
        if entry.is_symlink():
            yield f"{path}: is a symbolic link, and a signed bundle holds plain files only"
        elif entry.is_dir(follow_symlinks=False):
            yield from _strange(folder, path, listed)
        elif not entry.is_file(follow_symlinks=False):
            yield f"{path}: is no plain file"
        elif path.as_posix() not in listed:
            yield f"{path}: is not in the manifest"


def _read(file: BinaryIO, place: Path, size: int = _BLOCK) -> bytes:
    try:
        return file.read(size)
    except OSError as e:
        raise ModelFileError(f"{place}: cannot be read ({e.strerror or e})") from None


@contextmanager
def _opened(folder: Path, path: str) -> Iterator[BinaryIO]:
    *between, name = PurePosixPath(path).parts
    place = folder / path
    at = -1
    try:
        at = os.open(folder, _FOLDER)
        for part in between:
            below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        descriptor = os.open(name, _FILE, dir_fd=at)
    except OSError as e:
        link = e.errno in (errno.ELOOP, errno.ENOTDIR)
        what = "a symbolic link on the way" if link else e.strerror or str(e)
        raise ModelFileError(f"{place}: expected a plain file, got {what}") from None
    finally:
        if at >= 0:
            os.close(at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelFileError(f"{place}: expected a plain file, got something else")
    with os.fdopen(descriptor, "rb") as file:
        yield file
