"""torchvision's RetinaNet and FCOS: sizes and keys, old names, shapes, strictness, anchors, official pictures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from edgedet_models import families
from edgedet_models.backbones.resnet import ResNetShape, StageShape
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.families import fcos, retinanet
from edgedet_models.pyramid.dense import DenseShape, Fcos, RetinaNet
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

OFFICIAL = tuple(str(i) for i in range(91))
BASIC = ResNetShape(
    8, tuple(StageShape(n, 8 * k, 8 * k) for n, k in ((2, 1), (1, 2), (2, 3), (1, 4))), bottleneck=False
)
DEEP = ResNetShape(8, tuple(StageShape(1, 4 * k, 16 * k, groups=2) for k in (1, 2, 3, 4)), bottleneck=True)
SMALL = DenseShape(BASIC, 32, 32)
SMALL_V2 = DenseShape(DEEP, 32, 64, convs=3, norm=True)


@pytest.mark.parametrize(
    ("family", "variant", "parameters"),
    [
        (retinanet, "retinanet-r18", 21_048_471),
        (retinanet, "retinanet-r34", 31_156_631),
        (retinanet, "retinanet-r50", 34_068_119),
        (retinanet, "retinanet-r50-v2", 38_198_935),
        (fcos, "fcos-r18", 19_303_072),
        (fcos, "fcos-r34", 29_411_232),
        (fcos, "fcos-r50", 32_322_720),
    ],
)
def test_parameter_count(family: ModuleType, variant: str, parameters: int) -> None:
    """Official files have 91 outputs; with frozen BatchNorms, 53,120 of the r50's numbers count as buffers."""
    with torch.device("meta"):
        assert family.VARIANTS[variant](OFFICIAL).num_parameters == parameters


@pytest.mark.interop
@pytest.mark.parametrize(
    ("family", "variant", "official"),
    [
        (retinanet, "retinanet-r50", "retinanet_resnet50_fpn"),
        (retinanet, "retinanet-r50-v2", "retinanet_resnet50_fpn_v2"),
        (fcos, "fcos-r50", "fcos_resnet50_fpn"),
    ],
)
def test_keys_and_shapes_are_the_official_ones(family: ModuleType, variant: str, official: str, shared: Path) -> None:
    keys = json.loads((shared / f"facts/keys/torchvision-{official}.json").read_text())["keys"]
    with torch.device("meta"):
        own = {name: list(t.shape) for name, t in family.VARIANTS[variant](OFFICIAL).state_dict().items()}
    assert own == {name: shape for name, (shape, _) in keys.items()}


@pytest.mark.parametrize("shape", [SMALL, SMALL_V2, replace(SMALL, convs=2)])
@pytest.mark.parametrize("kind", [RetinaNet, Fcos])
def test_shape_is_read_off_the_tensors(kind: type[DetectorModule], shape: DenseShape) -> None:
    family = retinanet if kind is RetinaNet else fcos
    shape = shape if kind is RetinaNet else replace(shape, norm=False)
    detector = RetinaNet("custom", shape, COCO[:3]) if kind is RetinaNet else Fcos("custom", shape, COCO[:3])
    randomise(detector)
    assert_round_trip(family, detector, "custom")


def old_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a RetinaNet's tensors by the names that torchvision 0.12 gave them, with frozen BatchNorms."""
    renamed = {}
    for name, tensor in tensors.items():
        name = re.sub(r"(_blocks\.\d)\.0\.", r"\1.", name)
        name = re.sub(r"(_head\.conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", name)
        if not name.endswith("num_batches_tracked"):
            renamed[name] = tensor
    return renamed


def test_old_names_give_the_same_detector() -> None:
    detector = RetinaNet("custom", SMALL, COCO[:2])
    randomise(detector)
    old = old_names(dict(detector.state_dict()))
    assert "head.classification_head.conv.6.weight" in old
    assert "backbone.fpn.inner_blocks.2.bias" in old
    loaded = families.load(state_dict_checkpoint(old))
    assert isinstance(loaded, RetinaNet)
    for name, tensor in detector.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    "damage",
    [
        Damage("backbone.fpn.layer_blocks.1.0.bias", "drop", "1 tensors missing (first backbone.fpn.layer_blocks.1.0"),
        Damage("head.regression_head.bbox_reg.bias", "cut", "head.regression_head.bbox_reg.bias: expected shape 36 "),
        Damage("head.classification_head.cls_logits.bias", "cut", "expected 9 numbers per class, got 17"),
        Damage("backbone.body.bn1.bias", "add", "1 tensors not expected"),
        Damage("backbone.body.layer2.0.conv1.weight", "drop", "expected torchvision's RetinaNet state dict"),
    ],
    ids=lambda d: f"{d.action} {d.key}",
)
def test_damaged_state_dict_is_refused_in_one_line(damage: Damage) -> None:
    detector = RetinaNet("custom", SMALL, COCO[:2])
    assert_refused(retinanet, state_dict_checkpoint(damage.apply(detector.state_dict())), damage.words)


@pytest.mark.interop
@pytest.mark.parametrize("name", ["retinanet-r18-w0125-nc4", "fcos-r18-w0125-nc4"])
def test_pictures_and_anchors_are_the_official_ones(name: str) -> None:
    """torchvision normalizes before it resizes and pads, so that its padding is the exact mean color."""
    folder = fixture_folder(name)
    detector = families.load(read_checkpoint(folder / "checkpoint.pth"))
    spec = detector.spec.with_size(160, 192)
    assert worst_level(spec, folder) <= 1.0
    boxes, start = np.load(folder / "reference.npz")["anchors"], 0
    for level, (rows, cols) in zip(spec.decode.levels, ((20, 24), (10, 12), (5, 6), (3, 3), (2, 2)), strict=True):
        count = len(level.anchors_px)
        sizes = boxes[start : start + count, 2:] - boxes[start : start + count, :2]
        np.testing.assert_allclose(sizes, level.anchors_px, atol=1e-3)
        start += rows * cols * count
    assert start == len(boxes)
