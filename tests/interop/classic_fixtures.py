"""How the classic fixtures name and order their raw outputs and classes, brought to edgedet's raw layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet_runtime import Detections
from edgedet_runtime.spec import ModelSpec

__all__ = ["CLASSIC_FIXTURES", "ClassicFixture", "official_detections", "official_raw"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ClassicFixture:
    """One fixture.

    Attributes:
        name: Its folder.
        boxes: Name of the raw boxes in reference.npz, rows (B, N, 4) by level, row, column, anchor; or of a level's
            map, with ``{}`` for the level's number.
        scores: As `boxes`.
        objectness: As `boxes`; None where there is none.
        first_class: Official number of edgedet's class 0.
        default_thresholds: Whether the detections at the official thresholds are compared, as far as their number was
            not bounded: where classes are cut by another score than the one that counts in the end.
        centernet: Whether offsets and sizes are arrays of their own, and pictures are warped about their middle.
        yx: Whether raw boxes are y, x, h, w.
        scores_first: Whether rows of one array hold scores, then boxes; it is what both `boxes` and `scores` name.
    """

    name: str
    boxes: str = "raw_bbox_regression"
    scores: str = "raw_cls_logits"
    objectness: str | None = None
    first_class: int = 0
    scores_first: bool = False
    default_thresholds: bool = False
    yx: bool = False
    centernet: bool = False


CLASSIC_FIXTURES = (
    ClassicFixture("ssd300-vgg16-w0100-nc4", first_class=1),
    ClassicFixture("full-ssd300_vgg16-nc4", first_class=1),
    ClassicFixture("ssdlite320-mnv3-w035-nc4", first_class=1),
    ClassicFixture("retinanet-r18-w0125-nc4"),
    ClassicFixture("retinanet-r50-w00625-nc3-oldkeys"),
    ClassicFixture("fcos-r18-w0125-nc4", objectness="raw_bbox_ctrness"),
    ClassicFixture(
        "atss-mmdet-r18-w0125-nc4", "raw_reg_{}", "raw_cls_{}", "raw_centerness_{}", default_thresholds=True
    ),
    ClassicFixture(
        "atss-sfzhang-r50-small-nc3",
        "raw_reg_{}",
        "raw_cls_{}",
        "raw_centerness_{}",
        first_class=1,
        default_thresholds=True,
    ),
    ClassicFixture("effdet-tf_efficientdet_d0-w025-nc5", "raw_box_{}", "raw_cls_{}", first_class=1, yx=True),
    ClassicFixture("effdet-tf_efficientdet_lite0-w025-nc4", "raw_box_{}", "raw_cls_{}", first_class=1, yx=True),
    ClassicFixture("centernet-res18-w0125-nc5", "raw_wh{}", "raw_hm{}", centernet=True),
    ClassicFixture("centernet-dlav0_34-w0125-nc4", "raw_wh{}", "raw_hm{}", centernet=True),
    ClassicFixture("nanodet-plus-m-nc4", "raw_head", "raw_head", scores_first=True),
)


def official_raw(
    fixture: ClassicFixture,
    reference: Mapping[str, Array],
    spec: ModelSpec,
    image: int,
    shapes: Sequence[tuple[int, ...]],
) -> list[Array]:
    """Return the official raw outputs of a picture in the order and layout of the spec.

    Args:
        fixture: Which one.
        reference: Arrays of reference.npz.
        spec: The contract.
        image: 0 or 1.
        shapes: Of edgedet's outputs, which say how many rows a level has.
    """
    by_name = dict(zip(spec.decode.output_names, shapes, strict=True))
    found: dict[str, Array] = {}
    for key, pick in ((fixture.boxes, "boxes"), (fixture.objectness, "objectness"), (fixture.scores, "scores")):
        if key is None:
            continue
        start = 0
        for number, level in enumerate(spec.decode.levels):
            name = str(getattr(level, pick))
            _, channels, h, w = by_name[name]
            if "{}" in key:
                names = (
                    ("raw_reg", "raw_wh")
                    if fixture.centernet and pick == "boxes"
                    else (key.format("" if fixture.centernet else number),)
                )
                level_map = np.concatenate([reference[n][image : image + 1] for n in names], axis=1)
                if fixture.yx and pick == "boxes":
                    level_map = level_map.reshape(-1, 4, h, w)[:, [1, 0, 3, 2]].reshape(1, -1, h, w)
                found[name] = level_map
                continue
            anchors = max(1, len(level.anchors_px))
            rows = reference[key][image, start : start + h * w * anchors]
            if fixture.scores_first:
                rows = rows[:, :channels] if pick == "scores" else rows[:, -channels:]
            start += h * w * anchors
            found[name] = rows.reshape(h, w, channels).transpose(2, 0, 1)[None]
        assert "{}" in key or start == reference[key].shape[1], "every official row belongs to a level"
    return [found[name] for name in spec.decode.output_names]


def official_detections(
    fixture: ClassicFixture, nms: Mapping[str, Array], image: int, names: tuple[str, ...]
) -> Detections:
    """Return the official detections of a picture, best first."""
    prefix = "official_" if fixture.default_thresholds else ""
    boxes, scores, classes = (nms[f"{prefix}{part}_{image}"] for part in ("boxes", "scores", "classes"))
    order = np.argsort(-scores, kind="stable")
    return Detections(
        boxes[order].astype(np.float32),
        scores[order].astype(np.float32),
        classes[order].astype(np.int64) - fixture.first_class,
        names,
    )
