"""EdgeCode: size, shapes, loading, and that all of it fuses into plain convolutions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedet_export.fuse import fuse
from edgedet_models.builtin import builtin_checkpoint, calibration_images, sample_images
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.decode import decode
from edgedet_models.families import edgecode, load
from edgedet_models.families.edgecode import EdgeCode, EdgeCodeSize
from edgedet_models.layers.space_to_depth import SpaceToDepth
from edgedet_models.training.state import save_weights
from tests.models.family_template import Damage, assert_refused, assert_round_trip, randomise, state_dict_checkpoint

CODES = ("qr", "datamatrix", "aztec", "pdf417", "linear", "marker")
SMALL = EdgeCodeSize((8, 8, 16, 16, 16), (1, 1, 1, 1), (16, 16, 16))


def test_size_of_the_built_in_variant() -> None:
    model = edgecode.VARIANTS["edgecode-n"](CODES).eval()
    fused, _ = fuse(model, torch.zeros(1, 3, 64, 64))
    parameters = sum(p.numel() for p in fused.parameters())
    assert 500_000 < parameters < 1_200_000


def test_space_to_depth_is_four_phases() -> None:
    x = torch.rand(2, 3, 6, 8)
    phases = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
    assert torch.equal(SpaceToDepth()(x), torch.cat(phases, dim=1))


def test_everything_fuses_into_plain_convolutions() -> None:
    model = EdgeCode("custom", SMALL, CODES)
    randomise(model)
    model.eval()
    x = torch.rand(1, 3, 64, 96)
    fused, report = fuse(model, x)
    kinds = {type(m) for m in fused.modules() if not any(True for _ in m.children())}
    assert kinds <= {nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Identity}
    assert all(not p.declined for p in report.passes)
    with torch.no_grad():
        for got, expected in zip(fused(x), model(x), strict=True):
            assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_outputs_follow_the_spec() -> None:
    model = EdgeCode("custom", SMALL, CODES).eval()
    raw = model(torch.zeros(2, 3, 64, 96))
    assert [tuple(t.shape) for t in raw] == [
        (2, 4, 8, 12),
        (2, 6, 8, 12),
        (2, 4, 4, 6),
        (2, 6, 4, 6),
        (2, 4, 2, 3),
        (2, 6, 2, 3),
    ]
    boxes, scores = decode(model.spec, raw)
    assert boxes.shape == (2, 126, 4)
    assert scores.shape == (2, 126, 6)


@pytest.mark.parametrize(("size", "variant"), [(SMALL, "custom"), (edgecode._SIZES["edgecode-n"], "edgecode-n")])
def test_size_is_read_off_the_shapes(size: EdgeCodeSize, variant: str) -> None:
    model = EdgeCode("custom", size, CODES)
    randomise(model)
    assert_round_trip(edgecode, model, variant)


@pytest.mark.parametrize(
    "damage",
    [
        Damage("heads.0.boxes.weight", "drop", "heads.0.boxes.weight"),
        Damage("backbone.stages.3.0.1.conv.weight", "drop", "backbone.stages.3.0.1.conv.weight"),
        Damage("heads.0.boxes.weight", "add", "heads.0.boxes.weight.more"),
        Damage("pyramid.top_down.0.bn.weight", "shorten", "pyramid.top_down.0.bn.weight"),
    ],
)
def test_damaged_files_are_refused(damage: Damage) -> None:
    tensors = EdgeCode("custom", SMALL, CODES).state_dict()
    assert_refused(edgecode, state_dict_checkpoint(damage.apply(tensors)), damage.words)


def test_half_precision_weights_carry_their_spec(tmp_path: Path) -> None:
    model = EdgeCode("custom", SMALL, CODES)
    randomise(model)
    path = tmp_path / "w.safetensors"
    save_weights(path, model.eval(), model.spec, half=True)
    loaded = load(read_checkpoint(path))
    assert loaded.spec == model.spec
    stored = loaded.state_dict()
    for name, tensor in model.state_dict().items():
        expected = tensor.half().to(tensor.dtype) if tensor.is_floating_point() else tensor
        assert torch.equal(stored[name], expected), name


def test_the_wheel_holds_the_model_and_its_pictures() -> None:
    assert builtin_checkpoint().stat().st_size <= 4_000_000
    assert 4 <= len(sample_images()) <= 6
    pictures = calibration_images()
    assert len(pictures) >= 24
    assert sum(p.stat().st_size for p in pictures) <= 2_000_000
    model = load(read_checkpoint(builtin_checkpoint()))
    assert model.spec.classes == CODES
    assert model.spec.licence == "Apache-2.0"


def test_the_built_in_model_finds_codes_and_tells_their_kinds() -> None:
    pytest.importorskip("zxingcpp", reason="the extra `train` is not installed")
    from edgedet_models.scenes import render_scene
    from edgedet_models.training.validate import detect
    from edgedet_runtime.overlap import box_iou

    model = load(read_checkpoint(builtin_checkpoint()))
    located = named = objects = 0
    for seed in range(40_000_000, 40_000_024):
        scene = render_scene(seed)
        size = scene.image_bgr.shape[:2]
        boxes = np.array([o.box_xyxy(size) for o in scene.objects], dtype=np.float32).reshape(-1, 4)
        kinds = np.array([o.class_id for o in scene.objects], dtype=np.int64)
        large = np.array(
            [np.subtract(b[2:], b[:2]).min() * model.spec.input.height / max(size) > 32 for b in boxes], dtype=bool
        )
        found = detect(model, scene.image_bgr, model.spec.input.height, conf=model.spec.thresholds.conf)
        there = box_iou(boxes[large], found.boxes_xyxy) >= 0.5
        located += int(there.any(axis=1).sum())
        named += int((there & (kinds[large][:, None] == found.class_ids[None])).any(axis=1).sum())
        objects += int(large.sum())
    assert objects == 17
    assert located == objects
    assert named >= objects - 1
