"""RTMDet (OpenMMLab, Apache-2.0): tiny, s, m, l, x, and any other width and depth of that design.

Lyu et al., "RTMDet: An Empirical Study of Designing Real-Time Object Detectors", 2022, arXiv:2212.07784; key names,
sizes and decoding as mmdet 3.3.0's configurations have them. mmengine saves the average of the weights as
``state_dict``. Widths, depths and classes are read off the shapes. Whether a side of a box is exp(t) or t cells long
(``exp_on_reg``) is in the file's configuration, where it holds one; else tiny and s take t, as theirs do, larger ones
exp(t). The point of a cell is its corner, not its middle. mmdet clips boxes to the picture, and drops those whose sides
are negative, before suppression; edgedet clips afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_models.layer_list.names import class_names
from edgedet_models.layer_list.pickled import naming
from edgedet_models.rtmdet.network import RtmDet, RtmDetSize, is_shared, read_size
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

FAMILY = "rtmdet"
LICENCE = "Apache-2.0"
FORMS = ("state dict",)
SIZES: Mapping[str, RtmDetSize] = {
    "rtmdet-tiny": RtmDetSize(24, (1, 1, 1, 1), 1, exponential=False),
    "rtmdet-s": RtmDetSize(32, (1, 2, 2, 1), 1, exponential=False),
    "rtmdet-m": RtmDetSize(48, (2, 4, 4, 2), 2, exponential=True),
    "rtmdet-l": RtmDetSize(64, (3, 6, 6, 3), 3, exponential=True),
    "rtmdet-x": RtmDetSize(80, (4, 8, 8, 4), 4, exponential=True),
}
"""Channels of the stem, blocks of each stage, blocks of the neck's stages."""
LINEAR_UP_TO = 32
"""Channels of the stem up to which the official configurations take box sides as they are."""


def _build(variant: str, size: RtmDetSize, classes: tuple[str, ...]) -> RtmDet:
    return RtmDet(variant, size, classes)


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    name: partial(_build, name, size) for name, size in SIZES.items()
}


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognize a state dict by the keys of its backbone, neck and head."""
    with naming(checkpoint.path):
        found = _find(checkpoint)
        if found is None:
            return None
        size, classes, told = found
        variant = next((name for name, known in SIZES.items() if known == size), "custom")
        sides = "exp(t)" if size.exponential else "t"
        source = "as the file's configuration says" if told else "assumed from its width, as the file does not say"
        why = (
            f"RTMDet keys; stem of {size.channels} channels, blocks {size.blocks}, neck {size.neck_blocks}; box sides"
            f" {sides}, {source}; assumed: BatchNorm eps 1e-5, BGR pictures with mmdet's mean"
        )
        return Recognition(FAMILY, variant, classes, why)


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the detector that the shapes describe and load it strictly.

    Raises:
        CheckpointError: The file is no RTMDet, or a tensor is missing, left over or misshapen.
    """
    recognition = recognise(checkpoint)
    with naming(checkpoint.path):
        found = _find(checkpoint)
    if found is None or recognition is None:
        raise CheckpointError(f"{checkpoint.path}: expected an RTMDet state dict, got other keys")
    detector = RtmDet(recognition.variant, found[0], recognition.classes)
    tensors = {name: t for name, t in checkpoint.tensors().items() if not name.startswith("data_preprocessor.")}
    load_strict(detector, tensors, path=checkpoint.path, what=f"RTMDet ({recognition.variant})")
    return detector.eval()


def _find(checkpoint: Checkpoint) -> tuple[RtmDetSize, tuple[str, ...], bool] | None:
    """Return the size, the class names, and whether the file says how box sides are meant."""
    tensors: Mapping[str, Tensor] = checkpoint.tensors()
    found = read_size(tensors)
    if found is None:
        return None
    meta = checkpoint.content.get("meta") if isinstance(checkpoint.content, Mapping) else None
    told = _exponential(meta)
    channels, blocks, neck_blocks, convs, classes = found
    exponential = channels > LINEAR_UP_TO if told is None else told
    size = RtmDetSize(
        channels, blocks, neck_blocks, exponential=exponential, head_convs=convs, shared=is_shared(tensors)
    )
    return size, class_names(_names(meta), classes), told is not None


def _exponential(meta: Any) -> bool | None:
    """Return ``exp_on_reg`` of the configuration in a file; None where it holds none of the head."""
    config = meta.get("cfg") if isinstance(meta, Mapping) else None
    if not isinstance(config, str) or "bbox_head" not in config:
        return None
    found = re.search(r"""exp_on_reg['"]?\s*[=:]\s*(True|False)""", config)
    return found is not None and found.group(1) == "True"


def _names(meta: Any) -> Any:
    """Return the class names, in mmengine's or mmcv's form."""
    if not isinstance(meta, Mapping):
        return None
    dataset = meta.get("dataset_meta")
    if isinstance(dataset, Mapping):
        return dataset.get("classes", dataset.get("CLASSES"))
    return meta.get("CLASSES")
