"""Blocks of Ultralytics' RT-DETR, rebuilt from pickled ones by class name: backbones, encoder and decoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_models.detr.attention import SelfAttention
from edgedet_models.detr.decoder import DecoderLayer
from edgedet_models.detr.deformable import DeformableAttention
from edgedet_models.detr.encoder import EncoderLayer, OverMap
from edgedet_models.detr.mlp import Mlp
from edgedet_models.layer_list.blocks import made_of, take
from edgedet_models.layer_list.leaves import number, own_tensor
from edgedet_models.layer_list.rebuilding import Block, Parts
from edgedet_models.layers import hgnet, resnet
from edgedet_models.layers.adopt import adopt
from edgedet_models.layers.rep_stage import RepStage
from edgedet_runtime.errors import CheckpointError

__all__ = ["OWN_TENSORS", "QUERY_BLOCKS"]

OWN_TENSORS = frozenset(["in_proj_weight", "in_proj_bias"])
"""What blocks here hold themselves, beside their submodules."""
MOST_HEADS = 4096


def _count(name: str, node: ModuleNode, key: str) -> int:
    value = number(name, node, key)
    if type(value) is not int or not 1 <= value <= MOST_HEADS:
        raise CheckpointError(f"{name} ({node.type_name}): {key}: expected a positive number, got {value!r:.40}")
    return value


def _is_true(name: str, node: ModuleNode, key: str) -> bool:
    value = node.attributes.get(key)
    if not isinstance(value, bool):
        raise CheckpointError(f"{name} ({node.type_name}): {key}: expected True or False, got {value!r:.40}")
    return value


def _without_dropout(parts: Parts) -> Parts:
    return {key: part for key, part in parts.items() if not key.startswith("dropout")}


def _hg_block(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    m, sc, ec = take(name, node, parts, "m", "sc", "ec")
    return adopt(hgnet.HgBlock, m=m, sc=sc, ec=ec, add=_is_true(name, node, "add"))


def _resnet_cell(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    cv1, cv2, cv3, shortcut = take(name, node, parts, "cv1", "cv2", "cv3", "shortcut")
    return adopt(resnet.ResNetCell, cv1=cv1, cv2=cv2, cv3=cv3, shortcut=shortcut)


def _attention(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    """Build torch's own layer of attention; whether the batch comes first is the caller's matter, not the weights'."""
    (out_proj,) = take(name, node, parts, "out_proj")
    weight = own_tensor(name, node, "in_proj_weight", 2)
    heads, channels = _count(name, node, "num_heads"), weight.shape[1]
    if weight.shape[0] != 3 * channels or channels % heads or node.attributes.get("add_zero_attn"):
        raise CheckpointError(
            f"{name}: expected an attention of q, k and v from one projection with {heads} heads, got a projection of"
            f" shape {tuple(weight.shape)}"
        )
    told = node.parameters.get("in_proj_bias") is not None
    bias = own_tensor(name, node, "in_proj_bias", 1) if told else torch.zeros(3 * channels)
    return adopt(
        SelfAttention,
        heads=heads,
        in_proj_weight=nn.Parameter(weight),
        in_proj_bias=nn.Parameter(bias),
        out_proj=out_proj,
    )


def _over_map(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    ma, fc1, fc2, norm1, norm2, act = take(
        name, node, _without_dropout(parts), "ma", "fc1", "fc2", "norm1", "norm2", "act"
    )
    layer = adopt(
        EncoderLayer,
        normalize_before=_is_true(name, node, "normalize_before"),
        self_attn=ma,
        linear1=fc1,
        linear2=fc2,
        norm1=norm1,
        norm2=norm2,
        act=act,
    )
    return OverMap([layer])


def _deformable(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    keys = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    layers = dict(zip(keys, take(name, node, parts, *keys), strict=True))
    heads, levels, points = (_count(name, node, key) for key in ("n_heads", "n_levels", "n_points"))
    return adopt(DeformableAttention, heads=heads, points=(points,) * levels, **layers)


def _decoder_layer(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    keys = ("self_attn", "norm1", "cross_attn", "norm2", "linear1", "act", "linear2", "norm3")
    return adopt(DecoderLayer, **dict(zip(keys, take(name, node, _without_dropout(parts), *keys), strict=True)))


def _mlp(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    given: Parts = {"act": nn.ReLU(), "out_norm": nn.Identity(), **parts}
    layers, act, norm = take(name, node, given, "layers", "act", "out_norm")
    if not isinstance(norm, nn.Identity) or node.attributes.get("residual") or node.attributes.get("sigmoid"):
        raise CheckpointError(f"{name} (MLP): expected plain linear layers, got residual, normalized or squashed ones")
    return adopt(Mlp, layers=layers, act=act)


QUERY_BLOCKS: Mapping[str, Block] = {
    "AIFI": _over_map,
    "DeformableTransformerDecoderLayer": _decoder_layer,
    "HGBlock": _hg_block,
    "HGStem": made_of(hgnet.HgStem, "stem1", "stem2a", "stem2b", "stem3", "stem4", "pool"),
    "MLP": _mlp,
    "MSDeformAttn": _deformable,
    "MultiheadAttention": _attention,
    "RepC3": made_of(RepStage, "cv1", "cv2", "m", "cv3"),
    "ResNetBlock": _resnet_cell,
    "ResNetLayer": made_of(resnet.ResNetStage, "layer"),
}
"""Builders by class name."""
