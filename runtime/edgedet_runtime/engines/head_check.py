"""Whether a model's outputs are those that its spec describes, from the shapes that the engine reports at load.

One function per kind of head says which shapes a spec needs. Sizes that depend on the picture's place, such as rows of
a grid, are free here; the decoders look at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.spec import BoxKind, ModelSpec

__all__ = ["HEADS", "Shape", "check_head"]

Shape = tuple[int | None, ...]
"""A shape with None for every size that is open."""

_Heads = dict[str, tuple[Shape, ...]]


def _cells(box_channels: int) -> Callable[[ModelSpec], _Heads]:
    """Return what heads that predict per cell need: (1, A * channels, H, W) each."""

    def heads(spec: ModelSpec) -> _Heads:
        needed: _Heads = {}
        for level in spec.decode.levels:
            anchors = max(len(level.anchors_px), 1)
            channels = {level.boxes: box_channels * (spec.decode.bins if spec.decode.kind == "dfl" else 1)}
            if level.objectness is not None:
                channels[level.objectness] = 1
            if level.scores is not None and spec.decode.score != "obj":
                channels[level.scores] = len(spec.classes) + (spec.decode.score == "softmax")
            needed |= {name: ((1, anchors * count, None, None),) for name, count in channels.items()}
        return needed | dict.fromkeys(spec.decode.keypoints, ((1, None, None, None),))

    return heads


def _queries(spec: ModelSpec) -> _Heads:
    level = spec.decode.levels[0]
    return {level.boxes: ((1, None, 4),), str(level.scores): ((1, None, len(spec.classes)),)}


def _decoded(spec: ModelSpec) -> _Heads:
    return {spec.decode.levels[0].boxes: ((1, None, 4 + len(spec.classes)),)}


def _nms(spec: ModelSpec) -> _Heads:
    return {spec.decode.levels[0].boxes: ((None, 6), (1, None, 6))}


HEADS: dict[BoxKind, Callable[[ModelSpec], _Heads]] = {
    "anchors": _cells(4),
    "points-exp": _cells(4),
    "ltrb": _cells(4),
    "dfl": _cells(4),
    "priors": _cells(4),
    "queries": _queries,
    "decoded": _decoded,
    "nms": _nms,
}
"""Kind of head → name of each output and the shapes that it may have."""


def check_head(shapes: Mapping[str, Shape | None], spec: ModelSpec, what: str) -> None:
    """Compare a model's outputs with its spec.

    Args:
        shapes: Name of each output → its shape, None where it is unknown.
        spec: The model's contract.
        what: What messages call the model.

    Raises:
        ModelFileError: An output has another shape than the spec needs, such as for more classes than it names.
    """
    for name, allowed in HEADS[spec.decode.kind](spec).items():
        shape = shapes.get(name)
        if shape is None or any(_fits(shape, need) for need in allowed):
            continue
        count = len(spec.classes)
        raise ModelFileError(
            f"{what}: output {name}: expected shape {_text(allowed[0])} for {count} class{'es' if count != 1 else ''},"
            f" as its spec says, got {_text(shape)}: the file and its spec do not fit; export it again"
        )


def _fits(shape: Shape, need: Shape) -> bool:
    return len(shape) == len(need) and all(None in (a, b) or a == b for a, b in zip(shape, need, strict=True))


def _text(shape: Shape) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
