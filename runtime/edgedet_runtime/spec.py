"""ModelSpec: all that a runtime must know about a detector, stored as JSON inside the model file.

One spec describes one network: its input tensor, how a picture becomes that tensor, how the raw outputs
become boxes, the class names and the default thresholds. It travels as ``metadata_props["edgedet"]`` in ONNX
and as ``rt_info/edgedet`` in OpenVINO IR, so that a single model file is enough on a device.

A spec is validated whenever one is made, hence also whenever one is read. ``spec.schema.json`` beside this
file is the published JSON Schema of the same contract.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.from_json import parse_json
from edgedet_runtime.prior_spec import PriorSpec
from edgedet_runtime.spec_rules import require as _require

__all__ = [
    "SPEC_VERSION",
    "DecodeSpec",
    "InputSpec",
    "LevelSpec",
    "ModelSpec",
    "PriorSpec",
    "ResizeSpec",
    "Thresholds",
]

SPEC_VERSION = 2
"""Highest version that is read. A spec is written as the lowest version that can say all of it (`spec_version`), so
that a runtime of an earlier edgedet reads every model that it can run right, and refuses the others."""

Layout = Literal["NCHW", "NHWC"]
Dtype = Literal["uint8", "float32"]
ColorOrder = Literal["BGR", "RGB"]
ResizeMode = Literal["letterbox", "letterbox-topleft", "stretch"]
Interpolation = Literal["linear", "linear-exact", "area-down", "linear-corner"]
BoxKind = Literal["anchors", "points-exp", "ltrb", "dfl", "priors", "queries", "decoded", "nms"]
ScoreKind = Literal["obj*cls", "cls", "obj", "softmax", "sqrt(obj*cls)"]
Suppression = Literal["nms", "none", "blend"]
TopKPer = Literal["level", "class"]
Clip = Literal["after-nms", "before-nms", "before-nms-drop-empty"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The network's input tensor.

    The tensor's value is ``(pixel * scale - mean[c]) / std[c]`` for an 8-bit pixel, channels in `color`
    order. A network with the arithmetic folded into its graph has dtype uint8, scale 1, mean 0 and std 1.

    Attributes:
        name: Name of the input in the graph.
        height: Rows, in pixels.
        width: Columns, in pixels.
        layout: NCHW or NHWC; the batch dimension is 1.
        dtype: uint8 or float32.
        color: Channel order that the tensor has.
        scale: Factor on the 8-bit pixel.
        mean: Subtracted after scaling, per channel in `color` order.
        std: Divisor after subtracting, per channel in `color` order.
    """

    name: str
    height: int
    width: int
    layout: Layout = "NHWC"
    dtype: Dtype = "uint8"
    color: ColorOrder = "BGR"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        """Validate sizes and the normalization."""
        _require(bool(self.name), "input.name", "a name", self.name)
        _require(0 < self.height <= 16384, "input.height", "1..16384", self.height)
        _require(0 < self.width <= 16384, "input.width", "1..16384", self.width)
        _require(math.isfinite(self.scale) and self.scale > 0, "input.scale", "a positive number", self.scale)
        _require(all(math.isfinite(m) for m in self.mean), "input.mean", "finite numbers", self.mean)
        _require(all(math.isfinite(s) and s > 0 for s in self.std), "input.std", "positive numbers", self.std)
        _require(
            self.dtype == "float32" or self.is_identity,
            "input.dtype",
            "float32 where scale, mean or std are not the identity",
            self.dtype,
        )

    @property
    def is_identity(self) -> bool:
        """True if the tensor holds the 8-bit pixel values as they are."""
        return self.scale == 1.0 and not any(self.mean) and all(s == 1.0 for s in self.std)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class ResizeSpec:
    """How a picture of any size is brought to the input's size.

    Attributes:
        mode: `letterbox` (aspect kept, centered), `letterbox-topleft` (aspect kept, at the top left corner) or
            `stretch` (aspect not kept).
        pad_bgr: 8-bit padding color, BGR whatever the network's own order is.
        rounding: How the scaled size becomes whole pixels: `round` (YOLOv5) or `floor` (YOLOX).
        scale_up: Whether small pictures are enlarged.
        interpolation: `linear` (OpenCV's fast one, whose last bits differ between x86 and ARM where the picture
            shrinks), `linear-exact` (slower, the same bits everywhere), `area-down` (area averaging where the
            picture shrinks, else linear; the same bits everywhere), or `linear-corner` (x_input = x_picture * gain for
            the pixels' indices themselves, as NanoDet warps; the others align the pixels' edges). The last one since
            version 2.
        per_axis: Whether coordinates go by the sides of the resized picture, in whole pixels (torchvision, mmdet), and
            not by the one factor that both were made with. For `letterbox-topleft`. Since version 2.
    """

    mode: ResizeMode = "letterbox"
    pad_bgr: tuple[int, int, int] = (114, 114, 114)
    rounding: Literal["round", "floor"] = "round"
    scale_up: bool = True
    interpolation: Interpolation = "linear"
    per_axis: bool = False

    def __post_init__(self) -> None:
        """Validate the padding color and what goes together."""
        topleft = self.mode == "letterbox-topleft"
        _require(topleft or not self.per_axis, "resize.per_axis", "false except with letterbox-topleft", self.mode)
        _require(all(0 <= v <= 255 for v in self.pad_bgr), "resize.pad_bgr", "three values 0..255", self.pad_bgr)


@dataclass(frozen=True, slots=True)
class LevelSpec:
    """One pyramid level of the head: its stride, anchors, and which graph output is which.

    Raw outputs are NCHW float32 with A anchors per cell, anchor-major channels:
    boxes (1, A * box_channels, H, W), objectness (1, A, H, W), scores (1, A * classes, H, W), all before any
    activation. Kind `queries` has one level, without a grid: boxes (1, Q, 4), scores (1, Q, classes); `stride` is then
    only what the input's sides are multiples of.

    Attributes:
        stride: Input pixels per cell.
        boxes: Name of the box output.
        scores: Name of the class logits output; None where a single class is scored by objectness alone.
        objectness: Name of the objectness logits output, if the head has one.
        anchors_px: Anchor (width, height) pairs in input pixels; empty for anchor-free heads (A = 1).
        scale_xy: `s` of ``s * sigmoid(t) - (s - 1) / 2`` (YOLOv4's grid sensitivity; 2 in YOLOv5 and v7).
    """

    stride: int
    boxes: str
    scores: str | None
    objectness: str | None = None
    anchors_px: tuple[tuple[float, float], ...] = ()
    scale_xy: float = 1.0

    def __post_init__(self) -> None:
        """Validate stride, anchors and outputs."""
        _require(self.stride > 0, "level.stride", "a positive number", self.stride)
        _require(
            all(w > 0 and h > 0 for w, h in self.anchors_px),
            "level.anchors_px",
            "positive sizes",
            self.anchors_px,
        )
        _require(self.scores is not None or self.objectness is not None, "level", "scores or objectness", "neither")


@dataclass(frozen=True, slots=True)
class DecodeSpec:
    """How raw outputs become boxes.

    Box kinds (t is a raw box vector, g the cell's column and row, s the stride):

    - `anchors`: xy = (scale_xy * sigmoid(t) - (scale_xy - 1) / 2 + g) * s; wh = exp(t) * anchor (`wh` "exp",
      YOLOv2 to v4) or (2 * sigmoid(t))² * anchor (`wh` "square", YOLOv5, v7, Scaled-YOLOv4).
    - `points-exp`: xy = (t + g) * s; wh = exp(t) * s (YOLOX).
    - `ltrb`: l, t, r, b = t * s around the point (g + cell_offset) * s (YOLOv6, FCOS-like).
    - `dfl`: as ltrb, each side the expectation of a softmax over `bins` bins 0..bins-1 (GFL).
    - `priors`: relative to the boxes `anchors_px` around the points (g + cell_offset) * step; `priors` says how
      (SSD, RetinaNet, BlazeFace). Since version 2.
    - `queries`: cx, cy, w, h = t * unit_xy, the boxes of a set of queries (DETR); class logits beside them. Since
      version 2.
    - `decoded`: a single output (1, M, 4 + classes): xyxy in input pixels and scores after activation; level
      0 names it as `boxes`.
    - `nms`: a single output (K, 6): xyxy in input pixels, score, class; level 0 names it as `boxes`.

    Attributes:
        kind: One of the box kinds above.
        levels: The head's levels, finest first or in the model's own order.
        score: A candidate's score: sigmoid(obj) * sigmoid(cls), sigmoid(cls), sigmoid(obj), `softmax` over 1 + classes
            logits whose first is background and no class of the spec, or sqrt(sigmoid(obj) * sigmoid(cls)) (FCOS). The
            last two since version 2.
        wh: Size formula of kind `anchors`.
        bins: Bins per side of kind `dfl` (reg_max + 1).
        cell_offset: Offset of the point within a cell, for `ltrb`, `dfl` and `priors`.
        suppression: What becomes of candidates that overlap: `nms` drops the lower-scored ones; `none` keeps them, for
            heads that were trained to give each object one box (YOLOv10, YOLO26, DETR): the best `max_det` candidates
            are the detections; `blend` merges them into their mean weighted by score (BlazeFace). Since version 2.
        unit_xy: Input pixels per unit of a raw box of kind `queries`, along x and y: the input's width and height where
            boxes are fractions of the picture, 1 and 1 where they are pixels. With kind `priors` the input's width and
            height. Since version 2.
        priors: Rules of kind `priors`, None for others. Since version 2.
        clip: When boxes are cut at the picture's edges: after suppression, before it (torchvision), or before it and
            boxes without an area, or turned inside out, are dropped (mmdet). Since version 2.
        top_k: Candidates above the threshold that go into suppression, the best ones; 0 for all. Since version 2.
        top_k_per: What has `top_k` of them: each level (RetinaNet) or each class (SSD). Since version 2.
        keypoints: Names of the outputs with keypoints of kind `priors`, one per level, or none: (1, A * 2 K, H, W), x
            and y of each point, moved from the prior's center as the box's center is. Since version 2.
        peaks: Whether a class of a cell counts only where none of the eight cells around it has a higher logit of that
            class (CenterNet's heat maps; score `cls`, one box per cell). Since version 2.
    """

    kind: BoxKind
    levels: tuple[LevelSpec, ...]
    score: ScoreKind = "obj*cls"
    wh: Literal["exp", "square"] = "square"
    bins: int = 0
    cell_offset: float = 0.5
    suppression: Suppression = "nms"
    unit_xy: tuple[float, float] = (1.0, 1.0)
    priors: PriorSpec | None = None
    clip: Clip = "after-nms"
    top_k: int = 0
    top_k_per: TopKPer = "level"
    keypoints: tuple[str, ...] = ()
    peaks: bool = False

    def __post_init__(self) -> None:
        """Validate that the levels carry what the kind needs."""
        _require(len(self.levels) > 0, "decode.levels", "at least one level", self.levels)
        _require(self.top_k >= 0, "decode.top_k", "0 or more", self.top_k)
        alone = self.score == "cls" and all(len(level.anchors_px) <= 1 for level in self.levels)
        _require(alone or not self.peaks, "decode.peaks", "score cls and one box per cell", self.score)
        fits = not self.keypoints or (self.kind == "priors" and len(self.keypoints) == len(self.levels))
        _require(fits, "decode.keypoints", "none, or with kind priors one output per level", self.keypoints)
        if self.kind in ("anchors", "priors"):
            _require(
                all(lv.anchors_px for lv in self.levels),
                "decode.levels",
                "anchors on every level",
                self.levels,
            )
        if self.kind == "dfl":
            _require(self.bins >= 2, "decode.bins", "2 or more", self.bins)
        if self.kind == "queries":
            _require(len(self.levels) == 1, "decode.levels", "one level of queries", self.levels)
            _require(self.score == "cls", "decode.score", "cls for queries", self.score)
            _require(self.suppression == "none", "decode.suppression", "none for queries", self.suppression)
        _require(
            (self.priors is not None) == (self.kind == "priors"), "decode.priors", "rules of priors only", self.kind
        )
        if self.kind in ("queries", "priors"):
            units = all(math.isfinite(unit) and unit > 0 for unit in self.unit_xy)
            _require(units, "decode.unit_xy", "two positive numbers", self.unit_xy)
        else:
            _require(self.unit_xy == (1.0, 1.0), "decode.unit_xy", "1 and 1 (only queries have units)", self.unit_xy)
        if self.kind in ("decoded", "nms"):
            return
        for level in self.levels:
            if "obj" in self.score:
                _require(level.objectness is not None, "level.objectness", f"an output (score {self.score})", None)
            if self.score != "obj":
                _require(level.scores is not None, "level.scores", f"an output (score {self.score})", None)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Graph outputs in order: per level boxes, objectness, scores, those that exist; then keypoints."""
        names = [n for level in self.levels for n in (level.boxes, level.objectness, level.scores)]
        return tuple(dict.fromkeys(n for n in (*names, *self.keypoints) if n is not None))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Default post-processing settings.

    Attributes:
        conf: Candidates must score above this, 0..1.
        iou: Of two boxes of a class that overlap by more than this, the lower-scored one goes.
        max_det: Detections kept per image.
        multi_label: One candidate may yield a box for every class above `conf`, not just its best.
        class_agnostic: Suppress across classes.
    """

    conf: float = 0.25
    iou: float = 0.45
    max_det: int = 300
    multi_label: bool = False
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        """Validate ranges."""
        _require(0.0 <= self.conf <= 1.0, "thresholds.conf", "0..1", self.conf)
        _require(0.0 <= self.iou <= 1.0, "thresholds.iou", "0..1", self.iou)
        _require(self.max_det > 0, "thresholds.max_det", "a positive number", self.max_det)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything a runtime needs to turn a picture into named boxes with one network.

    Attributes:
        family: Architecture family, a key of the model registry, or `custom`.
        variant: The member of the family, such as `yolov5n`.
        input: The input tensor.
        resize: From a picture to the input's size.
        decode: From raw outputs to boxes.
        classes: Class names; the index is the class id.
        thresholds: Default post-processing settings.
        licence: Licence of the weights or of the code family they derive from, as an SPDX expression or
            words.
        tool_version: Version of edgedet that wrote the spec.
        spec_version: Lowest version of this contract that can say all of the spec; computed.
    """

    family: str
    variant: str
    input: InputSpec
    resize: ResizeSpec
    decode: DecodeSpec
    classes: tuple[str, ...]
    thresholds: Thresholds = field(default_factory=Thresholds)
    licence: str = "unknown"
    tool_version: str = ""
    spec_version: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        """Validate the classes and find out the version."""
        _require(len(self.classes) > 0, "classes", "at least one class name", self.classes)
        whole, of_input = (1.0, 1.0), _fractions(*self.input.size_hw)
        units = (of_input,) if self.decode.kind == "priors" else (whole, of_input)
        words = " or ".join(f"{x:g}, {y:g}" for x, y in units)
        _require(self.decode.unit_xy in units, "decode.unit_xy", f"{words} (the input's size)", self.decode.unit_xy)
        object.__setattr__(self, "spec_version", 2 if self._later_fields() else 1)

    def _later_fields(self) -> list[tuple[str, str]]:
        """Return the parts and fields that came with version 2 and say something here."""
        later = [(part, name) for part, name, plain in _SINCE_2 if getattr(getattr(self, part), name) != plain]
        later += [("decode", "score")] * (self.decode.score in _SCORES_SINCE_2)
        return later + [("resize", "interpolation")] * (self.resize.interpolation == "linear-corner")

    def to_json(self) -> str:
        """Serialize to compact JSON; floats survive a round trip exactly.

        Fields of version 2 that have their defaults are left out, so that version 1 is read by an earlier runtime.
        """
        data = dataclasses.asdict(self)
        said = self._later_fields()
        for part, name, _ in _SINCE_2:
            if (part, name) not in said:
                del data[part][name]
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read and validate a spec.

        Raises:
            ModelFileError: The text is not JSON, has unknown or missing fields, or values out of range.
        """
        try:
            data = parse_json(text)
        except (ValueError, RecursionError) as e:
            raise ModelFileError(f"model spec: expected JSON, got {text[:40]!r} ({e})") from None
        _require(isinstance(data, dict), "spec", "an object", data)
        version = data.pop("spec_version", 1)
        known = type(version) is int and 1 <= version <= SPEC_VERSION
        _require(known, "spec_version", f"1 to {SPEC_VERSION} (export the model again)", version)
        spec = typing.cast(ModelSpec, _parse(cls, data, "spec"))
        later = ", ".join(".".join(path) for path in spec._later_fields())
        _require(spec.spec_version <= version, "spec_version", f"{spec.spec_version} or more with {later}", version)
        return spec

    @classmethod
    def from_data(cls, data: Any) -> ModelSpec:
        """Read and validate a spec that is a part of another JSON document; see `from_json`."""
        return cls.from_json(json.dumps(data))

    def replace(self, **changes: Any) -> ModelSpec:
        """Return a copy with some fields changed, validated anew."""
        return dataclasses.replace(self, **changes)

    def with_size(self, height: int, width: int) -> ModelSpec:
        """Return the contract of the same network at another input size."""
        decode = self.decode
        if decode.unit_xy != (1.0, 1.0):
            decode = _resized(decode, _fractions(height, width))
        return self.replace(input=dataclasses.replace(self.input, height=height, width=width), decode=decode)


def _fractions(height: int, width: int) -> tuple[float, float]:
    """Return the `DecodeSpec.unit_xy` of boxes that are fractions of an input."""
    return float(width), float(height)


def _resized(decode: DecodeSpec, unit_xy: tuple[float, float]) -> DecodeSpec:
    """Return the rules at another input size; priors that are fractions of the input keep their share of it."""
    levels = decode.levels
    if decode.priors is not None and decode.priors.scales:
        x, y = (new / old for new, old in zip(unit_xy, decode.unit_xy, strict=True))
        scaled = (tuple((w * x, h * y) for w, h in level.anchors_px) for level in levels)
        levels = tuple(dataclasses.replace(lv, anchors_px=px) for lv, px in zip(levels, scaled, strict=True))
    return dataclasses.replace(decode, levels=levels, unit_xy=unit_xy)


_SINCE_2: tuple[tuple[str, str, object], ...] = (
    ("decode", "suppression", "nms"),
    ("decode", "unit_xy", (1.0, 1.0)),
    ("decode", "priors", None),
    ("decode", "clip", "after-nms"),
    ("decode", "top_k", 0),
    ("decode", "top_k_per", "level"),
    ("decode", "keypoints", ()),
    ("decode", "peaks", False),
    ("resize", "per_axis", False),
)
"""Fields that version 2 added: the part of the spec, the field, its default, which is what version 1 means."""

_SCORES_SINCE_2 = ("softmax", "sqrt(obj*cls)")


def _parse(kind: Any, value: Any, where: str) -> Any:
    """Build `kind` (a dataclass, Literal, tuple, union or scalar) from JSON data, strictly."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        _require(isinstance(value, dict), where, "an object", value)
        hints = typing.get_type_hints(kind)
        fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
        unknown = sorted(set(value) - set(fields))
        _require(not unknown, where, f"fields {', '.join(fields)}", unknown)
        missing = [
            n
            for n, f in fields.items()
            if n not in value and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        _require(not missing, where, f"the field {missing[0] if missing else ''}", "nothing")
        return kind(**{n: _parse(hints[n], v, f"{where}.{n}") for n, v in value.items()})
    if origin is Literal:
        options = typing.get_args(kind)
        _require(value in options, where, f"one of {', '.join(map(str, options))}", value)
        return value
    if origin is tuple:
        args = typing.get_args(kind)
        _require(isinstance(value, (list, tuple)), where, "a list", value)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_parse(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        _require(len(value) == len(args), where, f"{len(args)} values", value)
        return tuple(_parse(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True)))
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _parse(next(a for a in typing.get_args(kind) if a is not type(None)), value, where)
    if kind is float:
        _require(isinstance(value, (int, float)) and not isinstance(value, bool), where, "a number", value)
        try:
            return float(value)
        except OverflowError:
            _require(False, where, "a number below 1.8e308", value)
    _require(isinstance(value, kind) and not (kind is int and isinstance(value, bool)), where, kind.__name__, value)
    return value
