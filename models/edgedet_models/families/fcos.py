"""FCOS as torchvision has it (BSD-3-Clause): ResNet-18, 34, 50 and others on a feature pyramid.

Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", 2019, arXiv:1904.01355. Unlike the paper, points
lie at the corners of cells and sides are in units of a level's stride, without learned factors. torchvision counts an
output for background as class 0 and never trains it: class ids stay its own.
"""

from __future__ import annotations

from edgedet_models.pyramid.dense import Fcos
from edgedet_models.pyramid.read import dense_family, published

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

LICENCE = "BSD-3-Clause"
FORMS = ("state dict",)
_FAMILY = dense_family(
    name="fcos",
    title="FCOS",
    build=Fcos,
    sizes={f"fcos-{body}": published(body) for body in ("r18", "r34", "r50")},
    mark="head.regression_head.bbox_ctrness.weight",
    without="rpn.head.cls_logits.weight",
    anchors=1,
    norm_key="",
)
VARIANTS, recognise, load = _FAMILY.builders(), _FAMILY.recognise, _FAMILY.load
