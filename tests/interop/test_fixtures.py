"""Official checkpoints of every family, all the way to `Detector`, against the official code's outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.ladder import run_fixture
from tests.runtime.official_fixtures import ALL_FIXTURES, RTMDET_FIXTURES


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.parametrize("name", [*ALL_FIXTURES, *RTMDET_FIXTURES])
def test_fixture_all_the_way(name: str, shared: Path, tmp_path: Path) -> None:
    result = run_fixture(shared / "fixtures" / name, tmp_path)
    assert result.passed, result
    assert result.detections > 0, "the fixture must have something to find"
