"""YOLOX: ``xy = (t + g) * s``, ``wh = exp(t) * s``, the point being the cell's corner (Ge et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedet_runtime.candidates import Candidates, Cells, Outputs, from_cells
from edgedet_runtime.spec import DecodeSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["decode"]


def decode(outputs: Outputs, spec: DecodeSpec, conf: float, multi_label: bool) -> Candidates:
    """Decode raw outputs of kind `points-exp`."""
    return from_cells(outputs, spec, conf, multi_label, _boxes, 4)


def _boxes(t: npt.NDArray[np.float32], cells: Cells, spec: DecodeSpec) -> npt.NDArray[np.float32]:
    stride = cells.per_level(level.stride for level in spec.levels)
    center = (t[:, :2] + cells.xy) * stride
    with np.errstate(over="ignore"):
        half = np.exp(t[:, 2:]) * stride / 2
    return np.concatenate((center - half, center + half), axis=1)
