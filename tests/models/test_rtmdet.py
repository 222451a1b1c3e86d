"""RTMDet: sizes, recognition from shapes and configuration, strictness, and the official code's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgedet_export.fuse import fuse
from edgedet_models import families
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.families import rtmdet
from edgedet_models.rtmdet.network import RtmDet, RtmDetSize
from edgedet_runtime.decode import decode_outputs
from edgedet_runtime.nms import nms
from edgedet_runtime.preprocess import Preprocessor
from tests.models.family_template import (
    COCO,
    Damage,
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

SMALL = RtmDetSize(8, (1, 2, 1, 1), 1, exponential=False)


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [
        ("rtmdet-tiny", 4_896_168),
        ("rtmdet-s", 8_886_924),
        ("rtmdet-m", 24_709_188),
        ("rtmdet-l", 52_315_804),
        ("rtmdet-x", 94_855_572),
    ],
)
def test_parameter_count(variant: str, parameters: int) -> None:
    """The official table has 4.8, 8.89, 24.71, 52.3 and 94.86 million."""
    with torch.device("meta"):
        assert rtmdet.VARIANTS[variant](COCO).num_parameters == parameters


@pytest.mark.parametrize(
    ("size", "classes", "variant"),
    [
        (rtmdet.SIZES["rtmdet-tiny"], 80, "rtmdet-tiny"),
        (SMALL, 3, "custom"),
        (RtmDetSize(8, (1, 1, 2, 3), 2, exponential=False, head_convs=1), 1, "custom"),
        (RtmDetSize(8, (1, 1, 1, 1), 1, exponential=False, shared=False), 2, "custom"),
    ],
)
def test_size_is_read_off_the_shapes(size: RtmDetSize, classes: int, variant: str) -> None:
    detector = RtmDet("custom", size, COCO[:classes])
    randomise(detector)
    assert_round_trip(rtmdet, detector, variant)


@pytest.mark.parametrize(
    ("config", "exponential", "words"),
    [
        ("bbox_head = dict(type='RTMDetSepBNHead', exp_on_reg=True)", True, "as the file's configuration says"),
        ("bbox_head=dict(exp_on_reg = False)", False, "as the file's configuration says"),
        ("{'bbox_head': {'exp_on_reg': True}}", True, "as the file's configuration says"),
        ("bbox_head=dict(type='RTMDetSepBNHead')", False, "as the file's configuration says"),
        ("model = dict(type='RTMDet')", False, "assumed from its width"),
        (None, False, "assumed from its width"),
    ],
)
def test_how_sides_are_meant_is_in_the_configuration(config: Any, exponential: bool, words: str) -> None:
    state = dict(RtmDet("custom", SMALL, COCO[:2]).state_dict())
    meta = {"cfg": config, "dataset_meta": {"classes": ("cat", "dog")}, "mmengine_version": "0.10.7"}
    checkpoint = Checkpoint(Path("epoch_3.pth"), "torch-zip", "0" * 64, {"meta": meta, "state_dict": state})
    recognition = rtmdet.recognise(checkpoint)
    assert recognition is not None
    assert words in recognition.why
    loaded = families.load(checkpoint)
    assert loaded.spec.classes == ("cat", "dog")
    assert isinstance(loaded, RtmDet)
    assert loaded.bbox_head.exponential is exponential
    picture = loaded.dummy_input()[..., :64, :96]
    with torch.no_grad():
        plain, sides = RtmDet("custom", SMALL, COCO[:2]).eval(), loaded(picture)[0]
        plain.load_state_dict(state)
        raw = plain(picture)[0]
    torch.testing.assert_close(sides, raw.exp() if exponential else raw)


def test_larger_ones_take_exp() -> None:
    size = RtmDetSize(48, (1, 1, 1, 1), 1, exponential=True)
    checkpoint = state_dict_checkpoint(RtmDet("custom", size, COCO[:1]).state_dict())
    found = rtmdet.load(checkpoint)
    assert isinstance(found, RtmDet)
    assert found.bbox_head.exponential


@pytest.mark.parametrize(
    "damage",
    [
        Damage("neck.out_convs.1.conv.weight", "drop", "1 tensors missing (first neck.out_convs.1"),
        Damage("neck.out_convs.1.bn.bias", "add", "1 tensors not expected"),
        Damage("neck.downsamples.1.conv.weight", "cut", "neck.downsamples.1.conv.weight: expected shape 64x64x3x3"),
        Damage("bbox_head.rtm_cls.0.weight", "drop", "expected an RTMDet state dict"),
    ],
    ids=lambda d: d.action,
)
def test_damaged_state_dict_is_refused_in_one_line(damage: Damage) -> None:
    detector = RtmDet("custom", SMALL, COCO[:2])
    assert_refused(rtmdet, state_dict_checkpoint(damage.apply(detector.state_dict())), damage.words)


def test_shared_convolutions_fuse_with_the_norms_of_their_level() -> None:
    detector = RtmDet("custom", SMALL, COCO[:2])
    randomise(detector)
    detector.eval()
    picture = torch.rand(1, 3, 64, 96)
    fused, _ = fuse(detector, picture)
    assert not [m for m in fused.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for ours, theirs in zip(fused(picture), detector(picture), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.interop
def test_official_outputs() -> None:
    folder = fixture_folder("rtmdet-tiny-w006")
    checkpoint = read_checkpoint(folder / "checkpoint.pth")
    assert checkpoint.weights.words == "weights under state_dict; left: ema_state_dict"
    detector = rtmdet.load(checkpoint)
    assert detector.num_parameters == 141_408
    reference = np.load(folder / "reference.npz")
    outputs = run(detector, reference["input"])
    sides = {f"boxes_{i}": reference[f"raw_reg_{i}"] / stride for i, stride in enumerate((8, 16, 32))}
    assert_raw(outputs, sides | {f"scores_{i}": reference[f"raw_cls_{i}"] for i in range(3)})
    boxes, scores = decoded_rows(detector, outputs)
    decoded = reference["decoded"]
    middle = np.concatenate(((decoded[..., :2] + decoded[..., 2:4]) / 2, decoded[..., 2:4] - decoded[..., :2]), axis=-1)
    assert worst_relative(boxes, middle) <= 1e-4
    assert worst_relative(scores, decoded[..., 4:]) <= 1e-4
    _assert_detections(folder, detector, outputs)


def _assert_detections(folder: Path, detector: DetectorModule, outputs: Mapping[str, Tensor]) -> None:
    """Compare with mmdet's pictures and boxes; it clips boxes, and drops those with a negative side, before NMS."""
    pictures, official = np.load(folder / "preproc.npz"), np.load(folder / "nms.npz")
    spec = detector.spec.with_size(160, 192)
    preprocess = Preprocessor(spec.input, spec.resize)
    inputs = np.load(folder / "reference.npz")["input"]
    for i in range(2):
        tensor, _ = preprocess(pictures[f"image{i}_bgr"])
        assert np.abs(tensor[0] - inputs[i]).max() <= 1e-6  # it multiplies by 1 / std
        raw = [outputs[name][i : i + 1].numpy() for name in spec.decode.output_names]
        found = decode_outputs(raw, spec.decode, conf=0.299, multi_label=spec.thresholds.multi_label)
        clipped = np.clip(found.boxes_xyxy, 0, (192, 160, 192, 160)).astype(np.float32)
        whole = np.flatnonzero((clipped[:, 2:] > clipped[:, :2]).all(axis=1))
        found, clipped = found.take(whole), clipped[whole]
        kept = nms(clipped, found.scores, found.class_ids, iou=spec.thresholds.iou, max_det=300)
        scales = np.array([0.05] * 4 + [1e-3, 1e-6])
        ours = np.column_stack((clipped[kept], found.scores[kept], found.class_ids[kept])) / scales
        theirs = np.column_stack([official[f"{part}_{i}"] for part in ("boxes", "scores", "classes")]) / scales
        apart = np.abs(ours[:, None] - theirs[None]).max(axis=2)
        clear = ours[:, 4] * 1e-3 > 0.301
        assert (apart.min(axis=0) <= 1).all()
        assert (apart.min(axis=1)[clear] <= 1).all()
