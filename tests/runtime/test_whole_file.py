"""A file has its old or its new content: after every fault, every kill, and with two writers."""

from __future__ import annotations

import os
import stat
import threading
from functools import partial
from pathlib import Path

import pytest

from edgedet_runtime.whole_file import _MARK, whole_file, write_whole_file
from tests.fault_injection import in_child

STEPS = ("open", "ftruncate", "fsync", "replace", "fchmod")


def test_content_and_rights(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_whole_file(tmp_path / "a", "ä")
        write_whole_file(tmp_path / "secret", b"\0", mode=0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_bytes() == "ä".encode()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "secret"]


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_old_or_new_after_every_fault_and_kill(tmp_path: Path, first: bool, kill: bool) -> None:
    stopped = 0
    for n in range(100):
        target = tmp_path / str(n) / "state"
        target.parent.mkdir()
        if not first:
            write_whole_file(target, "old and long")
        code = in_child(partial(write_whole_file, target, "new"), n, "kill before" if kill else "fail", STEPS)
        assert code in (0, 9 if kill else 3)
        stopped += code != 0
        seen = target.read_text() if target.exists() else None
        assert seen in (("new",) if code == 0 else (None if first else "old and long", "new"))
        write_whole_file(target, "next")
        assert target.read_text() == "next"
        assert [p.name for p in target.parent.iterdir()] == ["state"]
        if code == 0:
            break
    assert stopped >= 6


def test_a_failing_block_leaves_the_old_content(tmp_path: Path) -> None:
    write_whole_file(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a") as file:
        file.write(bytes(1 // (file.write(b"half") - 4)))
    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_second_writer_waits(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a") as file:
        other = threading.Thread(target=write_whole_file, args=(tmp_path / "a", "second"))
        other.start()
        file.write(b"first")
        assert not (tmp_path / "a").exists()
    other.join(10)
    assert (tmp_path / "a").read_text() == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_link_in_the_making_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("x")
    (tmp_path / ".a.edgedet-new").symlink_to("diary")
    with pytest.raises(OSError, match="symbolic links"):
        write_whole_file(tmp_path / "a", "y")
    assert (tmp_path / "diary").read_text() == "x"


def test_nothing_of_a_killed_writer_stays_in_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / f".f{_MARK}new").write_bytes(b"half of something")
    write_whole_file(tmp_path / "f", b"")
    assert (tmp_path / "f").read_bytes() == b""
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
