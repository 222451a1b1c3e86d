"""The built-in model on real photos, which no training and no choice of a threshold has seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedet_models.builtin import builtin_checkpoint
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.families import load
from edgedet_models.training.validate import detect
from tests.benchmarks.bench_codes import score_photos

LEAST_RECALL = {"qr": 0.9, "datamatrix": 0.9, "aztec": 0.9, "pdf417": 0.9, "linear": 0.85}
MOST_FALSE_PER_NEGATIVE = 0.2


@pytest.mark.interop
@pytest.mark.slow
def test_codes_are_found_and_told_apart(shared: Path) -> None:
    model = load(read_checkpoint(builtin_checkpoint()))
    size, conf = model.spec.input.height, model.spec.thresholds.conf
    score = score_photos(lambda image: detect(model, image, size, conf=conf), shared / "data" / "codes-photos")
    assert {k: v for k, v in score.recall.items() if v < LEAST_RECALL[k]} == {}, score.recall
    assert score.false_per_photo <= MOST_FALSE_PER_NEGATIVE
