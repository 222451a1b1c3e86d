"""PriorSpec: what boxes mean that are predicted relative to priors, boxes of fixed sizes centered on cells.

SSD (Liu et al. 2016), RetinaNet (Lin et al. 2017), ATSS, EfficientDet, BlazeFace and others differ in these rules only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgedet_runtime.spec_rules import require

__all__ = ["PriorBox", "PriorSpec", "PriorStep"]

PriorBox = Literal["exp", "linear", "sides"]
PriorStep = Literal["stride", "grid", "grid-floor"]


@dataclass(frozen=True, slots=True)
class PriorSpec:
    """How a raw box vector t moves a prior of center c and size a (`LevelSpec.anchors_px`).

    The center is ``c = (g + cell_offset) * step``, g being the cell's column and row. With v the variances:

    - `exp`: xy = c + t * v * a; wh = exp(t * v) * a (SSD, RetinaNet, ATSS, EfficientDet).
    - `linear`: xy = c + t * v * a; wh = t * v * a (BlazeFace).
    - `sides`: l, t, r, b = t * v * a around c, where a is (width, height) of the prior (FCOS as torchvision has it).

    Attributes:
        box: One of the formulas above.
        variances: Factors on x, y, w and h (or on l, t, r and b): 1 / the weights of torchvision's box coder.
        step: Distance of centers: the level's `stride`, the input's side over the side of the grid (`grid`), or that
            rounded down to whole pixels (`grid-floor`).
        clamp: Whether priors are at most as large as the input; their centers stay.
        cap: Upper bound of t * v for sizes of `exp`, before the exponential; None for none.
        cap_below: Whether -cap is a lower bound as well (mmdet).
        scales: Whether priors are fractions of the input, so that `anchors_px` grow and shrink with it.
        inclusive: Whether the last pixel belongs to a box (``x1 = x0 + w - 1``), as in code of Detectron's age.
    """

    box: PriorBox = "exp"
    variances: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    step: PriorStep = "stride"
    clamp: bool = False
    cap: float | None = None
    cap_below: bool = False
    scales: bool = False
    inclusive: bool = False

    def __post_init__(self) -> None:
        """Validate numbers."""
        finite = all(math.isfinite(v) and v > 0 for v in self.variances)
        require(finite, "decode.priors.variances", "four positive numbers", self.variances)
        good = self.cap is None or (math.isfinite(self.cap) and self.cap > 0)
        require(good, "decode.priors.cap", "a positive number or nothing", self.cap)
        require(self.cap is not None or not self.cap_below, "decode.priors.cap_below", "false without a cap", True)
