"""The colour detector as fixtures."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from tests.cli.colours import solid, write_colour_model


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the colour detector as a single file."""
    return write_colour_model(tmp_path_factory.mktemp("colours") / "colours.onnx")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Return a picture twice the input's size, in which the detector sees green and red."""
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), solid((20, 128, 255), (128, 192)))
    return path
