"""A bundle of the colour detector; the scripts in docker/ as importable modules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.colours import write_bundle

REPOSITORY = Path(__file__).resolve().parents[2]

sys.path += [str(REPOSITORY / "docker"), str(REPOSITORY / "docker" / "assemble")]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a bundle of the test's own."""
    return write_bundle(tmp_path / "bundle")
