"""What a family's exports leave unsaid: how pictures are prepared, and anchors where the graph holds none.

Preprocessing is as the official code of each family does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgedet_runtime.errors import InputError
from edgedet_runtime.spec import BoxKind, ColorOrder, ResizeSpec, Thresholds

__all__ = ["FAMILIES", "FamilyFacts", "family_facts", "family_of_kind"]

Anchors = tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True, slots=True)
class FamilyFacts:
    """What is true of all official exports of a family.

    Attributes:
        kinds: Box kinds that its heads have.
        color: Channel order.
        scale: Factor on 8-bit pixels.
        resize: How pictures are brought to size.
        licence: Licence class of weights made with the official code.
        raw_kind: Box kind to take where the outputs are not decoded.
        anchors: Standard anchors by number of levels, finest level first, in pixels.
        thresholds: Defaults of the official demo.
    """

    kinds: tuple[BoxKind, ...]
    color: ColorOrder
    scale: float
    resize: ResizeSpec
    licence: str
    raw_kind: BoxKind | None
    anchors: Mapping[int, Anchors] = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)


_CENTRED = ResizeSpec("letterbox")
_V5_P5: Anchors = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
_V5_P6: Anchors = (
    ((19, 27), (44, 40), (38, 94)),
    ((96, 68), (86, 152), (180, 137)),
    ((140, 301), (303, 264), (238, 542)),
    ((436, 615), (739, 380), (925, 792)),
)
_V7_P5: Anchors = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)
_V8 = Thresholds(conf=0.25, iou=0.7)
FAMILIES: Mapping[str, FamilyFacts] = {
    "yolox": FamilyFacts(
        ("points-exp",), "BGR", 1.0, ResizeSpec("letterbox-topleft", rounding="floor"), "Apache-2.0", "points-exp"
    ),
    "yolov5": FamilyFacts(("anchors",), "RGB", 1 / 255, _CENTRED, "AGPL-3.0", "anchors", {3: _V5_P5, 4: _V5_P6}),
    "yolov7": FamilyFacts(("anchors",), "RGB", 1 / 255, _CENTRED, "GPL-3.0", "anchors", {3: _V7_P5, 4: _V5_P6}),
    "yolov6": FamilyFacts(("ltrb", "dfl"), "RGB", 1 / 255, _CENTRED, "GPL-3.0", "ltrb"),
    "yolov8": FamilyFacts(("dfl",), "RGB", 1 / 255, _CENTRED, "AGPL-3.0", None),
    "ultralytics": FamilyFacts(("dfl", "ltrb", "anchors"), "RGB", 1 / 255, _CENTRED, "AGPL-3.0", "ltrb", {}, _V8),
}


def family_facts(family: str) -> FamilyFacts:
    """Return a family's facts.

    Raises:
        InputError: Foreign files of that family are not supported.
    """
    if family not in FAMILIES:
        raise InputError(f"family of an ONNX file: expected one of {', '.join(FAMILIES)}, got {family!r}")
    return FAMILIES[family]


def family_of_kind(kind: BoxKind, *, constant_objectness: bool) -> str:
    """Name the family whose decoding a file turned out to have.

    YOLOv5 and YOLOv7 decode and prepare pictures alike; such a file counts as YOLOv5. YOLOv6 writes an objectness of 1
    beside its classes; plain distances without one are YOLO26's.
    """
    if kind == "points-exp":
        return "yolox"
    if kind == "anchors":
        return "yolov5"
    if constant_objectness:
        return "yolov6"
    return "ultralytics" if kind == "ltrb" else "yolov8"
