"""Model files that once ended an engine: one line and exit code 2, from every command that opens them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.model_check import check_model
from tests.cli.colors import refused, run

pytestmark = pytest.mark.interop


def test_every_file_is_refused_before_an_engine(shared: Path, tmp_path: Path) -> None:
    picture = tmp_path / "gray.png"
    cv2.imwrite(str(picture), np.full((64, 64, 3), 128, np.uint8))
    files = sorted((shared / "hostile/engines").glob("*.onnx"))
    if not files:
        pytest.skip("interop: no model files among the hostile ones")
    for path in files:
        with pytest.raises(ModelFileError) as caught:
            check_model(path)
        assert "\n" not in str(caught.value)
        refused(run("export", path), path.name)
        refused(run("detect", path, picture, "--engine", "openvino"), path.name)
