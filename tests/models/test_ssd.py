"""torchvision's SSDs: published sizes, widths read off shapes, strictness, official pictures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.families import ssd
from edgedet_models.ssd.lite import BOXES as LITE_BOXES
from edgedet_models.ssd.lite import FULL_TAIL, REDUCED_TAIL, LiteWidths, SsdLite
from edgedet_models.ssd.vgg import BOXES, Ssd, SsdWidths
from tests.models.family_template import (
    COCO,
    Damage,
    assert_refused,
    assert_round_trip,
    fixture_folder,
    randomise,
    state_dict_checkpoint,
    worst_level,
)

SMALL = SsdWidths((4, 4, 4, 6, 8, 8, 8, 8, 8, 10), (8, 8, 12, 16, 20), ((4, 6), (4, 8), (4, 8), (4, 12)))
LITE = LiteWidths(
    8,
    (
        *((8, 8), (24, 16), (32, 16), (32, 16), (40, 16), (48, 24), (56, 24), (64, 24), (72, 24), (80, 32), (88, 32)),
        *((96, 32), (104, 40), (112, 40), (120, 40)),
    ),
    48,
    ((16, 32), (8, 24), (8, 24), (8, 16)),
)


@pytest.mark.parametrize(
    ("variant", "classes", "parameters"),
    [
        ("ssd300-vgg16", 90, 35_641_826),
        ("ssd300-vgg16", 4, 24_146_894),
        ("ssdlite320-mobilenetv3", 90, 3_440_060),
        ("ssdlite320-mobilenetv3", 4, 2_248_100),
    ],
)
def test_parameter_count(variant: str, classes: int, parameters: int) -> None:
    """torchvision's weights for COCO have 91 outputs: background, and ids 1 to 90."""
    with torch.device("meta"):
        assert ssd.VARIANTS[variant](tuple(map(str, range(classes)))).num_parameters == parameters


@pytest.mark.parametrize(("boxes", "rows"), [(BOXES, 8732), (LITE_BOXES, 3234)])
def test_number_of_default_boxes(boxes: object, rows: int) -> None:
    detector = Ssd("custom", SMALL, COCO[:2]) if boxes is BOXES else SsdLite("custom", LITE, COCO[:2])
    with torch.no_grad():
        raw = detector.eval()(detector.dummy_input())
    levels = zip(detector.spec.decode.levels, raw[::2], strict=True)
    assert sum(len(level.anchors_px) * t.shape[2] * t.shape[3] for level, t in levels) == rows


@pytest.mark.parametrize("size", [SMALL, LITE, dataclasses.replace(LITE, last=24)])
@pytest.mark.parametrize("classes", [1, 3])
def test_widths_are_read_off_the_shapes(size: SsdWidths | LiteWidths, classes: int) -> None:
    names = COCO[:classes]
    detector = Ssd("custom", size, names) if isinstance(size, SsdWidths) else SsdLite("custom", size, names)
    randomise(detector)
    assert_round_trip(ssd, detector, "custom")


@pytest.mark.parametrize(
    ("tail", "variant"),
    [(REDUCED_TAIL, "ssdlite320-mobilenetv3"), (FULL_TAIL, "ssdlite320-mobilenetv3-full")],
)
def test_both_tails_are_told_apart(tail: LiteWidths, variant: str) -> None:
    checkpoint = state_dict_checkpoint(SsdLite("any", tail, COCO[:2]).state_dict())
    recognition = ssd.recognise(checkpoint)
    assert recognition is not None
    assert (recognition.variant, len(recognition.classes)) == (variant, 2)


@pytest.mark.parametrize(
    "damage",
    [
        Damage("backbone.extra.2.0.weight", "cut", "backbone.extra.2.0.bias: expected shape 3 for"),
        Damage("head.regression_head.module_list.5.bias", "drop", "1 tensors missing (first head.regression_head"),
        Damage("backbone.features.0.bias", "add", "1 tensors not expected"),
        Damage("head.classification_head.module_list.0.bias", "cut", "expected 4 times background and classes, got 11"),
        Damage("backbone.scale_weight", "drop", "expected an SSD300 or SSDLite state dict"),
    ],
    ids=lambda d: f"{d.action} {d.key}",
)
def test_damaged_state_dict_is_refused_in_one_line(damage: Damage) -> None:
    detector = Ssd("custom", SMALL, COCO[:2])
    assert_refused(ssd, state_dict_checkpoint(damage.apply(detector.state_dict())), damage.words)


@pytest.mark.interop
@pytest.mark.parametrize("name", ["ssd300-vgg16-w0100-nc4", "ssdlite320-mnv3-w035-nc4"])
def test_pictures_and_priors_are_the_official_ones(name: str) -> None:
    """torchvision normalizes before it resizes; a rounding to 8 bits, and OpenCV's 11-bit weights, lie between."""
    folder = fixture_folder(name)
    detector = ssd.load(read_checkpoint(folder / "checkpoint.pth"))
    assert worst_level(detector.spec, folder) <= 0.75
    boxes = np.load(folder / "reference.npz")["anchors"].reshape(-1, 2, 2)
    sizes = boxes[:, 1] - boxes[:, 0]
    first = detector.spec.decode.levels[0]
    np.testing.assert_allclose(sizes[: len(first.anchors_px)], first.anchors_px, atol=1e-3)
