"""Names of the published networks: builders, and the name of a network that came from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_models.detector import DetectorModule
from edgedet_models.ultralytics import layouts, layouts_v9
from edgedet_models.ultralytics.build import build_rows
from edgedet_models.ultralytics.rows import Layout, Row, Size, scale

__all__ = ["BUILDERS", "LAYOUTS", "build", "has_layout", "name_variant"]

FAMILY = "ultralytics"
_V5: Mapping[str, Size] = {
    "n": Size(0.33, 0.25),
    "s": Size(0.33, 0.50),
    "m": Size(0.67, 0.75),
    "l": Size(1.00, 1.00),
    "x": Size(1.33, 1.25),
}
_V8: Mapping[str, Size] = {
    "n": Size(0.33, 0.25),
    "s": Size(0.33, 0.50),
    "m": Size(0.67, 0.75, 768),
    "l": Size(1.00, 1.00, 512),
    "x": Size(1.00, 1.25, 512),
}
_V11: Mapping[str, Size] = {
    "n": Size(0.50, 0.25),
    "s": Size(0.50, 0.50),
    "m": Size(0.50, 1.00, 512, full=True),
    "l": Size(1.00, 1.00, 512, full=True),
    "x": Size(1.00, 1.50, 512, full=True),
}
_V12: Mapping[str, Size] = {
    **{letter: _V11[letter] for letter in "nsm"},
    "l": Size(1.00, 1.00, 512, full=True, residual=True),
    "x": Size(1.00, 1.50, 512, full=True, residual=True),
}
_V10: Mapping[str, tuple[Size, tuple[int, ...]]] = {
    "n": (_V8["n"], (22,)),
    "s": (_V8["s"], (8, 22)),
    "m": (_V8["m"], (8, 19, 22)),
    "b": (Size(0.67, 1.00, 512), (8, 13, 19, 22)),
    "l": (_V8["l"], (8, 13, 19, 22)),
    "x": (_V8["x"], (6, 8, 13, 19, 22)),
}
"""Sizes with the stages that are made of compact inverted blocks."""

LAYOUTS: Mapping[str, Callable[[], Layout]] = {
    **{f"yolov8{letter}": partial(lambda s: scale(layouts.v8(), s), size) for letter, size in _V8.items()},
    **{f"yolov8{letter}-p2": partial(lambda s: scale(layouts.v8_p2(), s), size) for letter, size in _V8.items()},
    **{f"yolov8{letter}-p6": partial(lambda s: scale(layouts.v8_p6(), s), size) for letter, size in _V8.items()},
    **{f"yolov5{letter}u": partial(lambda s: scale(layouts.v5u(), s), size) for letter, size in _V5.items()},
    **{f"yolov5{letter}6u": partial(lambda s: scale(layouts.v5u(p6=True), s), size) for letter, size in _V5.items()},
    "yolov3u": layouts.v3u,
    "yolov3-sppu": partial(layouts.v3u, pools=True),
    "yolov3-tinyu": layouts.v3u_tiny,
    **{f"yolo11{letter}": partial(lambda s: scale(layouts.v11(), s), size) for letter, size in _V11.items()},
    "yolov9t": partial(layouts_v9.v9_small, 64),
    "yolov9s": partial(layouts_v9.v9_small, 128),
    "yolov9m": layouts_v9.v9_m,
    "yolov9c": layouts_v9.v9_c,
    "yolov9e": layouts_v9.v9_e,
    **{
        f"yolov10{letter}": partial(lambda s, c, n: scale(layouts.v10(c, large=n), s), size, cib, letter in "ns")
        for letter, (size, cib) in _V10.items()
    },
    **{f"yolo12{letter}": partial(lambda s: scale(layouts.v12(), s), size) for letter, size in _V12.items()},
    **{f"yolo26{letter}": partial(lambda s: scale(layouts.v26(), s), size) for letter, size in _V11.items()},
}
"""Scaled architectures by name."""


def build(variant: str, classes: tuple[str, ...]) -> DetectorModule:
    """Build an untrained network, a key of `LAYOUTS`."""
    return build_rows(LAYOUTS[variant](), classes, family=FAMILY, variant=variant)


BUILDERS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    variant: partial(build, variant) for variant in LAYOUTS
}


def name_variant(layers: Sequence[ModuleNode], bins: int) -> str:
    """Return the published name of a network from a file, by its layers and their sizes; ``custom`` without one.

    Args:
        layers: Its layers without the head.
        bins: Bins per side of its head.
    """
    for variant, layout in LAYOUTS.items():
        if has_layout(layers, bins, layout()):
            return variant
    return "custom"


def has_layout(layers: Sequence[ModuleNode], bins: int, layout: Layout) -> bool:
    """Return whether layers from a file are those of a layout, in kind, width and depth, and the head's bins too."""
    rows = layout.rows
    if (len(rows), layout.bins) != (len(layers), bins):
        return False
    return all(_is_row(layer, row) for layer, row in zip(layers, rows, strict=True))


def _is_row(layer: ModuleNode, row: Row) -> bool:
    kind = row.kind
    if kind == "Bottleneck" and row.repeats > 1:
        kind = "Sequential"  # the official code repeats whole layers so
    names = {kind, *_ALSO.get(kind, ())}
    return layer.type_name in names and row.channels in (0, _width(layer)) and _repeats(layer) in (None, row.repeats)


_ALSO: Mapping[str, tuple[str, ...]] = {"Identity": ("Silence",)}
"""Other names of a layer, in other versions."""


def _width(layer: ModuleNode) -> int:
    """Return the output channels of a layer: those of its last numbered cell."""
    cells = sorted(name for name in layer.children if name.startswith("cv"))
    node = layer.children[cells[-1]] if cells else layer
    convs = [n for _, n in node.walk() if n.type_name == "Conv2d" and isinstance(n.parameters.get("weight"), Tensor)]
    if not convs:
        return 0
    weight = convs[-1].parameters["weight"]
    assert weight is not None, "selected so"
    return len(weight) * (2 if layer.type_name == "ADown" else 1)


def _repeats(layer: ModuleNode) -> int | None:
    """Return how many cells a stage has; None for layers that are no stage."""
    if layer.type_name == "Sequential":
        return len(layer.children)
    stage = layer
    if layer.type_name == "RepNCSPELAN4" and "cv2" in layer.children:
        stage = next(iter(layer.children["cv2"].children.values()), layer)
    cells = stage.children.get("m")
    return None if cells is None or not cells.children or layer.type_name == "SPP" else len(cells.children)
