"""Detectors from bare state dicts, by comparing their keys with known layouts.

Channels, residual cells and classes are read off the shapes. Strides, joints, activation and epsilon leave no trace
in a state dict; they come from the layout that the keys fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.layer_list.network import LayerListDetector
from edgedet_models.layer_list.rows import Layout, Row, build_rows
from edgedet_models.layers.head import split_tensors
from edgedet_runtime.spec import ScoreKind

__all__ = ["MatchedLayout", "match_layouts"]

STRIDES = (8, 16, 32)

_CELLS = ("cv1.conv.weight", "cv2.conv.weight")
_MARKS: Mapping[str, tuple[str, ...]] = {
    "aspp": ("reduce.conv.weight", "mix.conv.weight"),
    "c3-octave": ("cells.0.filter.low_high.0.weight", "leave.0.weight"),
    "cbam": ("place.weight", "widen.weight"),
    "c3": (*_CELLS, "m.0.cv1.conv.weight", "cv3.conv.weight"),
    "cell": ("bn.weight", "conv.weight"),
    "focus": ("conv.conv.weight",),
    "rep": ("rbr_1x1.0.weight", "rbr_dense.0.weight"),
    "se": ("fc1.weight", "fc2.weight"),
    "spp": _CELLS,
    "spp-cspc": ("cv1.conv.weight", "cv7.conv.weight"),
    "sppf": _CELLS,
}
"""Keys by which a layer's kind shows; the last one is of the convolution that has its output channels."""


@dataclass(frozen=True, slots=True)
class MatchedLayout:
    """A state dict that fits a layout.

    Attributes:
        layout: The layout, with the channels, repeats and anchors of the file.
        known: The layout as published.
        classes: Number of classes.
        tensors: The state dict, its keys starting with ``model.``.
    """

    layout: Layout
    known: Layout
    classes: int
    tensors: Mapping[str, Tensor]

    @property
    def class_names(self) -> tuple[str, ...]:
        """``class0`` …, as a state dict holds no names."""
        return tuple(f"class{i}" for i in range(self.classes))

    def build(
        self, path: Path, *, family: str, variant: str, licence: str, score: ScoreKind = "obj*cls"
    ) -> LayerListDetector:
        """Build the detector with the state dict's weights, float32, evaluation mode.

        Raises:
            CheckpointError: Tensors are missing, left over or of another shape.
        """
        model = build_rows(self.layout, self.class_names, family=family, variant=variant, licence=licence, score=score)
        head = f"model.{len(self.layout.rows)}."
        anchors = (f"{head}anchors", f"{head}anchor_grid")
        tensors = {name: tensor for name, tensor in self.tensors.items() if name not in anchors}
        per_cell = len(self.layout.anchors_px[0])
        split = split_tensors(tensors, head, per_cell, self.classes, scores=score != "obj")
        load_strict(model, split, path=path, what=variant)
        return model.eval()


def match_layouts(layouts: Iterable[Layout], tensors: Mapping[str, Tensor]) -> MatchedLayout | None:
    """Return the first layout whose layers the keys of a state dict have, or None."""
    while tensors and all(name.startswith("model.model.") for name in tensors):
        tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    found = (_match(layout, tensors) for layout in layouts)
    return next((match for match in found if match is not None), None)


def _match(layout: Layout, tensors: Mapping[str, Tensor]) -> MatchedLayout | None:
    head = f"model.{len(layout.rows)}."
    keys = {name[len(head) :] for name in tensors if name.startswith(head)}
    if layout.implicit != any(".implicit" in key for key in keys):
        return None
    rows: list[Row] = []
    for index, row in enumerate(layout.rows):
        prefix = f"model.{index}."
        marks = [prefix + mark for mark in _MARKS.get(row.kind, ())]
        if not all(mark in tensors and tensors[mark].numel() and tensors[mark].dim() for mark in marks):
            return None
        if not marks:
            if any(name.startswith(prefix) for name in tensors):
                return None
            rows.append(row)
            continue
        below = (f"{prefix}m.", f"{prefix}cells.")
        cells = {name.split(".")[3] for name in tensors if name.startswith(below)}
        rows.append(replace(row, channels=len(tensors[marks[-1]]), repeats=max(len(cells), 1)))
    anchors = tensors.get(f"{head}anchors")
    anchors_px = layout.anchors_px
    if anchors is not None:
        if anchors.dim() != 3 or len(anchors) != len(STRIDES) or anchors.shape[2] != 2:
            return None
        scaled = anchors.float() * torch.tensor(STRIDES).reshape(-1, 1, 1)
        anchors_px = tuple(tuple((w, h) for w, h in level) for level in scaled.tolist())
    classes = _classes(tensors, f"{head}m.0.", len(anchors_px[0]))
    if classes is None:
        return None
    found = replace(layout, rows=tuple(rows), anchors_px=anchors_px)
    return MatchedLayout(found, layout, classes, tensors)


def _classes(tensors: Mapping[str, Tensor], prefix: str, anchors: int) -> int | None:
    """Return the number of classes from the head's first level: official, or split as edgedet saves it."""
    official, split = tensors.get(f"{prefix}weight"), tensors.get(f"{prefix}scores.weight")
    if official is None and split is None and f"{prefix}objectness.weight" in tensors:
        return 1  # scored by objectness alone
    weight, extra = (official, 5) if official is not None else (split, 0)
    if weight is None or weight.dim() != 4:
        return None
    per_anchor, rest = divmod(len(weight), anchors)
    return per_anchor - extra if rest == 0 and per_anchor > extra else None
