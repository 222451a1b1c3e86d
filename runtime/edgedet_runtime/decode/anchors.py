"""Anchor boxes: YOLOv2 to v5, v7 and their relatives.

``xy = (scale_xy * sigmoid(t) - (scale_xy - 1) / 2 + g) * s`` with the grid sensitivity of YOLOv4 (Bochkovskiy
et al. 2020, section 3.3); ``wh = exp(t) * anchor`` (Redmon & Farhadi 2017) or ``(2 * sigmoid(t))² * anchor``
(YOLOv5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedet_runtime.candidates import Candidates, Cells, Outputs, from_cells, sigmoid
from edgedet_runtime.spec import DecodeSpec, LevelSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["decode"]


def decode(outputs: Outputs, spec: DecodeSpec, conf: float, multi_label: bool) -> Candidates:
    """Decode raw outputs of kind `anchors`."""
    return from_cells(outputs, spec, conf, multi_label, _boxes, 4)


def _boxes(t: npt.NDArray[np.float32], cells: Cells, level: LevelSpec, spec: DecodeSpec) -> npt.NDArray[np.float32]:
    s = np.float32(level.scale_xy)
    center = (sigmoid(t[:, :2]) * s - (s - 1) / 2 + cells.xy) * np.float32(level.stride)
    anchors_px = np.asarray(level.anchors_px, np.float32)[cells.anchor]
    if spec.wh == "exp":
        with np.errstate(over="ignore"):
            half = np.exp(t[:, 2:]) * anchors_px / 2
    else:
        half = (sigmoid(t[:, 2:]) * 2) ** 2 * anchors_px / 2
    return np.concatenate((center - half, center + half), axis=1)
