"""The arm64 image, built from the one Dockerfile and run emulated: takes minutes, only with EDGEDET_DOCKER=1."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prove_arm64 import difference  # type: ignore[import-not-found]

SIZE_GOAL_BYTES = 260_000_000
SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "prove_arm64.py"
NEEDED = ("dockerd", "mmdebstrap", "qemu-aarch64-static")


def box(class_id: int, score: float, x0: float = 10.0) -> dict[str, object]:
    """Return a detection as the command line prints it."""
    return {"class_id": class_id, "score": score, "box_xyxy": [x0, 10.0, 50.0, 60.0]}


@pytest.mark.parametrize(
    ("other", "holds"),
    [
        ([box(1, 0.9), box(2, 0.5)], True),
        ([box(1, 0.905, 10.4), box(2, 0.5)], True),
        ([box(1, 0.9, 10.6), box(2, 0.5)], False),
        ([box(1, 0.92), box(2, 0.5)], False),
        ([box(1, 0.9), box(3, 0.5)], False),
        ([box(1, 0.9)], False),
    ],
)
def test_what_counts_as_alike(other: list[dict[str, object]], holds: bool) -> None:
    assert difference([box(1, 0.9), box(2, 0.5)], other)["holds"] is holds


def test_nothing_is_not_alike() -> None:
    assert difference([], [])["holds"] is False


@pytest.mark.docker
@pytest.mark.slow
def test_arm64_image_detects_what_x86_detects(tmp_path: Path) -> None:
    if os.environ.get("EDGEDET_DOCKER") != "1":
        pytest.skip("docker: builds and emulates an arm64 image for minutes; EDGEDET_DOCKER=1 runs it")
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid():
        pytest.skip(f"docker: needs root and {', '.join(missing) or 'nothing else'} (see docker/prove_arm64.py)")
    pytest.importorskip("torch", reason="docker: exporting needs torch")
    bundle, photo = _bundle(tmp_path), tmp_path / "photo.png"
    conf = _write_photo(bundle, photo)
    command = [sys.executable, str(SCRIPT), str(bundle), str(photo), "--conf", str(conf)]
    if work := os.environ.get("EDGEDET_DOCKER_WORK"):
        command += ["--work", work]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.stdout, done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["holds"], {"checks": result["checks"], "difference": result["difference"]}
    assert result["images"]["linux/arm64"]["bytes_all_layers"] <= SIZE_GOAL_BYTES


def _bundle(folder: Path) -> Path:
    """Export the built-in model for an input that an emulator can cope with."""
    from edgedet_export.config import ExportConfig
    from edgedet_export.pipeline import export

    return Path(export(None, ExportConfig(out=folder / "bundle", imgsz=(64, 96), formats=("onnx",))).bundle)


def _write_photo(bundle: Path, path: Path) -> float:
    """Write the bundle's own picture, three times as large, and return a threshold well above and below scores."""
    import cv2
    import numpy as np

    from edgedet_export.golden import threshold_in_gap
    from edgedet_runtime import Detector

    with np.load(bundle / "golden.npz") as arrays:
        image = cv2.resize(arrays["image_bgr"], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), image)
    with Detector(bundle, engine="onnxruntime", conf=0.0, threads=1) as detector:
        return float(threshold_in_gap(detector(image).scores))
