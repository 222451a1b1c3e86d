"""Names of tensors in official DETR-like checkpoints, as this package calls them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from edgedet_models.detr.backbones.hgnetv2 import rename_hgnetv2

__all__ = ["official_names"]

_ENCODER = (
    (re.compile(r"^(encoder\.input_proj\.\d+)\.0\."), r"\1.conv."),
    (re.compile(r"^(encoder\.input_proj\.\d+)\.1\."), r"\1.bn."),
    (re.compile(r"\.bottlenecks\.(\d+)\."), r".m.\1."),
    # The cells of a fusion stage; those of its parallel convolutions keep their names.
    (re.compile(r"(_blocks\.\d+(?:\.cv\d\.0)?)\.conv(\d)\."), r"\1.cv\2."),
)
_DECODER = (
    (re.compile(r"^decoder\.enc_output\.0\."), "decoder.enc_output.proj."),
    (re.compile(r"^decoder\.enc_output\.1\."), "decoder.enc_output.norm."),
    (re.compile(r"^decoder\.input_proj\.(\d+)\.0\."), r"decoder.input_proj.\1.conv."),
    (re.compile(r"^decoder\.input_proj\.(\d+)\.1\."), r"decoder.input_proj.\1.norm."),
    (re.compile(r"^decoder\.decoder\.layers\."), "decoder.refine.layers."),
    (re.compile(r"^decoder\.(query_pos_head|pre_bbox_head)\."), r"decoder.refine.\1."),
    (re.compile(r"^decoder\.dec_bbox_head\."), "decoder.refine.box_heads."),
)
_TRAINING_ONLY = re.compile(
    r"^decoder\.(denoising_class_embed\.|anchors$|valid_mask$|up$|reg_scale$|decoder\.(up$|reg_scale$|project$))"
    r"|\.num_points_scale$"
)
_LAYER = re.compile(r"^decoder\.refine\.(?:layers|box_heads)\.(\d+)\.")


def official_names(tensors: Mapping[str, Tensor], last: int) -> dict[str, Tensor]:
    """Return the tensors that inference needs, under this package's names.

    Args:
        tensors: The state dict.
        last: Index of the decoder layer whose outputs count.
    """
    score = re.compile(rf"^decoder\.dec_score_head\.{last}\.")
    quality = re.compile(rf"^decoder\.decoder\.lqe_layers\.{last}\.")
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if _TRAINING_ONLY.search(name):
            continue
        renamed = _rename(name)
        renamed = score.sub("decoder.refine.score_head.", renamed)
        renamed = quality.sub("decoder.refine.quality.", renamed)
        layer = _LAYER.match(renamed)
        unused = renamed.startswith(("decoder.dec_score_head.", "decoder.decoder.lqe_layers."))
        if unused or (layer is not None and int(layer[1]) > last):
            continue
        found[renamed] = tensor
    return found


def _rename(name: str) -> str:
    for pattern, replacement in _DECODER if name.startswith("decoder.") else ():
        name = pattern.sub(replacement, name)
    if name.startswith("encoder."):
        for pattern, replacement in _ENCODER:
            name = pattern.sub(replacement, name)
    if name.startswith("backbone."):
        name = rename_hgnetv2(name)
    return name if name.startswith("decoder.") else name.replace(".norm.", ".bn.")
