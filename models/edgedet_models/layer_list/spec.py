"""The contract of anchor detectors of the YOLOv5 school."""

from __future__ import annotations

from collections.abc import Sequence

from edgedet_runtime.spec import (
    DecodeSpec,
    InputSpec,
    LevelSpec,
    ModelSpec,
    ResizeSpec,
    ScoreKind,
    Thresholds,
)

__all__ = ["anchor_spec"]

Anchors = Sequence[tuple[float, float]]


def anchor_spec(
    *,
    family: str,
    variant: str,
    licence: str,
    classes: tuple[str, ...],
    strides: Sequence[int],
    anchors_px: Sequence[Anchors],
    score: ScoreKind = "obj*cls",
) -> ModelSpec:
    """Return the contract: RGB 0..1, centred letterbox padded with 114, anchors with squared sizes.

    Args:
        family: Registry name.
        variant: Such as ``yolov5n``.
        licence: Licence class of the weights.
        classes: Class names.
        strides: Input pixels per cell of each level.
        anchors_px: Anchor sizes in input pixels, per level.
        score: ``obj`` leaves the class outputs away.
    """
    levels = tuple(
        LevelSpec(
            stride=stride,
            boxes=f"boxes_{i}",
            objectness=f"objectness_{i}",
            scores=None if score == "obj" else f"scores_{i}",
            anchors_px=tuple((float(w), float(h)) for w, h in anchors),
            scale_xy=2.0,
        )
        for i, (stride, anchors) in enumerate(zip(strides, anchors_px, strict=True))
    )
    side = 1280 if max(strides) >= 64 else 640
    return ModelSpec(
        family=family,
        variant=variant,
        input=InputSpec("images", side, side, layout="NCHW", dtype="float32", color="RGB", scale=1 / 255),
        resize=ResizeSpec(),
        decode=DecodeSpec("anchors", levels, score=score, wh="square"),
        classes=classes,
        thresholds=Thresholds(conf=0.25, iou=0.45),
        licence=licence,
    )
