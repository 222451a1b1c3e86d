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
from collections.abc import Mapping
from typing import Any

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.layer_list.names import class_names, openmmlab_names
from edgedet_models.layer_list.pickled import naming
from edgedet_models.rtmdet.network import RtmDet, RtmDetSize, is_shared, read_size
from edgedet_models.shape_family import Found, ShapeFamily, Tensors, left_out

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

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


def _read(checkpoint: Checkpoint, tensors: Tensors) -> Found[RtmDetSize] | None:
    found = read_size(tensors)
    if found is None:
        return None
    channels, blocks, neck_blocks, convs, classes = found
    told = _exponential(checkpoint.content)
    exponential = channels > LINEAR_UP_TO if told is None else told
    size = RtmDetSize(
        channels, blocks, neck_blocks, exponential=exponential, head_convs=convs, shared=is_shared(tensors)
    )
    sides = "exp(t)" if exponential else "t"
    source = "assumed from its width, as the file does not say" if told is None else "as the file's configuration says"
    why = (
        f"RTMDet keys; stem of {channels} channels, blocks {blocks}, neck {neck_blocks}; box sides"
        f" {sides}, {source}; assumed: BatchNorm eps 1e-5, BGR pictures with mmdet's mean"
    )
    with naming(checkpoint.path):
        return Found(size, class_names(openmmlab_names(checkpoint.content), classes), why)


def _exponential(content: Any) -> bool | None:
    """Return ``exp_on_reg`` of the configuration in a file; None where it holds none of the head."""
    meta = content.get("meta") if isinstance(content, Mapping) else None
    config = meta.get("cfg") if isinstance(meta, Mapping) else None
    if not isinstance(config, str) or "bbox_head" not in config:
        return None
    found = re.search(r"""exp_on_reg['"]?\s*[=:]\s*(True|False)""", config)
    return found is not None and found.group(1) == "True"


_FAMILY = ShapeFamily("rtmdet", "RTMDet", "an RTMDet state dict", SIZES, RtmDet, _read, left_out("data_preprocessor."))
VARIANTS, recognise, load = _FAMILY.builders(), _FAMILY.recognise, _FAMILY.load
