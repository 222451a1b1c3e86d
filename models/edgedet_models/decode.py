"""Dense decoding in torch: raw head outputs to boxes and scores, for training, parity and in-graph decoding.

The device decodes sparsely in numpy (`edgedet_runtime.decode`); this is the same arithmetic for every candidate at
once, differentiable, and traceable to ONNX. The formulas stand in `edgedet_runtime.spec.DecodeSpec`.

Candidates are ordered by level, anchor, row, column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgedet_runtime.decode.priors import step_xy
from edgedet_runtime.spec import DecodeSpec, LevelSpec, ModelSpec

__all__ = ["BOX_DECODERS", "cell_grid", "decode", "decode_boxes", "peaks", "score_logits"]


def cell_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Return the column and row of each cell, shape (height, width, 2), in the dtype and on the device of `like`."""
    rows = torch.arange(height, dtype=like.dtype, device=like.device)
    columns = torch.arange(width, dtype=like.dtype, device=like.device)
    grid_y, grid_x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((grid_x, grid_y), dim=-1)


def _per_candidate(t: Tensor, anchors: int) -> Tensor:
    """(N, A * c, h, w) to (N, A, h, w, c); queries, (N, Q, c), become a row of cells, (N, 1, 1, Q, c)."""
    if t.dim() == 3:
        return t[:, None, None]
    n, channels, h, w = t.shape
    return t.reshape(n, anchors, channels // anchors, h, w).permute(0, 1, 3, 4, 2)


def _corners(xy: Tensor, wh: Tensor) -> Tensor:
    return torch.cat((xy - wh / 2, xy + wh / 2), dim=-1)


def _anchors(t: Tensor, grid: Tensor, level: LevelSpec, spec: DecodeSpec) -> Tensor:
    sizes = torch.tensor(level.anchors_px, dtype=t.dtype, device=t.device).reshape(1, -1, 1, 1, 2)
    s = level.scale_xy
    xy = (t[..., :2].sigmoid() * s - (s - 1) / 2 + grid) * level.stride
    factor = (t[..., 2:].sigmoid() * 2) ** 2 if spec.wh == "square" else t[..., 2:].exp()
    return _corners(xy, factor * sizes)


def _points_exp(t: Tensor, grid: Tensor, level: LevelSpec, spec: DecodeSpec) -> Tensor:
    return _corners((t[..., :2] + grid) * level.stride, t[..., 2:].exp() * level.stride)


def _ltrb(t: Tensor, grid: Tensor, level: LevelSpec, spec: DecodeSpec) -> Tensor:
    point = grid + spec.cell_offset
    return torch.cat((point - t[..., :2], point + t[..., 2:]), dim=-1) * level.stride


def _dfl(t: Tensor, grid: Tensor, level: LevelSpec, spec: DecodeSpec) -> Tensor:
    bins = torch.arange(spec.bins, dtype=t.dtype, device=t.device)
    sides = (t.unflatten(-1, (4, spec.bins)).softmax(dim=-1) * bins).sum(dim=-1)
    return _ltrb(sides, grid, level, spec)


def _priors(t: Tensor, grid: Tensor, level: LevelSpec, spec: DecodeSpec) -> Tensor:
    rules = spec.priors
    assert rules is not None, "validated by DecodeSpec"
    center = (grid + spec.cell_offset) * t.new_tensor(step_xy(spec, level, (grid.shape[0], grid.shape[1])))
    size = t.new_tensor(level.anchors_px).reshape(1, -1, 1, 1, 2)
    if rules.clamp:
        size = torch.minimum(size, t.new_tensor(spec.unit_xy))
    t = t * t.new_tensor(rules.variances)
    if rules.box == "sides":
        return torch.cat((center - t[..., :2] * size, center + t[..., 2:] * size), dim=-1)
    factor = t[..., 2:]
    if rules.box == "exp":
        if rules.cap is not None:
            factor = factor.clamp(min=-rules.cap if rules.cap_below else None, max=rules.cap)
        factor = factor.exp()
    return _corners(center + t[..., :2] * size, factor * size - float(rules.inclusive))


def _queries(t: Tensor, grid: Tensor, level: LevelSpec, spec: DecodeSpec) -> Tensor:
    return _corners(t[..., :2], t[..., 2:]) * torch.tensor(spec.unit_xy * 2, dtype=t.dtype, device=t.device)


BOX_DECODERS: Mapping[str, Callable[[Tensor, Tensor, LevelSpec, DecodeSpec], Tensor]] = {
    "anchors": _anchors,
    "points-exp": _points_exp,
    "ltrb": _ltrb,
    "dfl": _dfl,
    "priors": _priors,
    "queries": _queries,
}
"""Box decoders by kind: raw boxes (N, A, h, w, c), grid (h, w, 2), level, spec → xyxy (N, A, h, w, 4) in pixels."""


def decode_boxes(spec: ModelSpec, raw: Sequence[Tensor]) -> Tensor:
    """Decode the boxes of all candidates.

    Args:
        spec: The network's contract, of a raw kind.
        raw: Raw outputs (N, C, h, w), of queries (N, Q, C), in the order of ``spec.decode.output_names``.

    Returns:
        xyxy boxes (N, M, 4) in pixels of the network input, not clipped.
    """
    named = dict(zip(spec.decode.output_names, raw, strict=True))
    decoder = BOX_DECODERS[spec.decode.kind]
    boxes = []
    for level in spec.decode.levels:
        t = _per_candidate(named[level.boxes], max(1, len(level.anchors_px)))
        xyxy = decoder(t, cell_grid(t.shape[2], t.shape[3], t), level, spec.decode)
        boxes.append(xyxy.flatten(1, 3))
    return torch.cat(boxes, dim=1)


def score_logits(spec: ModelSpec, raw: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
    """Gather the logits of all candidates, in the order of `decode_boxes`.

    Returns:
        Objectness logits (N, M) or None, class logits (N, M, classes) or None, of a softmax background's first.
    """
    named = dict(zip(spec.decode.output_names, raw, strict=True))
    objectness: list[Tensor] = []
    classes: list[Tensor] = []
    for level in spec.decode.levels:
        anchors = max(1, len(level.anchors_px))
        if level.objectness is not None:
            objectness.append(_per_candidate(named[level.objectness], anchors).flatten(1))
        if level.scores is not None:
            classes.append(_per_candidate(named[level.scores], anchors).flatten(1, 3))
    return (
        torch.cat(objectness, dim=1) if objectness else None,
        torch.cat(classes, dim=1) if classes else None,
    )


def peaks(spec: ModelSpec, raw: Sequence[Tensor]) -> Tensor:
    """Return 1 where no cell around has a higher logit of the class, else 0; (N, M, classes), ordered as `decode`.

    `decode` itself leaves them out, so that parity compares scores and not which of two neighbors rounding favors.
    """
    named = dict(zip(spec.decode.output_names, raw, strict=True))
    parts = []
    for level in spec.decode.levels:
        t = named[str(level.scores)]
        highest = functional.max_pool2d(t, 3, 1, 1)
        parts.append(_per_candidate((t >= highest).to(t.dtype), 1).flatten(1, 3))
    return torch.cat(parts, dim=1)


def decode(spec: ModelSpec, raw: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Decode all candidates to boxes and scores.

    Args:
        spec: The network's contract, of a raw kind.
        raw: Raw outputs (N, C, h, w) in the order of ``spec.decode.output_names``.

    Returns:
        Boxes xyxy (N, M, 4) in pixels of the network input, and scores (N, M, classes) in 0..1.
    """
    objectness, classes = score_logits(spec, raw)
    if spec.decode.score == "obj" or classes is None:
        assert objectness is not None, "validated by ModelSpec"
        scores = objectness.sigmoid().unsqueeze(-1)
    elif spec.decode.score == "softmax":
        scores = classes.softmax(dim=-1)[..., 1:]
    else:
        scores = classes.sigmoid()
        if "obj" in spec.decode.score:
            assert objectness is not None, "validated by ModelSpec"
            scores = scores * objectness.sigmoid().unsqueeze(-1)
        if spec.decode.score == "sqrt(obj*cls)":
            scores = scores.sqrt()
    return decode_boxes(spec, raw), scores
