"""YOLOv5 (Ultralytics): n, s, m, l, x with the stem of v6 or the Focus stem before it, and YOLOv5-SPD.

Official checkpoints are pickled modules; the network is rebuilt from their module tree, whatever its vintage
(C3 or BottleneckCSP, SPP or SPPF, Focus, P6, SPD, Ghost). Bare state dicts are compared with the layouts
below, and depth, width and class count read off the shapes.

Layouts: the published architecture of YOLOv5 v6 and its predecessors. SPD: Sunkara and Luo, "No More Strided
Convolutions or Pooling", 2022, arXiv:2208.03641; every strided convolution behind the stem becomes one of
stride 1 with space-to-depth behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_models.layer_list.network import LayerListDetector
from edgedet_models.layer_list.pickled import PickledNetwork, naming
from edgedet_models.layer_list.rows import Layout, Row, build_rows, scale
from edgedet_models.layer_list.spec import Anchors
from edgedet_models.layer_list.state_dict import MatchedLayout, match_layouts
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "build", "load", "recognise"]

FAMILY = "yolov5"
LICENCE = "AGPL-3.0"
FORMS = ("pickled modules", "state dict")
SPD_LICENCE = "GPL-3.0"
"""YOLOv5-SPD was forked from YOLOv5 v6.0, before the licence changed."""
OWN_LICENCE = "Apache-2.0"
"""Networks that are built here, untrained, derive from nobody's code or weights."""
SIZES: Mapping[str, tuple[float, float]] = {
    "n": (0.33, 0.25),
    "s": (0.33, 0.50),
    "m": (0.67, 0.75),
    "l": (1.00, 1.00),
    "x": (1.33, 1.25),
}
"""Depth and width multiples."""
ANCHORS_PX: Sequence[Anchors] = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
NOT_YOLOV5 = frozenset(["IDetect", "IAuxDetect", "RepConv", "MP", "SP", "SPPCSPC", "ReOrg", "DownC"])
"""Classes of YOLOv7's code, which has the same module paths."""


def _backbone(stem: Row, middle_repeats: int, *, pooling_last: bool) -> list[Row]:
    rows = [stem]
    for channels, repeats in ((128, 3), (256, middle_repeats), (512, 9)):
        rows += [Row("cell", channels, kernel=3, stride=2), Row("c3", channels, repeats)]
    rows.append(Row("cell", 1024, kernel=3, stride=2))
    if pooling_last:
        return [*rows, Row("c3", 1024, 3), Row("sppf", 1024)]
    return [*rows, Row("spp", 1024), Row("c3", 1024, 3, add=False)]


def _neck(rows: list[Row], p3: int, p4: int) -> tuple[Row, ...]:
    """Add the path-aggregation neck, given the layers at strides 8 and 16 and the last one at 32."""
    lateral5 = len(rows)
    rows += [Row("cell", 512), Row("up"), Row("concat", source=(-1, p4)), Row("c3", 512, 3, add=False)]
    lateral4 = len(rows)
    rows += [Row("cell", 256), Row("up"), Row("concat", source=(-1, p3)), Row("c3", 256, 3, add=False)]
    for channels, lateral in ((256, lateral4), (512, lateral5)):
        rows += [
            Row("cell", channels, kernel=3, stride=2),
            Row("concat", source=(-1, lateral)),
            Row("c3", 2 * channels, 3, add=False),
        ]
    return tuple(rows)


def _with_space_to_depth(rows: tuple[Row, ...]) -> Layout:
    """Replace each strided cell by one of stride 1 with space-to-depth behind it, and renumber."""
    moved: dict[int, int] = {}
    result: list[Row] = []
    for index, row in enumerate(rows):
        source = row.source
        if isinstance(source, tuple):
            source = tuple(moved[s] if s >= 0 else s for s in source)
        strided = row.kind == "cell" and row.stride == 2
        result.append(replace(row, source=source, stride=1))
        if strided:
            result.append(Row("space-to-depth"))
        moved[index] = len(result) - 1
    return Layout(tuple(result), (moved[17], moved[20], moved[23]), ANCHORS_PX, "-spd")


_STEM = Row("cell", 64, kernel=6, stride=2, padding=2)
_FOCUS = Row("focus", 64, kernel=3)
LAYOUTS: Mapping[str, Layout] = {
    "v6": Layout(_neck(_backbone(_STEM, 6, pooling_last=True), 4, 6), (17, 20, 23), ANCHORS_PX),
    "focus": Layout(_neck(_backbone(_FOCUS, 9, pooling_last=False), 4, 6), (17, 20, 23), ANCHORS_PX, "-focus"),
    "spd": _with_space_to_depth(_neck(_backbone(_FOCUS, 6, pooling_last=True), 4, 6)),
}


def build(size: str, layout: str, classes: tuple[str, ...]) -> LayerListDetector:
    """Build an untrained network.

    Args:
        size: A key of `SIZES`.
        layout: A key of `LAYOUTS`.
        classes: Class names.
    """
    depth, width = SIZES[size]
    scaled = scale(LAYOUTS[layout], depth=depth, width=width)
    variant = f"{FAMILY}{size}{scaled.suffix}"
    return build_rows(scaled, classes, family=FAMILY, variant=variant, licence=OWN_LICENCE)


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    f"{FAMILY}{size}{chosen.suffix}": partial(build, size, name)
    for name, chosen in LAYOUTS.items()
    for size in SIZES
    if (name, size) != ("spd", "x")
}


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognise pickled YOLOv5 models by their head and layers, state dicts by their keys and shapes."""
    with naming(checkpoint.path):
        network = PickledNetwork.find(checkpoint)
        if network is not None:
            if not _is_yolov5(network):
                return None
            return Recognition(FAMILY, _variant(network), network.class_names(), network.evidence)
        found = match_layouts(LAYOUTS.values(), checkpoint.tensors())
        if found is None:
            return None
        variant = _matched_variant(found)
        return Recognition(FAMILY, variant, found.class_names, f"state dict with the keys of {variant}")


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Rebuild the network from the file.

    Raises:
        CheckpointError: It is no YOLOv5, has layers that are not supported, or contradicts itself.
    """
    with naming(checkpoint.path):
        network = PickledNetwork.find(checkpoint)
        if network is not None and _is_yolov5(network):
            variant = _variant(network)
            return network.build(family=FAMILY, variant=variant, licence=_licence(network.type_names))
        found = match_layouts(LAYOUTS.values(), checkpoint.tensors())
        if found is not None:
            variant = _matched_variant(found)
            kinds = frozenset(row.kind for row in found.layout.rows)
            return found.build(checkpoint.path, family=FAMILY, variant=variant, licence=_licence(kinds))
        raise CheckpointError("expected a YOLOv5 model or its state dict, got another kind of file")


def _is_yolov5(network: PickledNetwork) -> bool:
    of_yolov7 = network.type_names & NOT_YOLOV5 or "traced" in network.node.attributes
    return network.head.type_name == "Detect" and not of_yolov7


def _licence(kinds: frozenset[str]) -> str:
    return SPD_LICENCE if kinds & {"space_to_depth", "space-to-depth"} else LICENCE


def _size(channels: int, repeats: int) -> str | None:
    """Return the size's letter by the stem's channels and the first stage's residual cells."""
    for size, (depth, width) in SIZES.items():
        if (int(64 * width), max(round(3 * depth), 1)) == (channels, repeats):
            return size
    return None


def _variant(network: PickledNetwork) -> str:
    """Name the variant by its structure; ``custom`` where it is none of the published sizes."""
    first = next((n for _, n in network.layers[0].walk() if n.type_name == "Conv2d"), None)
    stage = next((n for n in network.layers if n.type_name == "C3"), None)
    weight = None if first is None else first.parameters.get("weight")
    if weight is None or stage is None or "m" not in stage.children:
        return "custom"
    size = _size(len(weight), len(stage.children["m"].children))
    layout = _layout_of(network)
    return "custom" if size is None or layout is None else f"{FAMILY}{size}{layout}"


_KINDS = {"Conv": "cell", "C3": "c3", "SPP": "spp", "SPPF": "sppf", "Focus": "focus", "Concat": "concat"}


def _layout_of(network: PickledNetwork) -> str | None:
    """Return the suffix of the layout whose layers the network has; P6 models have a layout of their own."""
    kinds = [_KINDS.get(n.type_name, n.type_name) for n in network.layers[:-1]]
    kinds = [{"Upsample": "up", "space_to_depth": "space-to-depth"}.get(kind, kind) for kind in kinds]
    for layout in LAYOUTS.values():
        if [row.kind for row in layout.rows] == kinds:
            return layout.suffix
    if len(network.anchors) == 4 and len(network.layers) == 34 and kinds[0] == "cell":
        return "6"
    return None


def _matched_variant(found: MatchedLayout) -> str:
    rows = found.layout.rows
    size = _size(rows[0].channels, next(row.repeats for row in rows if row.kind == "c3"))
    return "custom" if size is None else f"{FAMILY}{size}{found.known.suffix}"
