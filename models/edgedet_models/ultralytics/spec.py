"""The contract of detectors with a `DistanceHead`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgedet_models.detector import HeadName
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

__all__ = ["distance_spec", "for_head"]


def distance_spec(
    *,
    family: str,
    variant: str,
    licence: str,
    classes: tuple[str, ...],
    strides: Sequence[int],
    bins: int,
    size_px: int = 640,
    thresholds: Thresholds | None = None,
) -> ModelSpec:
    """Return the contract: RGB 0..1, centered letterbox padded with 114, sides as distances or distributions.

    Args:
        family: Registry name.
        variant: Such as ``yolov8n``.
        licence: License class of the weights.
        classes: Class names.
        strides: Input pixels per cell of each level.
        bins: Bins per side; 1: the numbers are the distances, in strides.
        size_px: Input size of training; made a multiple of the largest stride.
        thresholds: Defaults of the official prediction; None: Ultralytics' (0.25, 0.7, 300 objects).
    """
    levels = tuple(LevelSpec(stride, f"boxes_{i}", f"scores_{i}") for i, stride in enumerate(strides))
    side = -(-size_px // max(strides)) * max(strides)
    decode = DecodeSpec("dfl", levels, "cls", bins=bins) if bins > 1 else DecodeSpec("ltrb", levels, "cls")
    return ModelSpec(
        family=family,
        variant=variant,
        input=InputSpec("images", side, side, layout="NCHW", dtype="float32", color="RGB", scale=1 / 255),
        resize=ResizeSpec(),
        decode=decode,
        classes=classes,
        thresholds=thresholds or Thresholds(conf=0.25, iou=0.7, max_det=300),
        licence=licence,
    )


def for_head(spec: ModelSpec, head: HeadName) -> ModelSpec:
    """Return the contract with the rules of one head.

    One-to-one: no suppression; a place may be several classes, as in the official top-k over pairs of cell and class.
    One-to-many: suppression, the best class of each place.
    """
    one = head == "one-to-one"
    return spec.replace(
        decode=replace(spec.decode, suppression="none" if one else "nms"),
        thresholds=replace(spec.thresholds, multi_label=one),
    )
