"""The contract of torchvision's SSDs: default boxes as priors, a softmax with background, stretched pictures.

Default boxes of level k: a square of side s_k, one of side sqrt(s_k * s_(k+1)), and for each ratio r boxes of
s_k * sqrt(r) by s_k / sqrt(r) and the other way round (Liu et al. 2016, section 2.2); sides are fractions of the input,
at most 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgedet_runtime.prior_spec import PriorSpec, PriorStep
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

__all__ = ["CAP", "DefaultBoxes", "ssd_spec"]

CAP = math.log(1000 / 16)
"""torchvision bounds the logarithm of a size's change by this, in all detectors with a box coder."""


@dataclass(frozen=True, slots=True)
class DefaultBoxes:
    """How the default boxes of a network are made.

    Attributes:
        size: Side of the square input, in pixels.
        scales: Sides s_k as fractions of the input, one more than there are levels.
        ratios: Aspect ratios besides 1, per level.
        strides: Pixels between centers, per level; where `exact` is False they are input over grid instead.
        exact: Whether `strides` count.
    """

    size: int
    scales: tuple[float, ...]
    ratios: tuple[tuple[int, ...], ...]
    strides: tuple[int, ...]
    exact: bool

    def per_cell(self) -> tuple[int, ...]:
        """Return the number of boxes of a cell, per level."""
        return tuple(2 + 2 * len(ratios) for ratios in self.ratios)

    def anchors_px(self, level: int) -> tuple[tuple[float, float], ...]:
        """Return (width, height) of the boxes of a cell, in pixels of the input."""
        s, following = self.scales[level], self.scales[level + 1]
        sides = [(s, s), (math.sqrt(s * following),) * 2]
        for ratio in self.ratios[level]:
            root = math.sqrt(ratio)
            sides += [(s * root, s / root), (s / root, s * root)]
        return tuple((min(w, 1.0) * self.size, min(h, 1.0) * self.size) for w, h in sides)


def ssd_spec(
    variant: str,
    classes: tuple[str, ...],
    boxes: DefaultBoxes,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    iou: float,
    max_det: int,
    top_k: int,
) -> ModelSpec:
    """Return the contract of a network with these default boxes.

    Args:
        variant: Its name.
        classes: Without background.
        boxes: Its default boxes.
        mean: RGB, of pixels divided by 255.
        std: RGB, of pixels divided by 255.
        iou: Official threshold of suppression.
        max_det: Official number of detections.
        top_k: Official number of candidates of a class.
    """
    levels = tuple(
        LevelSpec(stride, f"boxes_{i}", f"scores_{i}", anchors_px=boxes.anchors_px(i))
        for i, stride in enumerate(boxes.strides)
    )
    step: PriorStep = "stride" if boxes.exact else "grid"
    rules = PriorSpec("exp", (0.1, 0.1, 0.2, 0.2), step=step, clamp=True, cap=CAP, scales=True)
    (r, g, b), (rs, gs, bs) = mean, std
    return ModelSpec(
        family="ssd",
        variant=variant,
        input=InputSpec(
            "images",
            boxes.size,
            boxes.size,
            layout="NCHW",
            dtype="float32",
            color="RGB",
            scale=1 / 255,
            mean=(r, g, b),
            std=(rs, gs, bs),
        ),
        resize=ResizeSpec("stretch"),
        decode=DecodeSpec(
            "priors",
            levels,
            "softmax",
            unit_xy=(float(boxes.size),) * 2,
            priors=rules,
            clip="before-nms",
            top_k=top_k,
            top_k_per="class",
        ),
        classes=classes,
        thresholds=Thresholds(iou=iou, max_det=max_det, multi_label=True),
        licence="BSD-3-Clause",
    )
