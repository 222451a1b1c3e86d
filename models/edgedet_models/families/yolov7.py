"""YOLOv7 (Wang, Bochkovskiy, Liao, 2022, arXiv:2207.02696): tiny, v7, x, w6, e6, d6, e6e and their baselines.

Official checkpoints are pickled modules; the network is rebuilt from their module tree, training or deploy form.
RepConv branches and implicit layers stay as they are, for the fuse passes; auxiliary heads, and layers that feed
nothing else, are left out. Bare state dicts of tiny and v7 are recognised by their keys.

With a single class the official post-processing scores by objectness alone, and so does the contract: such a network
has no class outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_models.layer_list.network import LayerListDetector
from edgedet_models.layer_list.pickled import PickledNetwork, naming
from edgedet_models.layer_list.rows import Layout, Row, build_rows
from edgedet_models.layer_list.spec import Anchors
from edgedet_models.layer_list.state_dict import MatchedLayout, match_layouts
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.spec import ScoreKind

__all__ = ["FORMS", "LICENCE", "VARIANTS", "build", "load", "recognise"]

FAMILY = "yolov7"
LICENCE = "GPL-3.0"
FORMS = ("pickled modules", "state dict")
OWN_LICENCE = "Apache-2.0"
"""Networks that are built here, untrained, derive from nobody's code or weights."""
TINY_ANCHORS_PX: Sequence[Anchors] = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
ANCHORS_PX: Sequence[Anchors] = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)
ONLY_YOLOV7 = frozenset(
    ["IDetect", "IAuxDetect", "RepConv", "MP", "SP", "SPPCSPC", "ReOrg", "DownC", "Chuncat", "Foldcut"]
)
"""Classes that YOLOv5's code, which has the same module paths, does not have."""
PUBLISHED: Mapping[tuple[int, int], str] = {
    (77, 32): "yolov7-tiny",
    (105, 32): "yolov7",
    (121, 40): "yolov7x",
    (118, 64): "yolov7-w6",
    (122, 64): "yolov7-w6",
    (140, 80): "yolov7-e6",
    (144, 80): "yolov7-e6",
    (162, 96): "yolov7-d6",
    (166, 96): "yolov7-d6",
    (261, 80): "yolov7-e6e",
    (265, 80): "yolov7-e6e",
}
"""Variants by the index of the head and the channels of the first convolution; two indices where training has an
auxiliary head."""


class _Rows:
    """Writes down layers; blocks are the paper's: ELAN, its neck form ELAN-H, and the two-branch transition."""

    def __init__(self, act: str) -> None:
        self.rows: list[Row] = []
        self._act = act

    @property
    def last(self) -> int:
        """Index of the last layer."""
        return len(self.rows) - 1

    def cell(self, channels: int, kernel: int = 1, stride: int = 1, source: int = -1) -> int:
        self.rows.append(Row("cell", channels, kernel=kernel, stride=stride, source=source, act=self._act))
        return self.last

    def add(self, row: Row) -> int:
        self.rows.append(row)
        return self.last

    def elan(self, branch: int, inner: int, cells: int, joined: tuple[int, ...], channels: int) -> int:
        """Two 1×1 branches, `cells` 3×3 cells in a row, those at `joined` concatenated, and a 1×1 cell."""
        self.cell(branch)
        self.cell(branch, source=-2)
        for _ in range(cells):
            self.cell(inner, 3)
        self.add(Row("concat", source=joined))
        return self.cell(channels)

    def transition(self, channels: int, *laterals: int) -> int:
        """Halve the size by a pool and by a strided cell, and join both with `laterals`."""
        self.add(Row("pool", kernel=2, stride=2))
        self.cell(channels)
        self.cell(channels, source=-3)
        self.cell(channels, 3, 2)
        return self.add(Row("concat", source=(-1, -3, *laterals)))

    def up(self, channels: int, lateral: int) -> int:
        """Double the size and join with a finer layer, both brought to `channels`."""
        self.cell(channels)
        self.add(Row("up"))
        self.cell(channels, source=lateral)
        return self.add(Row("concat", source=(-1, -2)))


def _tiny() -> Layout:
    r = _Rows("leaky")
    joined = (-1, -2, -3, -4)
    r.cell(32, 3, 2)
    r.cell(64, 3, 2)
    r.elan(32, 32, 2, joined, 64)
    stages = []
    for channels in (64, 128, 256):
        r.add(Row("pool", kernel=2, stride=2))
        stages.append(r.elan(channels, channels, 2, joined, 2 * channels))
    r.cell(256)
    r.cell(256, source=-2)
    for index, kernel in enumerate((5, 9, 13)):
        r.add(Row("pool", kernel=kernel, source=-1 - index))
    r.add(Row("concat", source=joined))
    r.cell(256)
    r.add(Row("concat", source=(-1, -7)))
    p5 = r.cell(256)
    r.up(128, stages[1])
    p4 = r.elan(64, 64, 2, joined, 128)
    r.up(64, stages[0])
    n3 = r.elan(32, 32, 2, joined, 64)
    r.cell(128, 3, 2)
    r.add(Row("concat", source=(-1, p4)))
    n4 = r.elan(64, 64, 2, joined, 128)
    r.cell(256, 3, 2)
    r.add(Row("concat", source=(-1, p5)))
    n5 = r.elan(128, 128, 2, joined, 256)
    levels = [r.cell(2 * c, 3, source=n) for c, n in ((64, n3), (128, n4), (256, n5))]
    return Layout(tuple(r.rows), tuple(levels), TINY_ANCHORS_PX, "-tiny", implicit=True)


def _v7() -> Layout:
    r = _Rows("silu")
    backbone, neck = (-1, -3, -5, -6), (-1, -2, -3, -4, -5, -6)
    r.cell(32, 3)
    r.cell(64, 3, 2)
    r.cell(64, 3)
    r.cell(128, 3, 2)
    r.elan(64, 64, 4, backbone, 256)
    stages = []
    for channels, inner in ((128, 128), (256, 256), (512, 256)):
        r.transition(channels)
        stages.append(r.elan(inner, inner, 4, backbone, min(4 * channels, 1024)))
    p5 = r.add(Row("spp-cspc", 512))
    r.up(256, stages[1])
    p4 = r.elan(256, 128, 4, neck, 256)
    r.up(128, stages[0])
    n3 = r.elan(128, 64, 4, neck, 128)
    r.transition(128, p4)
    n4 = r.elan(256, 128, 4, neck, 256)
    r.transition(256, p5)
    n5 = r.elan(512, 256, 4, neck, 512)
    levels = [r.add(Row("rep", 2 * c, source=n)) for c, n in ((128, n3), (256, n4), (512, n5))]
    return Layout(tuple(r.rows), tuple(levels), ANCHORS_PX, implicit=True)


LAYOUTS: Sequence[Layout] = (_tiny(), _v7())


def build(layout: Layout, classes: tuple[str, ...]) -> LayerListDetector:
    """Build an untrained network.

    Args:
        layout: One of `LAYOUTS`.
        classes: Class names.
    """
    variant = FAMILY + layout.suffix
    score = _score(len(classes))
    return build_rows(layout, classes, family=FAMILY, variant=variant, licence=OWN_LICENCE, score=score)


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    FAMILY + layout.suffix: partial(build, layout) for layout in LAYOUTS
}


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognise pickled YOLOv7 models by their head and layers, state dicts by their keys."""
    with naming(checkpoint.path):
        network = PickledNetwork.find(checkpoint)
        if network is not None:
            if not _is_yolov7(network):
                return None
            return Recognition(FAMILY, _variant(network), network.class_names(), network.evidence)
        found = match_layouts(LAYOUTS, checkpoint.tensors())
        if found is None:
            return None
        variant = _matched_variant(found)
        return Recognition(FAMILY, variant, found.class_names, "state dict with the keys of YOLOv7")


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Rebuild the network from the file.

    Raises:
        CheckpointError: It is no YOLOv7, has layers that are not supported, or contradicts itself.
    """
    with naming(checkpoint.path):
        network = PickledNetwork.find(checkpoint)
        if network is not None and _is_yolov7(network):
            score = _score(network.num_classes)
            return network.build(family=FAMILY, variant=_variant(network), licence=LICENCE, score=score)
        found = match_layouts(LAYOUTS, checkpoint.tensors())
        if found is not None:
            variant, score = _matched_variant(found), _score(found.classes)
            return found.build(checkpoint.path, family=FAMILY, variant=variant, licence=LICENCE, score=score)
        raise CheckpointError("expected a YOLOv7 model or its state dict, got another kind of file")


def _score(classes: int) -> ScoreKind:
    return "obj" if classes == 1 else "obj*cls"


def _is_yolov7(network: PickledNetwork) -> bool:
    return bool(network.type_names & ONLY_YOLOV7) or "traced" in network.node.attributes


def _variant(network: PickledNetwork) -> str:
    """Name the variant by its structure; ``custom`` where it is none of the published ones."""
    weights = (node.parameters.get("weight") for _, node in network.node.walk() if node.type_name == "Conv2d")
    first = next(weights, None)
    channels = 0 if first is None else len(first)
    return PUBLISHED.get((len(network.layers) - 1, channels), "custom")


def _matched_variant(found: MatchedLayout) -> str:
    same = [row.channels for row in found.layout.rows] == [row.channels for row in found.known.rows]
    return FAMILY + found.known.suffix if same else "custom"
