"""Anchor boxes: YOLOv2 to v5, v7 and their relatives.

``xy = (scale_xy * sigmoid(t) - (scale_xy - 1) / 2 + g) * s`` with the grid sensitivity of YOLOv4 (Bochkovskiy
et al. 2020, section 3.3); ``wh = exp(t) * anchor`` (Redmon & Farhadi 2017) or ``(2 * sigmoid(t))² * anchor``
(YOLOv5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedet_runtime.candidates import Candidates, Cells, Outputs, from_cells, sigmoid
from edgedet_runtime.spec import DecodeSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["decode"]


def decode(outputs: Outputs, spec: DecodeSpec, conf: float, multi_label: bool) -> Candidates:
    """Decode raw outputs of kind `anchors`."""
    return from_cells(outputs, spec, conf, multi_label, _boxes, 4)


def _boxes(t: npt.NDArray[np.float32], cells: Cells, spec: DecodeSpec) -> npt.NDArray[np.float32]:
    s = cells.per_level(level.scale_xy for level in spec.levels)
    stride = cells.per_level(level.stride for level in spec.levels)
    center = (sigmoid(t[:, :2]) * s - (s - 1) / 2 + cells.xy) * stride
    anchors_px = cells.anchors_px(spec)
    if spec.wh == "exp":
        with np.errstate(over="ignore"):
            half = np.exp(t[:, 2:]) * anchors_px / 2
    else:
        half = (sigmoid(t[:, 2:]) * 2) ** 2 * anchors_px / 2
    return np.concatenate((center - half, center + half), axis=1)
