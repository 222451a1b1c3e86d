"""Plain files of a bundle: what is read, how much of it, and what is refused on the way to it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from edgedet_runtime.bundle import plain_files
from edgedet_runtime.bundle.plain_files import read_plain_file, sha256_of_plain_file, strange_entries
from edgedet_runtime.errors import ModelFileError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with files at three depths."""
    root = tmp_path / "bundle"
    (root / "a/b").mkdir(parents=True)
    for place in ("", "a/", "a/b/"):
        (root / f"{place}file").write_bytes(b"0123456789")
    return root


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("path", ["file", "a/file", "a/b/file"])
def test_a_file_is_read_up_to_its_limit(folder: Path, path: str) -> None:
    before = descriptors()
    assert read_plain_file(folder, path, limit=10) == b"0123456789"
    assert sha256_of_plain_file(folder, path) == (10, hashlib.sha256(b"0123456789").hexdigest())
    with pytest.raises(ModelFileError, match=rf"{path}: expected at most 9 bytes, got more$"):
        read_plain_file(folder, path, limit=9)
    assert descriptors() == before


def test_a_large_file_is_hashed_in_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256)) * 5000
    (folder / "file").write_bytes(content)
    assert sha256_of_plain_file(folder, "file") == (len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(plain_files, "_BLOCK", 3)
    (folder / "file").write_bytes(content[:10])
    assert sha256_of_plain_file(folder, "file") == (10, hashlib.sha256(content[:10]).hexdigest())


def test_what_is_no_plain_file(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("file")
    (folder / "a/way").symlink_to("b")
    before = descriptors()
    for path, words in (
        ("gone", "No such file or directory"),
        ("a/gone/file", "No such file or directory"),
        ("pipe", "something else"),
        ("a", "something else"),
        ("link", "a symbolic link on the way"),
        ("a/way/file", "a symbolic link on the way"),
        ("file/file", "a symbolic link on the way"),
    ):
        with pytest.raises(ModelFileError, match=rf"bundle/{path}: expected a plain file, got {words}$"):
            read_plain_file(folder, path, limit=10)
    with pytest.raises(ModelFileError, match=r"gone/file: expected a plain file, got No such file"):
        read_plain_file(folder / "gone", "file", limit=10)
    assert descriptors() == before


def test_a_bundle_may_be_reached_through_a_link(folder: Path) -> None:
    (folder.parent / "current").symlink_to(folder)
    assert read_plain_file(folder.parent / "current", "a/file", limit=10) == b"0123456789"


def test_everything_in_a_bundle_that_is_not_listed(folder: Path) -> None:
    os.mkfifo(folder / "a/pipe")
    (folder / "a/b/link").symlink_to("/etc")
    (folder / "z").mkdir()
    listed = ["file", "a/b/file"]
    assert strange_entries(folder, listed) == [
        "a/b/link: is a symbolic link, and a signed bundle holds plain files only",
        "a/file: is not in the manifest",
        "a/pipe: is no plain file",
    ]
    with pytest.raises(ModelFileError, match=r"gone: cannot be read \(No such file or directory\)$"):
        strange_entries(folder / "gone", [])
