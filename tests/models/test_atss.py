"""ATSS: sizes and keys, both forms, names from mmdet's meta data, strictness, official anchors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgedet_export.config import ExportConfig
from edgedet_export.pipeline import export
from edgedet_models import families
from edgedet_models.backbones.resnet import ResNetShape, StageShape
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.families import atss
from edgedet_models.pyramid.atss import Atss, AtssShape
from edgedet_runtime.errors import ArgumentError
from edgedet_runtime.preprocess import Preprocessor
from tests.models.family_template import (
    COCO,
    Damage,
    assert_refused,
    assert_round_trip,
    fixture_folder,
    randomise,
    state_dict_checkpoint,
)

BASIC = ResNetShape(
    8, tuple(StageShape(n, 8 * k, 8 * k) for n, k in ((1, 1), (2, 2), (1, 3), (1, 4))), bottleneck=False
)
DEEP = ResNetShape(8, tuple(StageShape(1, 4 * k, 16 * k) for k in (1, 2, 3, 4)), bottleneck=True)
SMALL = AtssShape(BASIC, 32, 2)
AUTHORS = AtssShape(DEEP, 32, 3, authors=True)


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("atss-r50", 32_295_322), ("atss-r101", 51_287_450), ("atss-authors-r50", 32_297_370)],
)
def test_parameter_count(variant: str, parameters: int) -> None:
    with torch.device("meta"):
        assert atss.VARIANTS[variant](COCO).num_parameters == parameters


@pytest.mark.interop
def test_keys_and_shapes_are_the_official_ones(shared: Path) -> None:
    keys = json.loads((shared / "facts/keys/mmdet-atss_r50_fpn.json").read_text())["keys"]
    with torch.device("meta"):
        own = {name: list(t.shape) for name, t in atss.VARIANTS["atss-r50"](COCO).state_dict().items()}
    assert own == {name: shape for name, (shape, _) in keys.items()}


@pytest.mark.parametrize("shape", [SMALL, AUTHORS, AtssShape(DEEP, 64, 1)])
@pytest.mark.parametrize("classes", [1, 3])
def test_shape_is_read_off_the_tensors(shape: AtssShape, classes: int) -> None:
    detector = Atss("custom", shape, COCO[:classes])
    randomise(detector)
    for i, scale in enumerate(detector.bbox_head.scales):
        torch.nn.init.constant_(scale.get_parameter("scale"), 0.5 + i)
    assert_round_trip(atss, detector, "custom")


def authors_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors as the authors' code saves them."""

    def tower(m: re.Match[str]) -> str:
        return f"rpn.head.{'cls' if m[1] == 'cls' else 'bbox'}_tower.{3 * int(m[2]) + (m[3] == 'gn')}."

    def levels(m: re.Match[str]) -> str:
        number = int(m[1])
        return f"backbone.fpn.fpn_layer{number + 2}." if number < 3 else f"backbone.fpn.top_blocks.p{number + 3}."

    renamed = {"module.rpn.anchor_generator.cell_anchors.0": torch.zeros(1, 4)}
    for name, tensor in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue
        name = re.sub(r"^backbone\.(conv1|bn1)\.", r"backbone.body.stem.\1.", name)
        name = re.sub(r"^backbone\.layer", "backbone.body.layer", name)
        name = re.sub(r"^neck\.lateral_convs\.(\d)\.conv\.", lambda m: f"backbone.fpn.fpn_inner{int(m[1]) + 2}.", name)
        name = re.sub(r"^neck\.fpn_convs\.(\d)\.conv\.", levels, name)
        name = re.sub(r"^bbox_head\.(cls|reg)_convs\.(\d)\.(conv|gn)\.", tower, name)
        name = re.sub(r"^bbox_head\.atss_cls\.", "rpn.head.cls_logits.", name)
        name = re.sub(r"^bbox_head\.atss_reg\.", "rpn.head.bbox_pred.", name)
        name = re.sub(r"^bbox_head\.atss_centerness\.", "rpn.head.centerness.", name)
        renamed["module." + re.sub(r"^bbox_head\.", "rpn.head.", name)] = tensor
    return renamed


def test_the_authors_names_give_the_same_detector() -> None:
    detector = Atss("custom", AUTHORS, COCO[:2])
    randomise(detector)
    saved = authors_names(detector.state_dict())
    assert "module.rpn.head.bbox_tower.7.weight" in saved
    assert "module.backbone.fpn.top_blocks.p7.bias" in saved
    content: Mapping[str, Any] = {"model": saved, "optimizer": {}, "scheduler": {}, "iteration": 9}
    loaded = families.load(Checkpoint(Path("model_final.pth"), "torch-zip", "0" * 64, content))
    assert (loaded.spec.decode.score, loaded.spec.input.color) == ("sqrt(obj*cls)", "BGR")
    picture = torch.rand(1, 3, 256, 288)
    with torch.no_grad():
        for got, expected in zip(loaded(picture), detector.eval()(picture), strict=True):
            assert torch.equal(got, expected)


def test_names_come_from_mmdets_meta_data() -> None:
    state = dict(Atss("custom", SMALL, COCO[:2]).state_dict())
    content = {"meta": {"dataset_meta": {"classes": ("cat", "red car")}}, "state_dict": state}
    loaded = families.load(Checkpoint(Path("epoch_12.pth"), "torch-zip", "0" * 64, content))
    assert loaded.spec.classes == ("cat", "red car")
    assert loaded.spec.decode.clip == "before-nms-drop-empty"


@pytest.mark.parametrize(
    "damage",
    [
        Damage("neck.fpn_convs.4.conv.bias", "drop", "1 tensors missing (first neck.fpn_convs.4.conv.bias)"),
        Damage("bbox_head.atss_reg.bias", "cut", "bbox_head.atss_reg.bias: expected shape 4 "),
        Damage("backbone.bn1.bias", "add", "1 tensors not expected"),
        Damage("bbox_head.atss_cls.weight", "drop", "expected an ATSS state dict"),
    ],
    ids=lambda d: d.key,
)
def test_damaged_state_dict_is_refused_in_one_line(damage: Damage) -> None:
    detector = Atss("custom", SMALL, COCO[:2])
    assert_refused(atss, state_dict_checkpoint(damage.apply(detector.state_dict())), damage.words)


@pytest.mark.interop
def test_official_pictures(tmp_path: Path) -> None:
    folder = fixture_folder("atss-mmdet-r18-w0125-nc4")
    detector = families.load(read_checkpoint(folder / "checkpoint.pth"))
    pictures, reference = np.load(folder / "preproc.npz"), np.load(folder / "reference.npz")
    spec = detector.spec.with_size(160, 192)
    preprocess = Preprocessor(spec.input, spec.resize)
    for i in range(2):
        tensor, _ = preprocess(pictures[f"image{i}_bgr"])
        levels = np.abs(tensor[0] - reference["input"][i]) * np.reshape(spec.input.std, (3, 1, 1))
        assert levels.max() <= 0.5, "padding is 8-bit here, and exactly the mean there"
    authors = fixture_folder("atss-sfzhang-r50-small-nc3") / "checkpoint.pth"
    with pytest.raises(ArgumentError, match="counts a box's last pixel"):
        export(authors, ExportConfig(out=tmp_path / "x", outputs="decoded"))
