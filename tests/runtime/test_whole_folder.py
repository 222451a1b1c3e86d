"""A folder is complete or absent: after every fault and every kill, the old one or the new one is there."""

from __future__ import annotations

import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime import whole_folder as module
from edgedet_runtime.errors import InputError
from edgedet_runtime.whole_folder import whole_folder
from tests.fault_injection import fail, in_child, stop_at

STEPS = ("rename", "fsync", "close", "open")
"""Calls of `os` at which a writer can fail or end."""


def write(target: Path, text: str) -> None:
    with whole_folder(target) as folder:
        (folder / "a").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub/b").write_text(text)


def content(target: Path) -> str | None:
    """Return the text of a complete folder; None where there is none; fail where it is mixed or partial."""
    if not target.exists():
        return None
    a, b = (target / "a").read_text(), (target / "sub/b").read_text()
    assert a == b
    assert sorted(p.name for p in target.iterdir()) == ["a", "sub"]
    return a


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swap in one step, and as on a system that cannot."""
    if request.param == "two renames":
        monkeypatch.setattr(module, "_exchange", lambda: None)


@pytest.mark.parametrize("first", [True, False])
def test_a_failing_call_leaves_the_old_or_the_new(first: bool, tmp_path: Path, way: None) -> None:
    failures = 0
    for n in range(200):
        target = tmp_path / str(n) / "bundle"
        if not first:
            write(target, "old")
        with pytest.MonkeyPatch.context() as patched:
            stop_at(patched, n, fail, STEPS)
            try:
                write(target, "new")
                finished = True
            except OSError:
                finished = False
        failures += not finished
        assert content(target) in (("new",) if finished else (None if first else "old", "new"))
        write(target, "next")
        assert content(target) == "next"
        assert [p.name for p in target.parent.iterdir()] == ["bundle"]
        if finished and n > failures:
            break
    assert failures >= 8


@pytest.mark.parametrize("first", [True, False])
def test_a_kill_leaves_the_old_or_the_new(first: bool, tmp_path: Path, way: None) -> None:
    kills = 0
    for n in range(200):
        target = tmp_path / str(n) / "bundle"
        if not first:
            write(target, "old")
        code = in_child(partial(write, target, "new"), n, "kill before", STEPS)
        assert code in (0, 9)
        killed = code == 9
        kills += killed
        if not first and not killed:
            assert content(target) == "new"
        left = content(target)
        if left is None and not first:  # between two renames: the next writer brings the old one back
            assert (target.parent / ".bundle.edgedet-old").exists()
            with whole_folder(target) as folder:
                assert content(target) == "old"
                shutil.copytree(target, folder, dirs_exist_ok=True)
        write(target, "next")
        assert content(target) == "next"
        assert [p.name for p in target.parent.iterdir()] == ["bundle"]
        if not killed:
            break
    assert kills >= 8


def test_a_second_writer_to_the_same_place_is_told(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "b") as folder:
        (folder / "a").write_text("1")
        with pytest.raises(InputError, match="another process that is writing it now"), whole_folder(tmp_path / "b"):
            pass
        assert (folder / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with whole_folder(tmp_path / "b") as folder:
            (folder / "half").write_text("1")
            (tmp_path / "ready").touch()
            time.sleep(60)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert (tmp_path / ".b.edgedet-new/half").exists()
    write(tmp_path / "b", "new")
    assert content(tmp_path / "b") == "new"
    shutil.rmtree(tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["ready"]


@pytest.mark.parametrize("first", [True, False])
def test_the_next_writer_keeps_what_it_began_while_the_one_before_clears_up(
    first: bool, tmp_path: Path, way: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next writer comes when the new folder is in place and its writer is about to clear up."""
    target = tmp_path / "b"
    if not first:
        write(target, "old")
    real = module._sync
    begun: list[Any] = []

    def sync_and_let_another_begin(path: Path) -> None:
        real(path)
        if path == target.parent and not begun:
            begun.append(whole_folder(target))
            try:
                folder = begun[0].__enter__()
                (folder / "a").write_text("next")
            except InputError:
                begun[:] = [None]

    with monkeypatch.context() as patched:
        patched.setattr(module, "_sync", sync_and_let_another_begin)
        write(target, "new")
    assert content(target) == "new"
    if begun[0] is not None:
        assert (tmp_path / ".b.edgedet-new/a").read_text() == "next"
        begun[0].__exit__(ValueError, ValueError(), None)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_link_stays_and_its_folder_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "v1", "old")
    (tmp_path / "current").symlink_to("v1")
    write(tmp_path / "current", "new")
    assert (tmp_path / "current").is_symlink()
    assert content(tmp_path / "v1") == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["current", "v1"]


def test_a_link_at_the_place_of_the_folder_in_the_making_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/me.jpg").write_text("x")
    (tmp_path / ".b.edgedet-new").symlink_to("photos")
    with pytest.raises(OSError, match=r"\.b\.edgedet-new"):
        write(tmp_path / "b", "new")
    assert (tmp_path / "photos/me.jpg").read_text() == "x"
    assert not (tmp_path / "b").exists()
