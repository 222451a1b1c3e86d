"""Blocks of YOLOv5's and YOLOv7's code, rebuilt from pickled ones by class name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_models.layer_list.rebuilding import Block, Parts, rebuild_tree
from edgedet_models.layers import csp, ghost, junctions, spp
from edgedet_models.layers.adopt import adopt
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.focus_stem import FocusStem
from edgedet_models.layers.rep_conv import RepConv
from edgedet_models.layers.space_to_depth import SpaceToDepth
from edgedet_runtime.errors import CheckpointError

__all__ = ["BLOCKS", "build_block", "made_of", "take"]


def build_block(name: str, node: ModuleNode) -> nn.Module:
    """Rebuild a pickled module and all below it; see `rebuild_tree`."""
    return rebuild_tree(name, node, lambda block: BLOCKS.get(block.type_name))


def take(name: str, node: ModuleNode, parts: Parts, *keys: str) -> list[nn.Module]:
    """Return the submodules called `keys`, which must be all there are."""
    if set(parts) != set(keys):
        wrong = sorted(set(parts) ^ set(keys))[0]
        raise CheckpointError(f"{name} ({node.type_name}): submodule {wrong!r} is missing or not expected")
    return [parts[key] for key in keys]


def made_of(kind: type[nn.Module], *keys: str) -> Block:
    """Build blocks that are made of exactly the submodules `keys`."""

    def build(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
        return adopt(kind, **dict(zip(keys, take(name, node, parts, *keys), strict=True)))

    return build


def _conv(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    """Build a cell; one that was saved after fusing has no BatchNorm."""
    optional = {"bn": nn.Identity(), "act": nn.Identity(), **parts}
    conv, bn, act = take(name, node, optional, "conv", "bn", "act")
    if "act" not in parts and not isinstance(node.attributes.get("act", False), bool):
        raise CheckpointError(f"{name} ({node.type_name}): its activation is a function, not a layer")
    return adopt(ConvBnAct, conv=conv, bn=bn, act=act)


def _residual(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    cv1, cv2 = take(name, node, parts, "cv1", "cv2")
    return adopt(csp.Residual, cv1=cv1, cv2=cv2, add=node.attributes.get("add") is True)


def _focus(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    (conv,) = take(name, node, parts, "conv")
    return adopt(FocusStem, space_to_depth=SpaceToDepth(), conv=conv)


def _cross_stage(form: str, *keys: str) -> Block:
    def build(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
        found = dict(zip(keys, take(name, node, parts, *keys), strict=True))
        return adopt(csp.CrossStage, form=form, cv4=found.pop("cv4", None), **found)

    return build


def _sequence(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    return nn.Sequential(*parts.values())


def _module_list(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    return nn.ModuleList(parts.values())


def _concat(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    dim = node.attributes.get("d", 1)
    if dim not in (1, -3):
        raise CheckpointError(f"{name} ({node.type_name}): expected to join dimension 1, got {dim!r:.20}")
    return junctions.Concat() if node.type_name == "Concat" else junctions.ChunkConcat()


def _only_m(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    """YOLOv7's MP and SP wrap one pooling layer."""
    return take(name, node, parts, "m")[0]


def _plain(kind: Callable[[], nn.Module]) -> Block:
    def build(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
        take(name, node, parts)
        return kind()

    return build


def _rep_conv(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    """Build the branches, or the one convolution that they were fused into before saving."""
    fused = parts.get("rbr_reparam")
    if fused is None and isinstance(parts.get("rbr_dense"), nn.Conv2d):
        fused = parts["rbr_dense"]
    if fused is not None:
        return adopt(ConvBnAct, conv=fused, bn=nn.Identity(), act=parts.get("act", nn.Identity()))
    optional = {"rbr_identity": None, "act": nn.Identity(), **parts}
    if set(optional) != {"rbr_dense", "rbr_1x1", "rbr_identity", "act"}:
        raise CheckpointError(f"{name} (RepConv): expected rbr_dense and rbr_1x1, got {sorted(parts)}")
    return adopt(RepConv, **optional)


BLOCKS: Mapping[str, Block] = {
    "Bottleneck": _residual,
    "BottleneckCSP": made_of(csp.BottleneckCsp, "cv1", "cv2", "cv3", "cv4", "bn", "act", "m"),
    "BottleneckCSPA": made_of(csp.C3, "cv1", "cv2", "cv3", "m"),
    "BottleneckCSPB": _cross_stage("B", "cv1", "cv2", "cv3", "m"),
    "BottleneckCSPC": _cross_stage("C", "cv1", "cv2", "cv3", "cv4", "m"),
    "C3": made_of(csp.C3, "cv1", "cv2", "cv3", "m"),
    "C3Ghost": made_of(csp.C3, "cv1", "cv2", "cv3", "m"),
    "C3SPP": made_of(csp.C3, "cv1", "cv2", "cv3", "m"),
    "C3x": made_of(csp.C3, "cv1", "cv2", "cv3", "m"),
    "Chuncat": _concat,
    "Concat": _concat,
    "Conv": _conv,
    "CrossConv": _residual,
    "DWConv": _conv,
    "DownC": made_of(junctions.PoolDown, "cv1", "cv2", "cv3", "mp"),
    "Focus": _focus,
    "Foldcut": _plain(junctions.FoldHalves),
    "GhostBottleneck": made_of(ghost.GhostBottleneck, "conv", "shortcut"),
    "GhostConv": made_of(ghost.GhostConv, "cv1", "cv2"),
    "MP": _only_m,
    "ModuleList": _module_list,
    "ReOrg": _plain(SpaceToDepth),
    "RepConv": _rep_conv,
    "SP": _only_m,
    "SPP": made_of(spp.Spp, "cv1", "cv2", "m"),
    "SPPCSPC": made_of(spp.SppCspc, "cv1", "cv2", "cv3", "cv4", "cv5", "cv6", "cv7", "m"),
    "SPPF": made_of(spp.Sppf, "cv1", "cv2", "m"),
    "Sequential": _sequence,
    "Shortcut": _plain(junctions.Add),
    "space_to_depth": _plain(SpaceToDepth),
}
"""Builders by class name. A new layer of such a network is one line here, and its forward in `layers`."""
