"""When boxes are cut at the picture, which go into suppression, and what that changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.postprocess import postprocess
from edgedet_runtime.prior_spec import PriorSpec
from edgedet_runtime.spec import Clip, DecodeSpec, LevelSpec, Thresholds, TopKPer
from tests.runtime.tiny_models import TINY_SPEC


def found(
    rows: list[tuple[float, float, float, float, float]], clip: Clip, *, scale: int = 1
) -> list[tuple[tuple[float, ...], float]]:
    """Return boxes and scores of rows x0, y0, x1, y1, score in an input of 32 × 32 of a picture of 24 × 32."""
    decode = DecodeSpec("decoded", (LevelSpec(8, "d", "d"),), "cls", clip=clip)
    names = ("a",)
    spec = TINY_SPEC.replace(decode=decode, classes=names).with_size(32, 32)
    fit = Letterbox.fit((24 * scale, 32 * scale), (32, 32), dataclasses.replace(spec.resize, mode="letterbox"))
    raw = [np.array([rows], np.float32)]
    detections = postprocess(raw, fit, spec, Thresholds(conf=0.1, iou=0.5))
    return [(box.xyxy, round(box.score, 3)) for box in detections]


@pytest.mark.parametrize("scale", [1, 3])
def test_boxes_that_differ_outside_the_picture_suppress_each_other_once_cut(scale: int) -> None:
    rows = [(-30.0, 8.0, 10.0, 20.0, 0.9), (0.0, 8.0, 10.0, 20.0, 0.8)]
    one = (0.0, 4.0 * scale, 10.0 * scale, 16.0 * scale)  # four rows of padding are above the picture
    assert found(rows, "after-nms", scale=scale) == [(one, 0.9), (one, 0.8)]
    assert found(rows, "before-nms", scale=scale) == [(one, 0.9)]


def test_boxes_without_an_area_in_the_picture_go_where_the_family_drops_them() -> None:
    outside, inverted, good = (0.0, 0.0, 9.0, 3.0, 0.9), (9.0, 9.0, 5.0, 20.0, 0.8), (1.0, 9.0, 5.0, 20.0, 0.7)
    for clip in ("after-nms", "before-nms"):
        assert [score for _, score in found([outside, inverted, good], clip)] == [0.9, 0.8, 0.7]
    assert [score for _, score in found([outside, inverted, good], "before-nms-drop-empty")] == [0.7]


@pytest.mark.parametrize(
    ("per", "k", "scores"),
    [
        ("level", 1, [0.9, 0.6]),
        ("level", 2, [0.9, 0.85, 0.6, 0.5]),
        ("class", 1, [0.9, 0.8]),
        ("class", 2, [0.9, 0.85, 0.8, 0.5]),
        ("class", 9, [0.9, 0.85, 0.8, 0.6, 0.5]),
        ("level", 0, [0.9, 0.85, 0.8, 0.6, 0.5]),
    ],
)
def test_the_best_of_each_level_or_class_go_into_suppression(per: TopKPer, k: int, scores: list[float]) -> None:
    levels = tuple(LevelSpec(16, f"b{i}", f"s{i}") for i in range(2))
    decode = DecodeSpec("ltrb", levels, "cls", top_k=k, top_k_per=per)
    spec = TINY_SPEC.replace(decode=decode, classes=("a", "b")).with_size(32, 32)
    logits = np.full((2, 1, 2, 2, 2), -9.0, np.float32)
    for level, cls, cell, score in ((0, 0, 0, 0.9), (0, 1, 1, 0.8), (0, 0, 2, 0.85), (1, 0, 3, 0.6), (1, 1, 0, 0.5)):
        logits[level, 0, cls].reshape(-1)[cell] = np.log(score / (1 - score))
    boxes = np.full((1, 4, 2, 2), 0.1, np.float32)
    fit = Letterbox.fit((32, 32), (32, 32), spec.resize)
    detections = postprocess([boxes, logits[0], boxes, logits[1]], fit, spec, Thresholds(conf=0.1, iou=0.5))
    assert [round(float(s), 3) for s in detections.scores] == scores


def test_boxes_whose_last_pixel_counts_are_cut_there_and_suppressed_with_it() -> None:
    """Two boxes of 10 × 1 and 10 × 2 pixels, counted with the last one, overlap by half: not above the threshold."""
    rules = PriorSpec("exp", inclusive=True)
    level = LevelSpec(16, "b", "s", anchors_px=((10.0, 1.0), (10.0, 2.0)))
    decode = DecodeSpec(
        "priors", (level,), "cls", cell_offset=0.0, unit_xy=(32.0, 32.0), priors=rules, clip="before-nms"
    )
    spec = TINY_SPEC.with_size(32, 32).replace(decode=decode, classes=("a",))
    boxes, logits = np.zeros((1, 8, 2, 2), np.float32), np.full((1, 2, 2, 2), -9.0, np.float32)
    logits[0, :, 1, 1] = (2.0, 1.0)
    boxes[0, 5, 1, 1] = 0.25  # the second box starts where the first one does
    fit = Letterbox.fit((32, 20), (32, 20), spec.resize)
    found = {}
    for iou in (0.4, 0.6):
        detections = postprocess([boxes, logits], fit, spec, Thresholds(conf=0.1, iou=iou))
        found[iou] = detections.boxes_xyxy.tolist()
    assert found[0.4] == [[11.5, 16.0, 19.0, 16.0]], "ends at the last pixel, 19"
    assert found[0.6] == [[11.5, 16.0, 19.0, 16.0], [11.5, 16.0, 19.0, 17.0]]
