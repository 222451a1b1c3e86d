"""The reference outputs in ../shared/fixtures, brought to edgedet's raw layout and described as specs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet_runtime.spec import BoxKind, DecodeSpec, LevelSpec, Suppression, Thresholds

Floats = npt.NDArray[np.float32]

ANCHOR_FIXTURES = (
    "yolov5-yolov5n",
    "yolov5-yolov5n-focus-v5era",
    "spd-yolov5n",
    "yolov7-tiny-w05",
    "yolov7-w025",
)
YOLOV6_FIXTURES = (
    "yolov6-lite-s",
    "yolov6-yolov6m-w0125-dfl",
    "yolov6-yolov6n-deploy-w0125",
    "yolov6-yolov6n-distillns-w0125",
)
DARKNET_FIXTURES = ("darknet-yolov3-tiny-quarter-nc3", "darknet-yolov4-tiny-half")
DISTANCE_FIXTURES = (
    "ul-8.0.120-yolov8n-w006",
    "ul-8.4.60-yolov8n-w006",
    "ul-yolov8n-w0125",
    "ul-yolov8n-p2-w009",
    "ul-yolov8n-p6-w006",
    "ul-yolov5nu-w009",
    "ul-yolov3tinyu-w0125",
    "ul-yolo11n-w0125",
    "ul-yolo12n-c256",
    "ul-yolov9t-w0375",
    *(
        f"{name}@{head}"
        for name in ("ul-yolov10n-w009", "ul-yolo26n-w0125", "ul-8.4.0-yolo26n-w0125")
        for head in ("one-to-one", "one-to-many")
    ),
    "v9-gelan-t-w0375",
    "v9-yolov9-c-train-w00625",
)
"""Files of Ultralytics' and YOLOv9's code; where they hold two heads, the one that is meant follows an ``@``."""
QUERY_FIXTURES = ("ul-rtdetr-l-small", "rtdetrv2-r18-eighth-train", "dfine-n-quarter")
"""Sets of queries: their lists are compared as sets."""
RTMDET_FIXTURES = ("rtmdet-tiny-w006",)
"""mmdet drops boxes turned inside out, and clips, before NMS: tests/models/test_rtmdet.py compares its detections."""
ALL_FIXTURES = (
    *ANCHOR_FIXTURES,
    *YOLOV6_FIXTURES,
    "yolox-nano",
    "damoyolo-T-quarter",
    *DARKNET_FIXTURES,
    *DISTANCE_FIXTURES,
    *QUERY_FIXTURES,
)


@dataclass(frozen=True)
class Reference:
    """One picture's raw outputs and what the official code made of them.

    `expected` maps ``multi_label`` to boxes in input pixels, scores and classes.
    """

    decode: DecodeSpec
    thresholds: Thresholds
    raw: tuple[Floats, ...]
    expected: dict[bool, tuple[Floats, Floats, npt.NDArray[np.int64]]]


def load_reference(fixtures: Path, name: str, image: int) -> Reference:
    """Read one of the fixtures for picture 0 or 1."""
    name, _, head = name.partition("@")
    meta = json.loads((fixtures / name / "meta.json").read_text())
    with np.load(fixtures / name / "reference.npz") as file:
        arrays = {k: file[k][image : image + 1] for k in file.files}
    with np.load(fixtures / name / "nms.npz") as file:
        found = {k: file[k] for k in file.files}
    if name in ANCHOR_FIXTURES:
        decode, raw = _anchors(meta, arrays)
    elif name in YOLOV6_FIXTURES:
        decode, raw = _yolov6(meta, arrays)
    elif name in DARKNET_FIXTURES:
        decode, raw = _darknet(fixtures / name / "model.cfg", meta, arrays)
    elif name in QUERY_FIXTURES:
        decode, raw = _queries(meta, arrays)
    elif name.startswith(("ul-", "v9-")):
        decode, raw = _distances(meta, arrays, one_to_one=head == "one-to-one")
    elif name in RTMDET_FIXTURES:
        decode, raw = _rtmdet(arrays)
        meta["thresholds"] = {"conf": 0.3, "iou": meta["thresholds"]["nms_iou"], "max_det": 300}
    elif name == "yolox-nano":
        decode, raw = _yolox(arrays)
    else:
        decode, raw = _damo(fixtures / name, meta, arrays)
    t = meta.get("thresholds", {"conf": 0.25, "iou": 0.7, "max_det": 300})
    thresholds = Thresholds(
        conf=t.get("conf", t.get("score")),
        iou=t.get("iou", t.get("nms")),
        max_det=t.get("max_det", t.get("max", 1000)),
    )
    expected = {}
    for multi_label, prefix in ((False, ""), (True, "multilabel_")):
        if f"{prefix}boxes_{image}" in found:
            expected[multi_label] = (
                found[f"{prefix}boxes_{image}"],
                found[f"{prefix}scores_{image}"],
                found[f"{prefix}classes_{image}"].astype(np.int64),
            )
    if head == "one-to-one":  # the official selection is over pairs of cell and class, without suppression
        boxes, scores, classes = (found[f"e2e_{part}_{image}"] for part in ("boxes", "scores", "classes"))
        expected = {True: (boxes, scores, classes.astype(np.int64))}
    if name in ("damoyolo-T-quarter", *RTMDET_FIXTURES):  # its post-processing is multi-label only
        expected = {True: expected[False]}
    if name in QUERY_FIXTURES:  # so is theirs
        boxes, scores, classes = expected[False]
        expected = {True: (boxes * _to_input(fixtures / name, meta), scores, classes)}
    return Reference(decode, thresholds, raw, expected)


def _to_input(folder: Path, meta: dict[str, Any]) -> Floats:
    """Return the factors from official boxes in pixels of the source picture, which was stretched, to input pixels."""
    with np.load(folder / "preproc.npz") as file:
        source_height, source_width = file["image0_bgr"].shape[:2]
    height, width = meta["input_size"][2:]
    return np.array((width / source_width, height / source_height) * 2, np.float32)


def _split(raw: Floats, na: int, classes: int) -> tuple[Floats, Floats, Floats]:
    """Split (1, na * (5 + classes), h, w) into boxes, objectness and scores, anchor-major."""
    _, _, h, w = raw.shape
    parts = raw.reshape(1, na, 5 + classes, h, w)
    return (
        np.ascontiguousarray(parts[:, :, :4]).reshape(1, na * 4, h, w),
        np.ascontiguousarray(parts[:, :, 4]).reshape(1, na, h, w),
        np.ascontiguousarray(parts[:, :, 5:]).reshape(1, na * classes, h, w),
    )


def _level(index: int, stride: int, *, objectness: bool, **more: Any) -> LevelSpec:
    obj = f"objectness_{index}" if objectness else None
    return LevelSpec(stride, f"boxes_{index}", f"scores_{index}", obj, **more)


def _anchors(meta: dict[str, Any], arrays: dict[str, Floats]) -> tuple[DecodeSpec, tuple[Floats, ...]]:
    levels: list[LevelSpec] = []
    raw: list[Floats] = []
    for i, (stride, anchors) in enumerate(zip((8, 16, 32), meta["anchors_grid_units"], strict=True)):
        pairs = np.array(anchors).reshape(-1, 2) * stride
        array = arrays[f"raw_{i}"].transpose(0, 1, 4, 2, 3)
        raw += _split(array.reshape(1, -1, *array.shape[3:]), len(pairs), meta["nc"])
        anchors_px = tuple((float(w), float(h)) for w, h in pairs)
        levels.append(_level(i, stride, objectness=True, anchors_px=anchors_px, scale_xy=2.0))
    return DecodeSpec("anchors", tuple(levels), wh="square"), tuple(raw)


def _darknet(cfg: Path, meta: dict[str, Any], arrays: dict[str, Floats]) -> tuple[DecodeSpec, tuple[Floats, ...]]:
    sections = cfg.read_text().split("[yolo]")[1:]
    levels: list[LevelSpec] = []
    raw: list[Floats] = []
    for i, section in enumerate(sections):
        lines = (line.split("=", 1) for line in section.split("[")[0].splitlines() if "=" in line)
        options = {k.strip(): v.strip() for k, v in lines}
        numbers = [float(v) for v in options["anchors"].split(",")]
        mask = [int(v) for v in options["mask"].split(",")]
        anchors = tuple((numbers[2 * m], numbers[2 * m + 1]) for m in mask)
        array = arrays[f"raw_{i}"]
        stride = meta["input_size"][2] // array.shape[2]
        scale = float(options.get("scale_x_y", 1))
        raw += _split(array, len(mask), meta["nc"])
        levels.append(_level(i, stride, objectness=True, anchors_px=anchors, scale_xy=scale))
    return DecodeSpec("anchors", tuple(levels), wh="exp"), tuple(raw)


def _yolov6(meta: dict[str, Any], arrays: dict[str, Floats]) -> tuple[DecodeSpec, tuple[Floats, ...]]:
    levels: list[LevelSpec] = []
    raw: list[Floats] = []
    for i, stride in enumerate(meta["strides"]):
        levels.append(_level(i, stride, objectness=False))
        raw += [arrays[f"raw_reg_preds_{i}"], arrays[f"raw_cls_preds_{i}"]]
    is_dfl = raw[0].shape[1] > 4
    bins = meta["reg_max"] + 1 if is_dfl else 0
    return DecodeSpec("dfl" if is_dfl else "ltrb", tuple(levels), "cls", bins=bins), tuple(raw)


def _distances(
    meta: dict[str, Any], arrays: dict[str, Floats], *, one_to_one: bool
) -> tuple[DecodeSpec, tuple[Floats, ...]]:
    levels: list[LevelSpec] = []
    raw: list[Floats] = []
    prefix = "raw_o2o" if one_to_one else "raw"
    for i, stride in enumerate(meta["stride"]):
        levels.append(_level(i, int(stride), objectness=False))
        raw += [arrays[f"{prefix}_box_{i}"], arrays[f"{prefix}_cls_{i}"]]
    bins = meta["reg_max"] if meta["reg_max"] > 1 else 0
    suppression: Suppression = "none" if one_to_one else "nms"
    kind: BoxKind = "dfl" if bins else "ltrb"
    return DecodeSpec(kind, tuple(levels), "cls", bins=bins, suppression=suppression), tuple(raw)


def _queries(meta: dict[str, Any], arrays: dict[str, Floats]) -> tuple[DecodeSpec, tuple[Floats, ...]]:
    boxes = arrays["decoded_boxes" if "decoded_boxes" in arrays else "pred_boxes"]
    logits = arrays["raw_logits" if "raw_logits" in arrays else "pred_logits"]
    height, width = meta["input_size"][2:]
    level = LevelSpec(32, "boxes", "scores")
    decode = DecodeSpec("queries", (level,), "cls", suppression="none", unit_xy=(width, height))
    return decode, (boxes, logits)


def _yolox(arrays: dict[str, Floats]) -> tuple[DecodeSpec, tuple[Floats, ...]]:
    levels: list[LevelSpec] = []
    raw: list[Floats] = []
    for i, stride in enumerate((8, 16, 32)):
        levels.append(_level(i, stride, objectness=True))
        raw += [arrays[f"raw_{kind}_preds_{i}"] for kind in ("reg", "obj", "cls")]
    return DecodeSpec("points-exp", tuple(levels)), tuple(raw)


def _rtmdet(arrays: dict[str, Floats]) -> tuple[DecodeSpec, tuple[Floats, ...]]:
    """The official head gives sides in pixels."""
    levels: list[LevelSpec] = []
    raw: list[Floats] = []
    for i, stride in enumerate((8, 16, 32)):
        levels.append(_level(i, stride, objectness=False))
        raw += [arrays[f"raw_reg_{i}"] / np.float32(stride), arrays[f"raw_cls_{i}"]]
    return DecodeSpec("ltrb", tuple(levels), "cls", cell_offset=0.0), tuple(raw)


def _damo(folder: Path, meta: dict[str, Any], arrays: dict[str, Floats]) -> tuple[DecodeSpec, tuple[Floats, ...]]:
    """The learned factor of each level belongs to the network; the fixture's raw outputs lack it."""
    import torch

    state = torch.load(folder / "checkpoint.pth", map_location="cpu", weights_only=True)["model"]
    levels: list[LevelSpec] = []
    raw: list[Floats] = []
    for i, stride in enumerate((8, 16, 32)):
        factor = np.float32(state[f"head.scales.{i}.scale"].item())
        levels.append(_level(i, stride, objectness=False))
        raw += [arrays[f"raw_gfl_reg_{i}"] * factor, arrays[f"raw_gfl_cls_{i}"]]
    decode = DecodeSpec("dfl", tuple(levels), "cls", bins=meta["reg_max"] + 1, cell_offset=0.0)
    return decode, tuple(raw)
