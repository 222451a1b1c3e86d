"""What training stores beside the weights comes back with every family."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.families import build, load, recognise
from edgedet_models.training.state import save_weights
from edgedet_runtime.spec import Thresholds

pytest.importorskip("safetensors", reason="the extra `train` is not installed")


@pytest.mark.parametrize("variant", ["yolov5n", "yolov5n-shufflenetv2", "edgecode-n"])
def test_names_thresholds_and_size_survive(variant: str, tmp_path: Path) -> None:
    model = build(variant, ("cat", "dog"))
    spec = model.spec.replace(thresholds=Thresholds(conf=0.37, iou=0.6))
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, spec)
    checkpoint = read_checkpoint(path)
    assert recognise(checkpoint)[0].classes == ("cat", "dog")
    loaded = load(checkpoint)
    assert loaded.spec.classes == ("cat", "dog")
    assert loaded.spec.thresholds.conf == 0.37
    assert loaded.spec.decode == spec.decode
