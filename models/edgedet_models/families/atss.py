"""ATSS: mmdet's files (Apache-2.0) and those of its authors' code (non-commercial).

Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample Selection",
2020, arXiv:1912.02424. The two codes differ in score, centers, key names and geometry; a bias in the towers tells them
apart. The authors' file does not say whether boxes are regressed from anchors or points: anchors, their default, are
assumed. Official code cuts candidates by the class score alone, edgedet by the final one: from 0.05 on it is the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgedet_models.backbones.resnet import RESNETS
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.layer_list.names import class_names, openmmlab_names
from edgedet_models.layer_list.pickled import naming
from edgedet_models.pyramid.atss import Atss, AtssShape, authors_to_own, read_atss
from edgedet_models.shape_family import Found, ShapeFamily, Tensors, left_out

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

LICENCE = "Apache-2.0"
FORMS = ("state dict",)
SIZES: Mapping[str, AtssShape] = {
    "atss-r50": AtssShape(RESNETS["r50"]),
    "atss-r101": AtssShape(RESNETS["r101"]),
    "atss-authors-r50": AtssShape(RESNETS["r50"], authors=True),
}


def _read(checkpoint: Checkpoint, tensors: Tensors) -> Found[AtssShape] | None:
    found = read_atss(authors_to_own(tensors))
    if found is None:
        return None
    shape, classes = found
    why = "the authors' ATSS keys; assumed: boxes from anchors" if shape.authors else "mmdet's ATSS keys; assumed: BGR"
    with naming(checkpoint.path):
        return Found(shape, class_names(openmmlab_names(checkpoint.content), classes), why)


def _kept(tensors: Tensors) -> Tensors:
    return left_out("data_preprocessor.")(authors_to_own(tensors))


_FAMILY = ShapeFamily("atss", "ATSS", "an ATSS state dict", SIZES, Atss, _read, _kept)
VARIANTS, recognise, load = _FAMILY.builders(), _FAMILY.recognise, _FAMILY.load
