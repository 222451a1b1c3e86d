"""What a user may ask of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedet_runtime.errors import ArgumentError

__all__ = ["ExportConfig", "Format", "Head", "OutputContract"]

Head = Literal["one-to-one", "one-to-many"]
Format = Literal["onnx", "openvino"]
OutputContract = Literal["raw", "decoded", "nms"]


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """Options of an export; validated when made.

    Attributes:
        out: Folder of the bundle; None: ``build/<name of the checkpoint or model>``.
        overwrite: Replace an existing bundle at `out`.
        formats: Which model files to write; ``onnx`` is always made, since everything else comes from it.
        imgsz: Input height and width in pixels; None: the size that the checkpoint was trained for.
        family: Registry name of the architecture family, where the file fits more than one, or for an ONNX file.
        head: Which head of YOLOv10 and YOLO26 to take, whose files hold two: ``one-to-one`` needs no suppression,
            neither in the graph nor in the runtime; ``one-to-many`` does. None: ``one-to-one`` where there are two.
        classes: Class names that replace those of the checkpoint; their number must fit.
        outputs: ``raw`` heads, ``decoded`` boxes and scores in the graph, or ``nms`` in the graph as well.
        input: ``uint8`` (NHWC BGR, as a camera gives it; the arithmetic is in the graph) or ``float32`` (NCHW in the
            network's own convention).
        int8: Also write a quantised file for each engine.
        search: Search for the fastest INT8 within the budget. False: the engine's plain placement, quickly and not
            judged, which is all that an untrained network, whose detections mean nothing, allows.
        calib: Folder, COCO json or YOLO data.yaml with calibration pictures; None: the pictures that edgedet ships.
        data: Labelled data set on which INT8 is held to `max_drop` AP points; None: agreement of detections.
        max_drop: Largest accepted loss of INT8 against FP32, in points of 100.
        max_float: Largest accepted share of the MACs that INT8 may leave in float, 0..1.
        conf: Default confidence threshold to store; None: the family's.
        iou: Default IoU threshold of NMS to store; None: the family's.
        interpolation: How pictures are resized, in export and on the device; None: as the family was trained.
            ``linear-exact`` gives the same bits on x86 and ARM, see `ResizeSpec`.
        seed: For untrained models that are built by name.
    """

    out: Path | None = None
    overwrite: bool = True
    formats: tuple[Format, ...] = ("onnx", "openvino")
    imgsz: tuple[int, int] | None = None
    family: str | None = None
    head: Head | None = None
    classes: tuple[str, ...] | None = None
    outputs: OutputContract = "raw"
    input: Literal["uint8", "float32"] = "uint8"
    int8: bool = False
    search: bool = True
    calib: Path | None = None
    data: Path | None = None
    max_drop: float = 0.5
    max_float: float = 0.15
    conf: float | None = None
    iou: float | None = None
    interpolation: Literal["linear", "linear-exact", "area-down"] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before any slow work."""
        unknown = set(self.formats) - {"onnx", "openvino"}
        if unknown or not self.formats:
            raise ArgumentError(
                "formats", f"expected onnx, openvino or both, got {', '.join(self.formats) or 'nothing'}"
            )
        if self.imgsz is not None and min(self.imgsz) <= 0:
            raise ArgumentError("imgsz", f"expected a height and a width in pixels, got {self.imgsz}")
        if not self.int8 and self.data is not None:
            raise ArgumentError("data", "it judges INT8 against FP32, so it goes with `int8`")
        if not self.search and self.data is not None:
            raise ArgumentError("data", "it judges candidates of the search for INT8, so it needs `search`")
        if not 0 <= self.max_drop < float("inf"):
            raise ArgumentError("max_drop", f"expected 0 or more points, got {self.max_drop}")
        if not 0 <= self.max_float <= 1:
            raise ArgumentError("max_float", f"expected a share of the MACs, 0..1, got {self.max_float}")
