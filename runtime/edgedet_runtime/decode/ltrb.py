"""Distances to the four sides: YOLOv6, FCOS and relatives.

``l, t, r, b = t * s`` around the point ``(g + cell_offset) * s`` (Tian et al. 2019, with distances in
strides).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedet_runtime.candidates import Candidates, Cells, Outputs, from_cells
from edgedet_runtime.spec import DecodeSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["around_points", "decode"]


def decode(outputs: Outputs, spec: DecodeSpec, conf: float, multi_label: bool) -> Candidates:
    """Decode raw outputs of kind `ltrb`."""
    return from_cells(outputs, spec, conf, multi_label, around_points, 4)


def around_points(distances: npt.NDArray[np.float32], cells: Cells, spec: DecodeSpec) -> npt.NDArray[np.float32]:
    """Return boxes (N, 4) from distances (N, 4) left, top, right, bottom in strides."""
    point = cells.xy + np.float32(spec.cell_offset)
    corners = np.concatenate((point - distances[:, :2], point + distances[:, 2:]), axis=1)
    return np.asarray(corners * cells.per_level(level.stride for level in spec.levels), np.float32)
