"""YOLOX: sizes, recognition from shapes, strictness, and the official code's outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.families import yolox
from edgedet_models.families.yolox import Yolox, YoloxConfig
from tests.models.family_template import (
    COCO,
    Damage,
    assert_detections,
    assert_raw,
    assert_refused,
    assert_round_trip,
    decoded_rows,
    fixture_folder,
    randomise,
    run,
    state_dict_checkpoint,
    worst_relative,
)


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [
        ("yolox-nano", 912_159),
        ("yolox-tiny", 5_055_855),
        ("yolox-s", 8_968_255),
        ("yolox-m", 25_326_495),
        ("yolox-l", 54_208_895),
        ("yolox-x", 99_071_455),
    ],
)
def test_parameter_count(variant: str, parameters: int) -> None:
    with torch.device("meta"):
        assert yolox.VARIANTS[variant](COCO).num_parameters == parameters


@pytest.mark.parametrize(
    ("config", "classes", "variant"),
    [
        (YoloxConfig(16, 1, 1, depthwise=True), 80, "yolox-nano"),
        (YoloxConfig(16, 1, 1), 3, "custom"),
        (YoloxConfig(8, 2, 1, depthwise=True), 1, "custom"),
    ],
)
def test_size_is_read_off_the_shapes(config: YoloxConfig, classes: int, variant: str) -> None:
    detector = Yolox(config, yolox._spec("custom", COCO[:classes]))
    randomise(detector)
    assert_round_trip(yolox, detector, variant)


@pytest.mark.parametrize(
    "damage",
    [
        Damage("backbone.C3_n4.conv1.conv.weight", "drop", "1 tensors missing (first backbone.C3_n4.conv1"),
        Damage("backbone.C3_n4.conv1.bn.bias", "add", "1 tensors not expected"),
        Damage("head.stems.1.conv.weight", "cut", "head.stems.1.conv.weight: expected shape 32x64x1x1"),
        Damage("head.cls_preds.0.weight", "drop", "expected a YOLOX state dict"),
    ],
    ids=lambda d: d.action,
)
def test_damaged_state_dict_is_refused_in_one_line(damage: Damage) -> None:
    detector = Yolox(YoloxConfig(8, 1, 1, depthwise=True), yolox._spec("custom", COCO[:2]))
    assert_refused(yolox, state_dict_checkpoint(damage.apply(detector.state_dict())), damage.words)


def test_foreign_state_dict_is_not_recognised() -> None:
    assert yolox.recognise(state_dict_checkpoint({"model.0.conv.weight": torch.zeros(16, 3, 6, 6)})) is None


@pytest.mark.interop
def test_official_outputs() -> None:
    folder = fixture_folder("yolox-nano")
    detector = yolox.load(read_checkpoint(folder / "checkpoint.pth"))
    reference = np.load(folder / "reference.npz")
    outputs = run(detector, reference["input"])
    names = {"boxes": "reg", "objectness": "obj", "scores": "cls"}
    assert_raw(
        outputs,
        {f"{ours}_{i}": reference[f"raw_{theirs}_preds_{i}"] for ours, theirs in names.items() for i in range(3)},
    )
    boxes, scores = decoded_rows(detector, outputs)
    assert detector.num_parameters == 912_159
    assert worst_relative(boxes, reference["decoded"][..., :4]) <= 1e-4
    assert worst_relative(scores, reference["decoded"][..., 4:5] * reference["decoded"][..., 5:]) <= 1e-4
    assert_detections(folder, detector, outputs)
