"""ATSS: mmdet's files (Apache-2.0) and those of its authors' code (non-commercial).

Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample Selection",
2020, arXiv:1912.02424. The two codes differ in score, centers, key names and geometry; a bias in the towers tells them
apart. The authors' file does not say whether boxes are regressed from anchors or points: anchors, their default, are
assumed. Official code cuts candidates by the class score alone, edgedet by the final one: from 0.05 on it is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from edgedet_models.backbones.resnet import RESNETS
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_models.layer_list.names import class_names
from edgedet_models.layer_list.pickled import naming
from edgedet_models.pyramid.atss import Atss, AtssShape, authors_to_own, read_atss
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

FAMILY = "atss"
LICENCE = "Apache-2.0"
FORMS = ("state dict",)
SIZES: Mapping[str, AtssShape] = {
    "atss-r50": AtssShape(RESNETS["r50"]),
    "atss-r101": AtssShape(RESNETS["r101"]),
    "atss-authors-r50": AtssShape(RESNETS["r50"], authors=True),
}


def _build(variant: str, shape: AtssShape, classes: tuple[str, ...]) -> Atss:
    return Atss(variant, shape, classes)


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    name: partial(_build, name, shape) for name, shape in SIZES.items()
}


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognize a state dict by the keys of its backbone and head."""
    found = read_atss(authors_to_own(checkpoint.tensors()))
    if found is None:
        return None
    shape, classes = found
    variant = next((name for name, known in SIZES.items() if known == shape), "custom")
    whose = (
        "the authors' ATSS keys; assumed: boxes from anchors" if shape.authors else "mmdet's ATSS keys; assumed: BGR"
    )
    meta = checkpoint.content.get("meta") if isinstance(checkpoint.content, Mapping) else None
    with naming(checkpoint.path):
        return Recognition(FAMILY, variant, class_names(_names(meta), classes), whose)


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the detector that the shapes describe and load it strictly.

    Raises:
        CheckpointError: The file is no ATSS, or a tensor is missing, left over or misshapen.
    """
    tensors = authors_to_own(checkpoint.tensors())
    recognition, found = recognise(checkpoint), read_atss(tensors)
    if found is None or recognition is None:
        raise CheckpointError(f"{checkpoint.path}: expected an ATSS state dict, got other keys")
    detector = Atss(recognition.variant, found[0], recognition.classes)
    tensors = {name: t for name, t in tensors.items() if not name.startswith("data_preprocessor.")}
    load_strict(detector, tensors, path=checkpoint.path, what=f"ATSS ({recognition.variant})")
    return detector.eval()


def _names(meta: Any) -> Any:
    """Return the class names, in mmengine's or mmcv's form."""
    if not isinstance(meta, Mapping):
        return None
    dataset = meta.get("dataset_meta")
    if isinstance(dataset, Mapping):
        return dataset.get("classes", dataset.get("CLASSES"))
    return meta.get("CLASSES")
