"""YOLOv5n with light backbones, and with single blocks exchanged: what is fastest on a CPU?

Two kinds of variants, both with YOLOv5n's own neck, head, anchors and contract:

- ``yolov5n-<backbone>``: a backbone of `edgedet_models.backbones` in the place of YOLOv5n's. The neck reads its
  features at strides 8 and 16 as they are; at stride 32, SPPF stands between, with the 128 inner and 256 output
  channels that it has in YOLOv5n. Layers that widen the last features for a classifier are left out.
- ``yolov5n-se``, ``-cbam``, ``-aspp``, ``-octave``: YOLOv5n with gates behind the four CSP stages of its backbone, ASPP
  for SPPF, or octave convolutions in the three stages whose maps have even sizes (strides 4, 8 and 16).

Each backbone has the width at which the detector comes nearest to YOLOv5n's 1.87 M parameters at 80 classes, among
those that papers or their code define (`BackboneKind.widths`), so that a table of them compares architectures and not
sizes: MobileNetV1 0.5, V2 0.75, V3 small 1, V3 large 0.5, ShuffleNetV1 and V2 1, GhostNet 0.5, MnasNet 0.5,
SqueezeNet 1 (its only one), EfficientNet-B0 and lite0 0.5. Weights published for another width fit
``build(backbone, classes, width=…)``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from edgedet_models.backbones import BACKBONES, Backbone
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition, yolov5
from edgedet_models.layer_list.network import LayerListDetector
from edgedet_models.layer_list.pickled import naming
from edgedet_models.layer_list.rows import Layout, Row, build_rows, scale
from edgedet_models.layer_list.state_dict import match_layouts
from edgedet_models.layers.junctions import Pick
from edgedet_models.layers.spp import Sppf
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "build", "load", "recognise"]

FAMILY = "yolov5-backbones"
LICENCE = "Apache-2.0"
"""Networks that are built and trained here derive from nobody's weights."""
FORMS = ("state dict",)
SIZE = "n"
SPPF_INNER = 128
BACKBONE_END = 9
"""Layer of YOLOv5 (SPPF) that ends what its authors call the backbone."""
_BACKBONE_KEYS = "model.0."


def _substitute(layout: Layout, change: Callable[[int, Row], Sequence[Row]]) -> Layout:
    """Put rows in the place of each row and renumber; what read a row that is gone reads the one before it."""
    moved: dict[int, int] = {}
    rows: list[Row] = []
    for index, row in enumerate(layout.rows):
        source = row.source
        if isinstance(source, tuple):
            source = tuple(moved[s] if s >= 0 else s for s in source)
        rows.extend(change(index, dataclasses.replace(row, source=source)))
        moved[index] = len(rows) - 1
    return dataclasses.replace(layout, rows=tuple(rows), levels=tuple(moved[level] for level in layout.levels))


def _gated(kind: str, index: int, row: Row) -> list[Row]:
    return [row, Row(kind)] if row.kind == "c3" and index < BACKBONE_END else [row]


def _with_aspp(index: int, row: Row) -> list[Row]:
    return [dataclasses.replace(row, kind="aspp") if row.kind == "sppf" else row]


def _with_octaves(index: int, row: Row) -> list[Row]:
    return [dataclasses.replace(row, kind="c3-octave") if index in (2, 4, 6) else row]


def _option(name: str, change: Callable[[int, Row], Sequence[Row]]) -> Layout:
    return dataclasses.replace(_substitute(yolov5.LAYOUTS["v6"], change), suffix=f"-{name}")


OPTIONS: Mapping[str, Layout] = {
    "se": _option("se", partial(_gated, "se")),
    "cbam": _option("cbam", partial(_gated, "cbam")),
    "aspp": _option("aspp", _with_aspp),
    "octave": _option("octave", _with_octaves),
}
"""YOLOv5 with blocks exchanged, before scaling."""


def _scaled(layout: Layout) -> Layout:
    depth, width = yolov5.SIZES[SIZE]
    return scale(layout, depth=depth, width=width)


def _build_option(name: str, classes: tuple[str, ...]) -> LayerListDetector:
    layout = _scaled(OPTIONS[name])
    return build_rows(layout, classes, family=FAMILY, variant=_name(name), licence=LICENCE)


def _name(suffix: str) -> str:
    return f"yolov5{SIZE}-{suffix}"


def build(backbone: str, classes: tuple[str, ...], *, width: float | None = None) -> LayerListDetector:
    """Build an untrained network with a light backbone, its layer 0.

    Args:
        backbone: A key of `BACKBONES`.
        classes: Class names.
        width: Factor on the backbone's published channels; by default the one of ``yolov5n-<backbone>``.
    """
    kind = BACKBONES[backbone]
    chosen = kind.width if width is None else width
    variant = _name(backbone) if chosen == kind.width else f"{_name(backbone)}-w{chosen:g}"
    return _assemble(kind.build(chosen), classes, variant)


def _assemble(backbone: Backbone, classes: tuple[str, ...], variant: str) -> LayerListDetector:
    levels = {4: 0, 6: 1, 8: 2}
    """YOLOv5's last layers at strides 8, 16 and 32, and the features that take their places."""

    def change(index: int, row: Row) -> list[Row]:
        if index == 0:
            return [Row("backbone")]
        if index in levels:
            level = levels[index]
            return [Row(f"level-{level}", backbone.channels[level], source=0)]
        if index == BACKBONE_END:
            return [dataclasses.replace(row, kind="pooling")]
        return [] if index < BACKBONE_END else [row]

    parts: dict[str, Callable[[Row, int], nn.Module]] = {
        "backbone": lambda row, c: backbone,
        "pooling": lambda row, c: Sppf(c, row.channels, hidden=SPPF_INNER),
        "level-0": lambda row, c: Pick(0),
        "level-1": lambda row, c: Pick(1),
        "level-2": lambda row, c: Pick(2),
    }
    layout = _substitute(_scaled(yolov5.LAYOUTS["v6"]), change)
    return build_rows(layout, classes, family=FAMILY, variant=variant, licence=LICENCE, parts=parts)


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    **{_name(name): partial(build, name) for name in BACKBONES},
    **{_name(name): partial(_build_option, name) for name in OPTIONS},
}


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognise own state dicts: the backbone and its width by keys and shapes, options by their layouts."""
    tensors = checkpoint.tensors()
    found = _backbone_of(tensors)
    if found is not None:
        name, width = found
        classes = _head_classes(tensors)
        variant = _name(name) if width == BACKBONES[name].width else f"{_name(name)}-w{width:g}"
        return Recognition(FAMILY, variant, _numbered(classes), f"layer 0 is {name} of width {width:g}")
    matched = match_layouts(OPTIONS.values(), tensors)
    if matched is None:
        return None
    variant = _name(matched.known.suffix.removeprefix("-"))
    return Recognition(FAMILY, variant, _numbered(matched.classes), f"state dict with the keys of {variant}")


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the network that the shapes tell and load it strictly; see `Family.load`.

    Names, thresholds and input size are those that training stored beside the weights, if it did.
    """
    tensors = checkpoint.tensors()
    recognised = recognise(checkpoint)
    if recognised is None:
        raise CheckpointError(f"{checkpoint.path}: expected YOLOv5n with another backbone or block, got other keys")
    matched = match_layouts(OPTIONS.values(), tensors)
    model: LayerListDetector
    with naming(checkpoint.path):
        found = _backbone_of(tensors)
        if found is not None:
            model = build(found[0], recognised.classes, width=found[1]).eval()
            load_strict(model, tensors, path=checkpoint.path, what=recognised.variant)
        else:
            assert matched is not None, "recognised by it"
            model = matched.build(checkpoint.path, family=FAMILY, variant=recognised.variant, licence=LICENCE)
    return model


def _numbered(classes: int) -> tuple[str, ...]:
    return tuple(f"class{i}" for i in range(classes))


def _head_classes(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of classes from the first level of the head."""
    key = next((name for name in tensors if name.endswith(".m.0.scores.weight")), None)
    anchors = len(yolov5.ANCHORS_PX[0])
    rows = 0 if key is None or not tensors[key].dim() else len(tensors[key])
    return max(rows // anchors, 1)


def _backbone_of(tensors: Mapping[str, Tensor]) -> tuple[str, float] | None:
    """Return the backbone and the width whose tensors a state dict has as layer 0, shape by shape."""
    own = {name.removeprefix(_BACKBONE_KEYS): t for name, t in tensors.items() if name.startswith(_BACKBONE_KEYS)}
    nearest: tuple[int, str, float] | None = None
    for name, kind in BACKBONES.items():
        if kind.mark not in own:
            continue
        for width in kind.widths:
            with torch.device("meta"):
                expected = kind.build(width).state_dict()
            wrong = sum(key not in own or own[key].shape != tensor.shape for key, tensor in expected.items())
            if nearest is None or wrong < nearest[0]:
                nearest = wrong, name, width
    return None if nearest is None else nearest[1:]
