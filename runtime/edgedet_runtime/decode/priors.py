"""Boxes relative to priors: SSD, RetinaNet, ATSS, EfficientDet, BlazeFace and torchvision's FCOS.

A prior is a box of a fixed size around the point ``(g + cell_offset) * step``; `edgedet_runtime.prior_spec` has the
formulas (Ren et al. 2015, eq. 2, with the variances of Liu et al. 2016). The step is known once the grid is: cells of a
grid that was rounded up lie closer than its level's stride.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedet_runtime.candidates import Candidates, Cells, Outputs, from_cells
from edgedet_runtime.prior_spec import PriorSpec
from edgedet_runtime.spec import DecodeSpec, LevelSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["decode", "step_xy"]


def decode(outputs: Outputs, spec: DecodeSpec, conf: float, multi_label: bool) -> Candidates:
    """Decode raw outputs of kind `priors`."""
    return from_cells(outputs, spec, conf, multi_label, _boxes, 4, _points)


def step_xy(spec: DecodeSpec, level: LevelSpec, grid_hw: tuple[int, int]) -> tuple[float, float]:
    """Return the distance of neighboring centers along x and y, in input pixels."""
    assert spec.priors is not None, "validated by DecodeSpec"
    if spec.priors.step == "stride":
        return float(level.stride), float(level.stride)
    x, y = (side / cells for side, cells in zip(spec.unit_xy, reversed(grid_hw), strict=True))
    return (float(x // 1), float(y // 1)) if spec.priors.step == "grid-floor" else (x, y)


def _boxes(t: Floats, cells: Cells, spec: DecodeSpec) -> Floats:
    rules = spec.priors
    assert rules is not None, "validated by DecodeSpec"
    center, size = _priors(cells, spec, rules)
    t = t * np.array(rules.variances, np.float32)
    if rules.box == "sides":
        return np.concatenate((center - t[:, :2] * size, center + t[:, 2:] * size), axis=1)
    center = center + t[:, :2] * size
    with np.errstate(over="ignore"):
        size = size * (_exponential(t[:, 2:], rules) if rules.box == "exp" else t[:, 2:])
    half = (size - np.float32(rules.inclusive)) / 2
    return np.concatenate((center - half, center + half), axis=1)


def _points(t: Floats, cells: Cells, spec: DecodeSpec) -> Floats:
    rules = spec.priors
    assert rules is not None, "validated by DecodeSpec"
    center, size = _priors(cells, spec, rules)
    moves = t.reshape(len(t), -1, 2) * np.array(rules.variances[:2], np.float32)
    return np.asarray(center[:, None] + moves * size[:, None], np.float32)


def _priors(cells: Cells, spec: DecodeSpec, rules: PriorSpec) -> tuple[Floats, Floats]:
    """Return centers and sizes, float32 (N, 2) each."""
    grids = zip(spec.levels, cells.grids_hw, strict=True)
    step = cells.per_level(step_xy(spec, level, grid_hw) for level, grid_hw in grids)
    center = (cells.xy + np.float32(spec.cell_offset)) * step
    size = cells.anchors_px(spec)
    if rules.clamp:
        size = np.minimum(size, np.array(spec.unit_xy, np.float32))
    return center, size


def _exponential(t: Floats, rules: PriorSpec) -> Floats:
    if rules.cap is not None:
        t = np.clip(t, -rules.cap if rules.cap_below else -np.inf, rules.cap)
    return np.asarray(np.exp(t), np.float32)
