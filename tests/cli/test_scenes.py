"""`edgedet scenes`: what the name of OUT asks for, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedet.evaluation import load_dataset
from edgedet_models.scenes import SceneCache
from tests.cli.colors import refused, run

pytest.importorskip("zxingcpp", reason="the extra `train` is not installed")
pytest.importorskip("segno", reason="the extra `train` is not installed")

FEW = ("--count", "2", "--processes", "1", "--seed", "7")


def test_json_asks_for_a_labelled_set(tmp_path: Path) -> None:
    path = tmp_path / "new" / "val.json"
    result = run("scenes", str(path), *FEW)
    assert result.exit_code == 0
    assert result.stdout == f"2 scenes: {path}\n"
    assert [p.path.name for p in load_dataset(path).pictures] == ["00000007.jpg", "00000008.jpg"]


def test_folder_asks_for_a_cache_and_a_picture_for_a_sheet(tmp_path: Path) -> None:
    assert run("scenes", str(tmp_path / "cache"), *FEW).exit_code == 0
    assert len(SceneCache(tmp_path / "cache")) == 2
    assert run("scenes", str(tmp_path / "sheet.png"), *FEW).exit_code == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    refused(run("scenes", str(tmp_path / "file"), *FEW), "expected a folder, or a file whose name ends in .json")
    refused(run("scenes", str(tmp_path / "folder.json"), *FEW), "got a folder")
    refused(run("scenes", str(tmp_path / "file" / "val.json"), *FEW), "expected a place that can be written")
