"""What a foreign file's tail was found to be, and how to write candidates as the file does.

`Interpretation.render` is the forward direction of the hypothesis: our raw outputs in, the file's columns out. The
search (`interpretation_search`) and the final check (`verify`) both compare what it gives with what the file gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from edgedet_export.foreign.layout import Layout
from edgedet_models.decode import BOX_DECODERS, cell_grid
from edgedet_runtime.spec import DecodeSpec, LevelSpec

__all__ = ["Interpretation", "ObjectnessForm", "OutputForm", "Roles", "ScoreForm"]

Array = npt.NDArray[Any]
ObjectnessForm = Literal["raw", "sigmoid", "one", "absent"]
ScoreForm = Literal["raw", "sigmoid", "product"]


@dataclass(frozen=True, slots=True)
class Roles:
    """Which of a level's convolutions, by index, is what; all None where one convolution holds everything."""

    boxes: int | None = None
    objectness: int | None = None
    scores: int | None = None


@dataclass(frozen=True, slots=True)
class OutputForm:
    """How the file writes candidates.

    Attributes:
        boxes: `raw` convolution outputs, after `sigmoid`, or `decoded`.
        corners: Decoded boxes are x0, y0, x1, y1 instead of centre and size.
        unit_hw: What decoded coordinates are divided by, vertically and horizontally: (1, 1) for pixels, or the
            input's size.
        objectness: `raw`, after `sigmoid`, constant `one`, or `absent`.
        scores: `raw`, after `sigmoid`, or `product` (sigmoids of class and objectness multiplied).
    """

    boxes: Literal["raw", "sigmoid", "decoded"] = "raw"
    corners: bool = False
    unit_hw: tuple[int, int] = (1, 1)
    objectness: ObjectnessForm = "raw"
    scores: ScoreForm = "raw"


@dataclass(frozen=True, slots=True)
class Interpretation:
    """What a file's tail was found to be.

    Attributes:
        family: Family whose conventions hold.
        layout: Where the candidates stand in the outputs.
        roles: What the head's convolutions are.
        decode: How raw outputs become boxes; outputs are named boxes_i, objectness_i, scores_i.
        form: How the file writes candidates.
        num_classes: Number of classes.
        notes: What was taken from elsewhere than the graph, for people.
    """

    family: str
    layout: Layout
    roles: Roles
    decode: DecodeSpec
    form: OutputForm
    num_classes: int
    notes: tuple[str, ...] = ()

    def parts(self, level: int, arrays: Sequence[Array]) -> dict[str, Array]:
        """Split the head's values of a level, (C, H, W) each, into our outputs by name, (C, H, W) each.

        The channels of one joint convolution are anchor-major: per anchor 4 box numbers, objectness, classes.
        """
        spec = self.decode.levels[level]
        if self.roles.boxes is None:
            joint = arrays[0].reshape(self.layout.anchors, -1, *arrays[0].shape[1:])
            pieces = (joint[:, :4], joint[:, 4:5], joint[:, 5:])
            boxes, objectness, scores = (p.reshape(-1, *p.shape[2:]) for p in pieces)
        else:
            assert self.roles.scores is not None, "set together with boxes"
            boxes, scores = arrays[self.roles.boxes], arrays[self.roles.scores]
            objectness = arrays[self.roles.objectness] if self.roles.objectness is not None else boxes[:0]
        named = {spec.boxes: boxes, spec.objectness: objectness, spec.scores: scores}
        return {name: value for name, value in named.items() if name is not None}

    def render(self, level: int, parts: dict[str, Array]) -> dict[str, Array]:
        """Write a level's raw outputs as the file would.

        Returns:
            float64 arrays (A, H, W, columns) by column group: `boxes`, `objectness`, `scores`; groups that the file or
            the spec does not have are left out.
        """
        spec, form = self.decode.levels[level], self.form
        per_anchor = {name: _per_anchor(value, self.layout.anchors) for name, value in parts.items()}
        result = {"boxes": _render_boxes(per_anchor[spec.boxes], spec, self.decode, form)}
        objectness = per_anchor.get(spec.objectness or "")
        if form.objectness == "one":
            result["objectness"] = np.ones_like(result["boxes"][..., :1])
        elif form.objectness != "absent" and objectness is not None:
            result["objectness"] = objectness if form.objectness == "raw" else _sigmoid(objectness)
        if spec.scores is not None:
            scores = per_anchor[spec.scores]
            result["scores"] = scores if form.scores == "raw" else _sigmoid(scores)
            if form.scores == "product":
                assert objectness is not None, "a product has two factors"
                result["scores"] = result["scores"] * _sigmoid(objectness)
        return result

    def columns(self, candidates: Array) -> dict[str, Array]:
        """Split a file's candidates (A, H, W, columns) into the groups that `render` gives."""
        result = {"boxes": candidates[..., :4]}
        first = 4 if self.form.objectness == "absent" else 5
        if first == 5:
            result["objectness"] = candidates[..., 4:5]
        result["scores"] = candidates[..., first:]
        return result


def _render_boxes(t: Array, level: LevelSpec, decode: DecodeSpec, form: OutputForm) -> Array:
    if form.boxes != "decoded":
        return t if form.boxes == "raw" else _sigmoid(t)
    raw = torch.from_numpy(np.ascontiguousarray(t))[None]
    grid = cell_grid(t.shape[1], t.shape[2], raw)
    xyxy = BOX_DECODERS[decode.kind](raw, grid, level, decode)[0].numpy()
    if not form.corners:
        xyxy = np.concatenate([(xyxy[..., :2] + xyxy[..., 2:]) / 2, xyxy[..., 2:] - xyxy[..., :2]], axis=-1)
    return np.asarray(xyxy / np.array([form.unit_hw[1], form.unit_hw[0]] * 2))


def _per_anchor(value: Array, anchors: int) -> Array:
    """(A * c, H, W) to float64 (A, H, W, c)."""
    candidates: Array = value.reshape(anchors, -1, *value.shape[1:]).transpose(0, 2, 3, 1)
    return candidates.astype(np.float64)


def _sigmoid(value: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-value)))
