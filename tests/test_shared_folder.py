"""The shared folder is found in one place, so that `EDGEDET_SHARED` holds for every test and benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shared_folder import ROOT, shared_folder

TESTS = ROOT / "tests"


def test_the_environment_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEDET_SHARED", str(tmp_path))
    assert shared_folder() == tmp_path
    for nothing in ("", None):
        monkeypatch.delenv("EDGEDET_SHARED") if nothing is None else monkeypatch.setenv("EDGEDET_SHARED", nothing)
        assert shared_folder() == ROOT.parent / "shared"


def test_nothing_else_looks_for_it() -> None:
    here = {TESTS / "shared_folder.py", Path(__file__).resolve()}
    signs = ('/ "shared"', 'environ.get("EDGEDET_SHARED"', 'getenv("EDGEDET_SHARED"', '"../shared')
    others = [
        str(path.relative_to(ROOT))
        for path in sorted(TESTS.rglob("*.py"))
        if path not in here and any(sign in path.read_text(encoding="utf-8") for sign in signs)
    ]
    assert not others, "import tests.shared_folder (or take the fixture `shared`) instead"
