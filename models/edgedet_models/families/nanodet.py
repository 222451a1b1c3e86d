"""NanoDet (RangiLyu/nanodet, Apache-2.0): NanoDet-m and NanoDet-Plus-m, 0.5x, 1x, 1.5x and other widths.

The head of Li et al., "Generalized Focal Loss", 2020, on ShuffleNetV2 (Ma et al. 2018). Files are state dicts under
``state_dict``, or Lightning's ``.ckpt`` with the plain and the average weights (the average is taken). Auxiliary parts,
which only training uses, are left out; so is NanoDet-m's ``gfl_reg``, which its code makes and never runs.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.layer_list.names import class_names
from edgedet_models.nanodet.network import NanoDet, NanoDetSize, read_nanodet
from edgedet_models.shape_family import Found, ShapeFamily, Tensors, left_out

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

LICENCE = "Apache-2.0"
FORMS = ("state dict",)
UNUSED = ("aux_fpn.", "aux_head.", "head.gfl_reg.", "head.distribution_project.")
"""Tensors that no inference reads; the bins' values are those of the decoder."""
STAGES = {"0.5x": (48, 96, 192), "": (116, 232, 464), "1.5x": (176, 352, 704)}
"""Channels of ShuffleNetV2's stages by the width that names have."""


def _plus(width: str, neck: int) -> NanoDetSize:
    return NanoDetSize(24, STAGES[width], (4, 8, 4), neck, 4, plus=True, kernel=5)


def _m(width: str, neck: int) -> NanoDetSize:
    return NanoDetSize(24, STAGES[width], (4, 8, 4), neck, 3, plus=False, kernel=3)


SIZES: Mapping[str, NanoDetSize] = {
    "nanodet-m-0.5x": _m("0.5x", 96),
    "nanodet-m": _m("", 96),
    "nanodet-m-1.5x": _m("1.5x", 128),
    "nanodet-plus-m": _plus("", 96),
    "nanodet-plus-m-1.5x": _plus("1.5x", 128),
}


def _read(_: Checkpoint, tensors: Tensors) -> Found[NanoDetSize] | None:
    found = read_nanodet(tensors)
    if found is None:
        return None
    size, classes = found
    kind, point = ("NanoDet-Plus", "corner") if size.plus else ("NanoDet-m", "middle")
    pictures = "stretched pictures" if size.plus else "pictures that keep their aspect"
    why = f"{kind} keys; {size.levels} levels; assumed: {pictures}, sides measured from a cell's {point}, LeakyReLU 0.1"
    return Found(size, class_names(None, classes), why)


_FAMILY = ShapeFamily("nanodet", "NanoDet", "a NanoDet state dict", SIZES, NanoDet, _read, left_out(*UNUSED))
VARIANTS, recognise, load = _FAMILY.builders(), _FAMILY.recognise, _FAMILY.load
