"""CenterNet on ResNets: sizes and keys, shapes read off tensors, strictness and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgedet_models.backbones.dla import UNUSED
from edgedet_models.backbones.resnet import ResNetShape, StageShape
from edgedet_models.centernet.dla import CenterNetDla, DlaShape
from edgedet_models.centernet.network import CenterNet, CenterNetShape
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.families import centernet
from tests.models.family_template import (
    COCO,
    Damage,
    assert_refused,
    assert_round_trip,
    fixture_folder,
    randomise,
    state_dict_checkpoint,
)

BODY = ResNetShape(8, tuple(StageShape(n, 8 * k, 8 * k) for n, k in ((1, 1), (2, 2), (1, 3), (1, 4))), bottleneck=False)
SMALL = CenterNetShape(BODY, (16, 12, 8), 6)
DLA = DlaShape((4, 8, 12, 16, 20, 24), 6)


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [
        ("centernet-r18", 15_820_372),
        ("centernet-r34", 25_928_532),
        ("centernet-r50", 34_443_348),
        ("centernet-r101", 53_435_476),
        ("centernet-dlav0-34", 17_919_748),
    ],
)
def test_parameter_count(variant: str, parameters: int) -> None:
    with torch.device("meta"):
        assert centernet.VARIANTS[variant](COCO).num_parameters == parameters


@pytest.mark.interop
@pytest.mark.parametrize(
    ("variant", "official"),
    [("centernet-r18", "res_18"), ("centernet-r50", "res_50"), ("centernet-dlav0-34", "dlav0_34")],
)
def test_keys_and_shapes_are_the_official_ones(variant: str, official: str, shared: Path) -> None:
    keys = json.loads((shared / f"facts/keys/centernet-{official}.json").read_text())["keys"]
    with torch.device("meta"):
        own = {name: list(t.shape) for name, t in centernet.VARIANTS[variant](COCO).state_dict().items()}
    assert own == {name: shape for name, (shape, _) in keys.items() if not name.startswith(UNUSED)}


@pytest.mark.parametrize("shape", [SMALL, replace(SMALL, head=0), replace(SMALL, offsets=False, up=(16, 8))])
@pytest.mark.parametrize("classes", [1, 3])
def test_shape_is_read_off_the_tensors(shape: CenterNetShape, classes: int) -> None:
    detector = CenterNet("custom", shape, COCO[:classes])
    randomise(detector)
    loaded = assert_round_trip(centernet, detector, "custom")
    assert loaded.spec.decode.cell_offset == (0.0 if shape.offsets else 0.5)


@pytest.mark.parametrize("shape", [DLA, replace(DLA, head=0, offsets=False)])
def test_shape_of_a_dla_is_read_off_the_tensors(shape: DlaShape) -> None:
    detector = CenterNetDla("custom", shape, COCO[:2])
    randomise(detector)
    assert_round_trip(centernet, detector, "custom")


def test_tensors_that_nothing_reads_are_left_out() -> None:
    detector = CenterNetDla("custom", DLA, COCO[:2])
    more = {"base.fc.weight": torch.zeros(1000, 24, 1, 1), "base.level3.project.0.weight": torch.zeros(16, 12, 1, 1)}
    loaded = centernet.load(state_dict_checkpoint(dict(detector.state_dict()) | more))
    assert loaded.num_parameters == detector.num_parameters


@pytest.mark.parametrize(
    "damage",
    [
        Damage("deconv_layers.4.bias", "drop", "1 tensors missing (first deconv_layers.4.bias)"),
        Damage("reg.0.bias", "cut", "reg.0.bias: expected shape 6 "),
        Damage("bn1.bias", "add", "1 tensors not expected"),
        Damage("hm.2.weight", "drop", "expected a CenterNet state dict on a ResNet or DLA-34"),
        Damage("wh.2.weight", "cut", "got 1 numbers (cat_spec_wh)"),
    ],
    ids=lambda d: f"{d.action} {d.key}",
)
def test_damaged_state_dict_is_refused_in_one_line(damage: Damage) -> None:
    detector = CenterNet("custom", SMALL, COCO[:2])
    assert_refused(centernet, state_dict_checkpoint(damage.apply(detector.state_dict())), damage.words)


@pytest.mark.interop
def test_deformable_convolutions_are_refused_by_name() -> None:
    checkpoint = read_checkpoint(fixture_folder("centernet-resdcn18-w0125-nc3") / "checkpoint.pth")
    assert_refused(centernet, checkpoint, "deformable convolutions (DCNv2)")
