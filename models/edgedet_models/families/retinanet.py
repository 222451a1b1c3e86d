"""RetinaNet as torchvision has it (BSD-3-Clause): ResNet-18, 34, 50 and others, v1 and v2, old and new key names.

Lin et al., "Focal Loss for Dense Object Detection", 2017, arXiv:1708.02002. Files of before 2022 have other names for
the same tensors. torchvision counts an output for background as class 0 and never trains it: class ids stay its own.
"""

from __future__ import annotations

from edgedet_models.pyramid.dense import ANCHORS, RetinaNet
from edgedet_models.pyramid.read import dense_family, published

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

LICENCE = "BSD-3-Clause"
FORMS = ("state dict",)
CENTERNESS = "head.regression_head.bbox_ctrness.weight"
_FAMILY = dense_family(
    name="retinanet",
    title="RetinaNet",
    build=RetinaNet,
    sizes={
        "retinanet-r18": published("r18"),
        "retinanet-r34": published("r34"),
        "retinanet-r50": published("r50"),
        "retinanet-r50-v2": published("r50", norm=True, from_c5=True),
    },
    mark="head.regression_head.bbox_reg.weight",
    without=CENTERNESS,
    anchors=ANCHORS,
    norm_key="head.classification_head.conv.0.1.weight",
)
VARIANTS, recognise, load = _FAMILY.builders(), _FAMILY.recognise, _FAMILY.load
