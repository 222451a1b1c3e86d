"""The color detector as fixtures."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from tests.cli.colors import solid, write_color_model


@pytest.fixture(scope="session")
def color_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the color detector as a single file."""
    return write_color_model(tmp_path_factory.mktemp("colors") / "colors.onnx")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Return a picture twice the input's size, in which the detector sees green and red."""
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), solid((20, 128, 255), (128, 192)))
    return path
