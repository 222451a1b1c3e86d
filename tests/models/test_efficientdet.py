"""EfficientDet: sizes and keys, shapes read off tensors, both origins, strictness, official outputs and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgedet_export.fuse import fuse
from edgedet_models import families
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.efficientdet.backbone import BlockShape, EfficientShape, down, pad
from edgedet_models.efficientdet.network import EfficientDet, EfficientDetShape
from edgedet_models.families import efficientdet
from tests.models.family_template import (
    COCO,
    Damage,
    assert_refused,
    assert_round_trip,
    fixture_folder,
    randomise,
    state_dict_checkpoint,
)


def small(*, gates: bool, counts: tuple[int, ...] = (1, 1, 2, 1, 1, 1, 1)) -> EfficientShape:
    """Return a narrow EfficientNet."""
    stages = []
    c = 8
    for number, count in enumerate(counts):
        blocks = []
        for _ in range(count):
            out = 8 + 4 * number
            hidden = c if number == 0 else 2 * c
            blocks.append(BlockShape(hidden, out, 5 if number % 2 else 3, 2 if gates else 0))
            c = out
        stages.append(tuple(blocks))
    return EfficientShape(8, tuple(stages))


LITE = EfficientDetShape(small(gates=False), 16, 2, 1, tf=True, fast=False)
D = EfficientDetShape(small(gates=True), 16, 1, 2, tf=False, fast=True)
CASES = {"lite": LITE, "d, torch": D, "d, tensorflow": replace(D, tf=True, cells=2)}


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [
        ("efficientdet-d0", 3_877_763),
        ("tf-efficientdet-d0", 3_880_067),
        ("tf-efficientdet-d1", 6_625_898),
        ("tf-efficientdet-d2", 8_097_039),
        ("tf-efficientdet-lite0", 3_243_470),
        ("tf-efficientdet-lite1", 4_248_318),
        ("tf-efficientdet-lite2", 5_252_334),
    ],
)
def test_parameter_count(variant: str, parameters: int) -> None:
    """The official files have 90 classes: COCO's ids, with holes."""
    with torch.device("meta"):
        assert efficientdet.VARIANTS[variant](tuple(map(str, range(90)))).num_parameters == parameters


@pytest.mark.interop
@pytest.mark.parametrize(
    "variant",
    ["efficientdet-d0", "tf-efficientdet-d0", "tf-efficientdet-d1", "tf-efficientdet-lite0", "tf-efficientdet-lite1"],
)
def test_keys_and_shapes_are_the_official_ones(variant: str, shared: Path) -> None:
    keys = json.loads((shared / f"facts/keys/effdet-{variant.replace('-', '_')}.json").read_text())["keys"]
    with torch.device("meta"):
        built = efficientdet.VARIANTS[variant](tuple(map(str, range(90)))).state_dict()
    assert {name: list(t.shape) for name, t in built.items()} == {name: shape for name, (shape, _) in keys.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("classes", [1, 3])
def test_shape_is_read_off_the_tensors(case: str, classes: int) -> None:
    detector = EfficientDet("custom", CASES[case], COCO[:classes])
    randomise(detector)
    for name, parameter in detector.named_parameters():
        if name.endswith("edge_weights"):
            nn.init.uniform_(parameter, -0.2, 1.0)
    assert_round_trip(efficientdet, detector, "custom")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_all_norms_fold_though_levels_share_convolutions(case: str) -> None:
    detector = EfficientDet("custom", CASES[case], COCO[:2])
    randomise(detector)
    detector.eval()
    picture = torch.rand(1, 3, 256, 128)
    with torch.no_grad():
        expected = detector(picture)
        fused, _ = fuse(detector, detector.small_input())
        assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
        for ours, theirs in zip(fused(picture), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 2)])
def test_paddings_of_tensorflow(size: tuple[int, int]) -> None:
    """On even sizes SAME pads a 3×3 at stride 2 by one at the end, a pooling there with nothing that counts."""
    x = torch.randn(1, 2, *size)
    padded = nn.functional.pad(x, (0, 1, 0, 1), value=-torch.inf)
    torch.testing.assert_close(down(same=True)(x), nn.functional.max_pool2d(padded, 3, 2))
    assert pad(3, 2, same=True)(x).shape[2:] == (size[0] + 1, size[1] + 1)
    assert pad(5, 2, same=True)(x).shape[2:] == (size[0] + 3, size[1] + 3)
    assert pad(3, 1, same=True)(x) is x
    assert pad(3, 2, same=False)(x) is x


def test_training_files_have_an_average_that_is_taken_and_anchors_that_are_left() -> None:
    plain, average = (EfficientDet("custom", LITE, COCO[:2]) for _ in range(2))
    randomise(average, seed=2)
    wrapped = [{f"model.{n}": t for n, t in d.state_dict().items()} for d in (plain, average)]
    for state in wrapped:
        state["anchors.boxes"] = torch.zeros(9, 4)
    content: Mapping[str, Any] = {
        "epoch": 2, "arch": "tf_efficientdet_lite0", "state_dict": wrapped[0], "state_dict_ema": wrapped[1],
    }  # fmt: skip
    loaded = families.load(Checkpoint(Path("checkpoint-2.pth.tar"), "torch-zip", "0" * 64, content))
    for name, tensor in average.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    "damage",
    [
        Damage("fpn.cell.1.fnode.3.after_combine.conv.bn.bias", "drop", "1 tensors missing (first fpn.cell.1.fnode.3"),
        Damage("box_net.predict.conv_pw.bias", "cut", "box_net.predict.conv_pw.bias: expected shape 36 "),
        Damage("class_net.bn_rep.0.4.bn.bias", "drop", "1 tensors missing (first class_net.bn_rep.0.4.bn.bias)"),
        Damage("backbone.bn1.bias", "add", "1 tensors not expected"),
        Damage("class_net.predict.conv_pw.bias", "cut", "expected 9 numbers per class, got 17"),
        Damage("backbone.conv_stem.weight", "drop", "expected an EfficientDet state dict"),
    ],
    ids=lambda d: f"{d.action} {d.key}",
)
def test_damaged_state_dict_is_refused_in_one_line(damage: Damage) -> None:
    detector = EfficientDet("custom", LITE, COCO[:2])
    assert_refused(efficientdet, state_dict_checkpoint(damage.apply(detector.state_dict())), damage.words)


@pytest.mark.interop
@pytest.mark.parametrize("name", ["effdet-tf_efficientdet_d0-w025-nc5", "effdet-tf_efficientdet_lite0-w025-nc4"])
def test_anchors_are_the_official_ones(name: str) -> None:
    """The smallest anchor is four cells wide, in lite networks three."""
    folder = fixture_folder(name)
    detector = families.load(read_checkpoint(folder / "checkpoint.pth"))
    boxes, start = np.load(folder / "reference.npz")["anchors_yxyx"], 0
    for level in detector.spec.decode.levels:
        sizes = (boxes[start : start + 9, 2:] - boxes[start : start + 9, :2])[:, ::-1]
        np.testing.assert_allclose(sizes, level.anchors_px, rtol=1e-5)
        start += 9 * (128 // level.stride) * (256 // level.stride)
    assert start == len(boxes)
