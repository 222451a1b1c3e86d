"""Distributed distances: each side is the expectation of a softmax over bins 0..n-1 (Li et al. 2020, GFL).

Channels are side-major: ``bins`` logits of left, then of top, right and bottom. YOLOv6 (m, l), NanoDet-Plus,
DAMO-YOLO; they differ in ``cell_offset``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedet_runtime.candidates import Candidates, Cells, Outputs, from_cells
from edgedet_runtime.decode.ltrb import around_points
from edgedet_runtime.spec import DecodeSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["decode"]


def decode(outputs: Outputs, spec: DecodeSpec, conf: float, multi_label: bool) -> Candidates:
    """Decode raw outputs of kind `dfl`."""
    return from_cells(outputs, spec, conf, multi_label, _boxes, 4 * spec.bins)


def _boxes(t: npt.NDArray[np.float32], cells: Cells, spec: DecodeSpec) -> npt.NDArray[np.float32]:
    logits = t.reshape(len(t), 4, spec.bins)
    weights = np.exp(logits - logits.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    distances = weights @ np.arange(spec.bins, dtype=np.float32)
    return around_points(distances, cells, spec)
