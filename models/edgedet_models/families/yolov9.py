"""YOLOv9 and GELAN, the official code (Wang, Yeh and Liao, 2024, arXiv:2402.13616): t, s, m, c and e.

Official checkpoints are pickled modules; the network is rebuilt from their module tree. Training files have one or two
auxiliary heads before the main one and layers that feed only those: both are left out, which makes YOLOv9-C's network
that of GELAN-C. The parallel convolutions of RepConvN stay as they are, for the fuse passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_models.layer_list.pickled import naming
from edgedet_models.ultralytics import layouts_v9
from edgedet_models.ultralytics.build import HeadStyle, build_rows
from edgedet_models.ultralytics.pickled import PickledDetector
from edgedet_models.ultralytics.rows import Layout
from edgedet_models.ultralytics.state_dict import MatchedNetwork, match_networks
from edgedet_models.ultralytics.variants import has_layout
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.spec import Thresholds

__all__ = ["FORMS", "LICENCE", "VARIANTS", "build", "load", "recognise"]

FAMILY = "yolov9"
LICENCE = "GPL-3.0"
FORMS = ("pickled modules", "state dict")
THRESHOLDS = Thresholds(conf=0.25, iou=0.45, max_det=1000)
STYLE = HeadStyle(groups=4, class_factor=2, most_classes=128)
LAYOUTS: Mapping[str, Callable[[], Layout]] = {
    "t": partial(layouts_v9.v9_small, 64),
    "s": partial(layouts_v9.v9_small, 128),
    "m": layouts_v9.v9_m,
    "c": layouts_v9.v9_c,
    "e": layouts_v9.v9_e,
}


def build(size: str, classes: tuple[str, ...]) -> DetectorModule:
    """Build an untrained GELAN, which is what YOLOv9 of that size is without its auxiliary branch.

    Args:
        size: A key of `LAYOUTS`.
        classes: Class names.
    """
    variant = f"gelan-{size}"
    return build_rows(LAYOUTS[size](), classes, family=FAMILY, variant=variant, style=STYLE, thresholds=THRESHOLDS)


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    f"gelan-{size}": partial(build, size) for size in LAYOUTS
}


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognise pickled models by their head; YOLOv5's and YOLOv7's, of the same module paths, have another."""
    with naming(checkpoint.path):
        network = _find(checkpoint)
        if network is not None:
            return Recognition(FAMILY, _variant(network), network.class_names(), network.evidence)
        found = _match(checkpoint)
        return None if found is None else Recognition(FAMILY, found.variant, found.class_names, found.evidence)


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Rebuild the network from the file, without what only training needs.

    Raises:
        CheckpointError: It is no YOLOv9, has layers that are not supported, or contradicts itself.
    """
    with naming(checkpoint.path):
        network = _find(checkpoint)
        if network is not None:
            return network.build(family=FAMILY, variant=_variant(network), licence=LICENCE, thresholds=THRESHOLDS)
        found = _match(checkpoint)
        if found is None:
            raise CheckpointError("expected a YOLOv9 or GELAN model, got another kind of file")
        return found.build(checkpoint.path, LICENCE)


def _find(checkpoint: Checkpoint) -> PickledDetector | None:
    network = PickledDetector.find(checkpoint)
    return network if network is not None and network.node.class_path.startswith("models.") else None


def _match(checkpoint: Checkpoint) -> MatchedNetwork | None:
    layouts = {f"gelan-{size}": layout for size, layout in LAYOUTS.items()}
    return None if checkpoint.module() is not None else match_networks(layouts, VARIANTS, checkpoint.tensors())


def _variant(network: PickledDetector) -> str:
    """Name the network by what is left of it; the training form is called YOLOv9, as its authors do."""
    name = "yolov9" if network.has_auxiliary else "gelan"
    for size, layout in LAYOUTS.items():
        plain = layout()
        rows = tuple(row for row in plain.rows if row.kind != "Identity")
        if has_layout(network.read_layers, network.head.bins, replace(plain, rows=rows)):
            return f"{name}-{size}"
    return "custom"
