"""Files of a bundle that is not trusted yet: read whole or refused, no link followed, nothing left open."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgedet_runtime import ModelFileError
from edgedet_runtime.bundle.plain_files import copy_plain_file, read_plain_file, sha256_of_plain_file

CONTENT = bytes(range(256)) * 5000  # more than a block


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "sub/deeper").mkdir(parents=True)
    (folder / "sub/deeper/file").write_bytes(CONTENT)
    return folder


def read(folder: Path, path: str) -> None:
    read_plain_file(folder, path, limit=len(CONTENT))


def copy(folder: Path, path: str) -> None:
    copy_plain_file(folder, path, folder.parent / "copied/to/file", limit=len(CONTENT))


def hash_it(folder: Path, path: str) -> None:
    sha256_of_plain_file(folder, path, limit=len(CONTENT))


WAYS: list[Callable[[Path, str], object]] = [read, copy, hash_it]


def test_content_up_to_the_limit(folder: Path, tmp_path: Path) -> None:
    size = len(CONTENT)
    assert read_plain_file(folder, "sub/deeper/file", limit=size) == CONTENT
    assert sha256_of_plain_file(folder, "sub/deeper/file", limit=size) == (size, hashlib.sha256(CONTENT).hexdigest())
    copy_plain_file(folder, "sub/deeper/file", tmp_path / "x/y", limit=size)
    assert (tmp_path / "x/y").read_bytes() == CONTENT
    said = f"{folder}/sub/deeper/file: expected at most {size - 1} bytes"
    with pytest.raises(ModelFileError, match=said):
        read_plain_file(folder, "sub/deeper/file", limit=size - 1)
    with pytest.raises(ModelFileError, match=said):
        copy_plain_file(folder, "sub/deeper/file", tmp_path / "x/z", limit=size - 1)


def test_a_file_of_holes_is_not_read(folder: Path) -> None:
    with (folder / "sub/deeper/file").open("r+b") as file:
        file.truncate(1 << 42)
    assert sha256_of_plain_file(folder, "sub/deeper/file", limit=len(CONTENT)) == (1 << 42, "")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["missing", "link", "link to a folder", "pipe", "folder", "file as folder"])
def test_what_is_no_plain_file_is_refused_and_nothing_stays_open(
    folder: Path, way: Callable[[Path, str], object], what: str
) -> None:
    path = "sub/deeper/other"
    target = folder / path
    if what == "link":
        target.symlink_to("file")
    elif what == "link to a folder":
        (folder / "link").symlink_to("sub")
        path = "link/deeper/file"
    elif what == "pipe":
        os.mkfifo(target)
    elif what == "folder":
        target.mkdir()
    elif what == "file as folder":
        path = "sub/deeper/file/other"
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ModelFileError, match=f"{folder}/{path}: expected a plain file, got"):
        way(folder, path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("way", WAYS)
def test_a_read_that_fails_names_the_file(
    folder: Path, way: Callable[[Path, str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fdopen

    class Broken:
        def __init__(self, descriptor: int, mode: str) -> None:
            self.file = real(descriptor, mode)

        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *rest: object) -> None:
            self.file.close()

        def fileno(self) -> int:
            return self.file.fileno()

        def read(self, size: int) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdopen", Broken)
    with pytest.raises(ModelFileError, match=f"{folder}/sub/deeper/file: cannot be read .Input/output error"):
        way(folder, "sub/deeper/file")


def test_a_bundle_reached_through_a_link_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("folder")
    assert read_plain_file(tmp_path / "link", "sub/deeper/file", limit=1 << 30) == CONTENT
