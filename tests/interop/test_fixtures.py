"""Official checkpoints of every family, all the way to `Detector`, against the official code's outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.classic_fixtures import CLASSIC_FIXTURES, ClassicFixture
from tests.interop.classic_ladder import run_classic_fixture
from tests.interop.ladder import run_fixture
from tests.runtime.official_fixtures import ALL_FIXTURES, RTMDET_FIXTURES


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.parametrize("name", [*ALL_FIXTURES, *RTMDET_FIXTURES])
def test_fixture_all_the_way(name: str, shared: Path, tmp_path: Path) -> None:
    result = run_fixture(shared / "fixtures" / name, tmp_path)
    assert result.passed, result
    assert result.detections > 0, "the fixture must have something to find"


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.parametrize("fixture", CLASSIC_FIXTURES, ids=lambda f: f.name)
def test_classic_fixture_all_the_way(fixture: ClassicFixture, shared: Path, tmp_path: Path) -> None:
    result = run_classic_fixture(fixture, shared / "fixtures", tmp_path)
    assert result.passed, result
    assert result.detections > 0, "the fixture must have something to find"
