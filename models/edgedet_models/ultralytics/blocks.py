"""Blocks of Ultralytics' and YOLOv9's code, rebuilt from pickled ones by class name.

What decides how a block computes is read from the file: the activation of each cell, the number of pools, heads and
areas, whether an input is added. A family's name decides nothing: files of Ultralytics 8.4.0 to 8.4.140 have no
activation in the first cell of SPPF, with the same keys and the same YAML as those before and after.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_models.layer_list import blocks as common
from edgedet_models.layer_list.leaves import number, own_tensor
from edgedet_models.layer_list.rebuilding import Block, Parts, rebuild_tree
from edgedet_models.layers import attention, chain, csp, elan, fusion, parallel, split_stage, spp
from edgedet_models.layers.adopt import adopt
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.ultralytics.query_blocks import OWN_TENSORS, QUERY_BLOCKS
from edgedet_runtime.errors import CheckpointError

__all__ = ["BLOCKS", "build_block"]

MAX_HEADS = 4096


def build_block(name: str, node: ModuleNode) -> nn.Module:
    """Rebuild a pickled module and all below it; see `rebuild_tree`."""
    return rebuild_tree(name, node, lambda block: BLOCKS.get(block.type_name), own_tensors=OWN_TENSORS | {"gamma"})


_take, _of = common.take, common.made_of


def _flag(name: str, node: ModuleNode, key: str, *, default: bool | None = None) -> bool:
    """Return a yes-or-no attribute; without a default it must be there."""
    value = node.attributes.get(key, default)
    if not isinstance(value, bool):
        raise CheckpointError(f"{name} ({node.type_name}): {key}: expected True or False, got {value!r:.40}")
    return value


def _count(name: str, node: ModuleNode, key: str, default: int | None = None) -> int:
    """Return a positive whole number among the attributes."""
    value = number(name, node, key, default)
    if type(value) is not int or not 1 <= value <= MAX_HEADS:
        raise CheckpointError(f"{name} ({node.type_name}): {key}: expected a positive number, got {value!r:.40}")
    return value


def _cell(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    """Build a cell; one that was saved after fusing has no BatchNorm, but none is without an activation module."""
    if "act" not in parts:
        raise CheckpointError(
            f"{name} ({node.type_name}): the file does not say which activation follows; expected a layer `act`"
        )
    key = "conv_transpose" if "conv_transpose" in parts else "conv"
    conv, bn, act = _take(name, node, {"bn": nn.Identity(), **parts}, key, "bn", "act")
    return adopt(ConvBnAct, conv=conv, bn=bn, act=act)


def _residual(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    cv1, cv2 = _take(name, node, parts, "cv1", "cv2")
    return adopt(csp.Residual, cv1=cv1, cv2=cv2, add=_flag(name, node, "add"))


def _sppf(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    """Build SPPF; `n` pools and `add` came with 8.4, before which there were three pools and no sum."""
    cv1, cv2, m = _take(name, node, parts, "cv1", "cv2", "m")
    times, add = _count(name, node, "n", 3), _flag(name, node, "add", default=False)
    return adopt(spp.Sppf, cv1=cv1, cv2=cv2, m=m, times=times, add=add)


def _half_stage(*, second: bool) -> Block:
    def build(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
        cv1, cv2, m = _take(name, node, parts, "cv1", "cv2", "m")
        return adopt(split_stage.HalfStage, cv1=cv1, cv2=cv2, m=m, second=second)

    return build


def _attention(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    qkv, proj, pe = _take(name, node, parts, "qkv", "proj", "pe")
    numbers = {key: _count(name, node, key) for key in ("num_heads", "key_dim", "head_dim")}
    scale = number(name, node, "scale")
    return adopt(attention.Attention, qkv=qkv, proj=proj, pe=pe, scale=float(scale), **numbers)


def _attention_cell(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    attn, ffn = _take(name, node, parts, "attn", "ffn")
    return adopt(attention.AttentionCell, attn=attn, ffn=ffn, add=_flag(name, node, "add"))


def _area_attention(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    qkv, proj, pe = _take(name, node, parts, "qkv", "proj", "pe")
    numbers = {key: _count(name, node, key) for key in ("num_heads", "head_dim", "area")}
    return adopt(attention.AreaAttention, qkv=qkv, proj=proj, pe=pe, **numbers)


def _area_stage(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    cv1, cv2, m = _take(name, node, parts, "cv1", "cv2", "m")
    learned = node.parameters.get("gamma") is not None
    gamma = nn.Parameter(own_tensor(name, node, "gamma", 1)) if learned else None
    return adopt(attention.AreaStage, cv1=cv1, cv2=cv2, m=m, gamma=gamma)


def _inner_chain(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    (cells,) = _take(name, node, parts, "cv1")
    return adopt(chain.InnerChain, cv1=cells, add=_flag(name, node, "add"))


def _rep_conv(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    """Build the branches, or the one convolution that they were fused into before saving."""
    if "act" not in parts:
        raise CheckpointError(f"{name} ({node.type_name}): the file does not say which activation follows")
    if isinstance(parts.get("conv"), nn.Conv2d):
        conv, act = _take(name, node, parts, "conv", "act")
        return adopt(ConvBnAct, conv=conv, bn=nn.Identity(), act=act)
    if node.type_name == "RepVGGDW":
        conv, conv1, act = _take(name, node, parts, "conv", "conv1", "act")
        return adopt(parallel.ParallelDepthwise, conv=conv, conv1=conv1, act=act)
    given: dict[str, nn.Module | None] = {"bn": None, **parts}
    _take(name, node, {key: part or nn.Identity() for key, part in given.items()}, "conv1", "conv2", "bn", "act")
    return adopt(parallel.ParallelConv, **given)


def _light_conv(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    cv1, cv2 = _take(name, node, parts, "conv1", "conv2")
    return adopt(chain.ChannelsThenSize, cv1=cv1, cv2=cv2)


def _link(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    (conv,) = _take(name, node, parts, "conv")
    return adopt(fusion.SplitLinear, conv=conv, widths=tuple(_whole_numbers(name, node, "c2s")))


def _link_fuse(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    _take(name, node, parts)
    return adopt(fusion.FusePicks, picks=tuple(_whole_numbers(name, node, "idx")))


def _whole_numbers(name: str, node: ModuleNode, key: str) -> list[int]:
    value = node.attributes.get(key)
    if not isinstance(value, (list, tuple)) or not value or not all(type(v) is int and v >= 0 for v in value):
        raise CheckpointError(f"{name} ({node.type_name}): {key}: expected whole numbers, got {value!r:.60}")
    return list(value)


_C3 = _of(csp.C3, "cv1", "cv2", "cv3", "m")
_SPLIT = _of(split_stage.SplitStage, "cv1", "cv2", "m")
_ELAN = _of(elan.Elan, "cv1", "cv2", "cv3", "cv4")

BLOCKS: Mapping[str, Block] = {
    **{
        name: common.BLOCKS[name]
        for name in (
            *("BottleneckCSP", "C3", "C3Ghost", "C3x", "Concat", "CrossConv", "Focus"),
            *("GhostBottleneck", "GhostConv", "ModuleList", "SP", "SPP", "Sequential"),
        )
    },
    **QUERY_BLOCKS,
    "A2C2f": _area_stage,
    "AAttn": _area_attention,
    "ABlock": _of(attention.AreaCell, "attn", "mlp"),
    "AConv": _of(elan.PoolConv, "cv1"),
    "ADown": _of(elan.PoolSplitDown, "cv1", "cv2"),
    "Attention": _attention,
    "C1": _of(chain.ResidualTail, "cv1", "m"),
    "C2": _half_stage(second=False),
    "C2PSA": _half_stage(second=True),
    **dict.fromkeys(("C2f", "C2fCIB", "C2fPSA", "C3k2"), _SPLIT),
    **dict.fromkeys(("C3k", "RepCSP", "RepNCSP"), _C3),
    "CBFuse": _link_fuse,
    "CBLinear": _link,
    "CIB": _inner_chain,
    **dict.fromkeys(("Conv", "ConvTranspose", "DWConv"), _cell),
    **dict.fromkeys(("ELAN1", "RepNCSPELAN4"), _ELAN),
    "LightConv": _light_conv,
    "PSA": _of(attention.PartialAttention, "cv1", "cv2", "attn", "ffn"),
    "PSABlock": _attention_cell,
    **dict.fromkeys(("Bottleneck", "RepBottleneck", "RepNBottleneck"), _residual),
    **dict.fromkeys(("RepConv", "RepConvN", "RepVGGDW"), _rep_conv),
    "SCDown": _of(chain.ChannelsThenSize, "cv1", "cv2"),
    "SPPELAN": _of(elan.SppElan, "cv1", "cv2", "cv3", "cv4", "cv5"),
    "SPPF": _sppf,
    "Silence": lambda name, node, parts: nn.Identity(),
}
"""Builders by class name. A new layer of such a network is one line here, and its forward in `layers`."""
