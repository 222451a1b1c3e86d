"""The contract of detectors that end in a set of queries."""

from __future__ import annotations

from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

__all__ = ["STRIDE", "query_spec"]

STRIDE = 32
"""The input's sides are multiples of this, the stride of the coarsest map that a backbone gives."""


def query_spec(
    *,
    family: str,
    variant: str,
    licence: str,
    classes: tuple[str, ...],
    size_hw: tuple[int, int],
    queries: int,
    conf: float,
    interpolation: str = "linear",
) -> ModelSpec:
    """Return the contract: RGB 0..1, stretched without keeping the aspect; boxes as fractions of the input, all pairs.

    Args:
        family: Registry name.
        variant: Such as ``rtdetr-l``.
        licence: License class of the weights.
        classes: Class names.
        size_hw: Input size of training, made a multiple of `STRIDE`.
        queries: Most objects that the network can give.
        conf: Threshold of the official prediction.
        interpolation: See `ResizeSpec`.
    """
    height, width = (-(-side // STRIDE) * STRIDE for side in size_hw)
    level = LevelSpec(STRIDE, "boxes", "scores")
    return ModelSpec(
        family=family,
        variant=variant,
        input=InputSpec("images", height, width, layout="NCHW", dtype="float32", color="RGB", scale=1 / 255),
        resize=ResizeSpec("stretch", interpolation="area-down" if interpolation == "area-down" else "linear"),
        decode=DecodeSpec("queries", (level,), "cls", suppression="none", unit_xy=(float(width), float(height))),
        classes=classes,
        thresholds=Thresholds(conf=conf, iou=0.7, max_det=queries, multi_label=True),
        licence=licence,
    )
