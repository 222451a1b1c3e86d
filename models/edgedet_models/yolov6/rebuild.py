"""Rebuild YOLOv6's modules from a pickled module tree: every size, epsilon and activation is the file's own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_models.layer_list.leaves import attribute, number, own_tensor
from edgedet_models.layer_list.rebuilding import Block, Parts, rebuild_tree
from edgedet_models.layers.adopt import adopt
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.rep_vgg import RepVgg
from edgedet_models.yolov6 import blocks, lite_blocks, network
from edgedet_models.yolov6.composite import Composite, PartsError
from edgedet_runtime.errors import CheckpointError

__all__ = ["rebuild"]


def _fail(name: str, node: ModuleNode, message: str) -> CheckpointError:
    return CheckpointError(f"{name} ({node.type_name}): {message}; the file is damaged or of another kind")


def _sequential(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    return nn.Sequential(OrderedDict(parts))


def _module_list(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    if list(parts) != [str(i) for i in range(len(parts))]:
        raise _fail(name, node, f"expected entries 0, 1, …, got {', '.join(parts)}"[:120])
    return nn.ModuleList(parts.values())


def _adaptive_pool(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    size = attribute(name, node, "output_size")
    if size not in (1, (1, 1)):
        raise _fail(name, node, f"output_size: expected 1, got {size!r:.20}")
    return nn.AdaptiveAvgPool2d(1)


def _cell(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    """ConvModule and its kin; fused ones have no BatchNorm, and those of ``activation_type`` None no activation."""
    known = {"conv", "bn", "act"}
    required = {"conv"} if node.attributes.get("activation_type", "") is None else {"conv", "act"}
    if required - set(parts) or set(parts) - known:
        wrong = sorted(required - set(parts) | set(parts) - known)[0]
        raise _fail(name, node, f"submodule {wrong!r} is missing or not expected")
    if "bn" not in parts and getattr(parts["conv"], "bias", None) is None:
        raise _fail(name, node, "expected a BatchNorm, or a bias where it was fused")
    bn, act = (parts.get(key, nn.Identity()) for key in ("bn", "act"))
    return adopt(ConvBnAct, conv=parts["conv"], bn=bn, act=act)


def _rep_vgg(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    gate = parts.pop("se", None)
    if gate is not None and not isinstance(gate, nn.Identity):
        raise _fail(name, node, "squeeze-and-excitation inside the block is not supported")
    branches = ("rbr_reparam", "rbr_dense", "rbr_1x1", "rbr_identity", "rbr_avg")
    wrong = sorted(set(parts) - {*branches, "bn", "nonlinearity"})
    if wrong or "nonlinearity" not in parts or not set(parts) & {"rbr_reparam", "rbr_dense"}:
        raise _fail(name, node, f"submodule {(wrong or ['nonlinearity or rbr_dense'])[0]!r} is missing or not expected")
    if "rbr_dense" in parts:
        for branch in ("rbr_1x1", "rbr_identity"):
            _present_or_none(name, node, parts, branch)
    absent = dict.fromkeys([*branches, "bn"])
    return adopt(RepVgg, **{**absent, **parts})


def _present_or_none(name: str, node: ModuleNode, parts: Parts, key: str) -> None:
    """Raise if a submodule is absent, although the file does not say that it is None."""
    if key not in parts and node.attributes.get(key, "") is not None:
        raise _fail(name, node, f"submodule {key!r} is missing")


def _rep_block(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    _present_or_none(name, node, parts, "block")
    return blocks.RepBlock(**parts)


def _bottle_rep(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    learned = node.parameters.get("alpha")
    alpha: nn.Parameter | float
    if learned is not None:
        alpha = nn.Parameter(own_tensor(name, node, "alpha", 1))
    else:
        alpha = float(number(name, node, "alpha"))
    shortcut = attribute(name, node, "shortcut")
    if not isinstance(shortcut, bool):
        raise _fail(name, node, f"shortcut: expected True or False, got {shortcut!r:.20}")
    return blocks.BottleRep(alpha=alpha, shortcut=shortcut, **parts)


def _bep_c3(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    if node.attributes.get("concat", True) is False:
        parts.pop("cv2", None)
    elif "cv2" not in parts:
        raise _fail(name, node, "submodule 'cv2' is missing")
    return blocks.BepC3(**parts)


def _real_vgg(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    parts.pop("se", None)
    return blocks.RealVgg(**parts)


def _head(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
    proj = None if node.parameters.get("proj") is None else own_tensor(name, node, "proj", 1)
    head = network.Head(proj=proj, **parts)
    convs = node.children.get("proj_conv")
    if head.bins > 1 and convs is not None:
        _check_bins(name, node, own_tensor(f"{name}.proj_conv", convs, "weight", 4), head.bins)
    return head


def _check_bins(name: str, node: ModuleNode, weight: Tensor, bins: int) -> None:
    if not torch.equal(weight.flatten(), torch.arange(bins, dtype=weight.dtype)):
        raise _fail(name, node, f"proj_conv: expected the numbers 0..{bins - 1} of the bins, got others")


def _of(kind: type[Composite] | type[network.PanNeck]) -> Block:
    return lambda name, node, parts: kind(**parts)


BUILDERS: Mapping[str, Block] = {
    "Sequential": _sequential,
    "ModuleList": _module_list,
    "AdaptiveAvgPool2d": _adaptive_pool,
    **dict.fromkeys(("ConvModule", "Conv", "SimConv", "Conv_C3"), _cell),
    **dict.fromkeys(
        (
            *("ConvBNReLU", "ConvBNSiLU", "ConvBN", "ConvBNHS", "ConvWrapper", "SimConvWrapper"),
            *("CSPSPPF", "SimCSPSPPF"),
        ),
        _of(blocks.Wrapped),
    ),
    **dict.fromkeys(("RepVGGBlock", "QARepVGGBlock", "QARepVGGBlockV2"), _rep_vgg),
    "RealVGGBlock": _real_vgg,
    "RepBlock": _rep_block,
    "BottleRep": _bottle_rep,
    "BottleRep3": _bottle_rep,
    "BepC3": _bep_c3,
    "MBLABlock": _of(blocks.MblaBlock),
    "SPPFModule": _of(blocks.Sppf),
    "CSPSPPFModule": _of(blocks.CspSppf),
    "Transpose": _of(blocks.Transpose),
    "BiFusion": _of(blocks.BiFusion),
    "SEBlock": _of(lite_blocks.SqueezeExcite),
    "DPBlock": _of(lite_blocks.DepthwisePointwise),
    "DarknetBlock": _of(lite_blocks.DarknetBlock),
    "CSPBlock": _of(lite_blocks.CspBlock),
    "Lite_EffiBlockS1": _of(lite_blocks.LiteSame),
    "Lite_EffiBlockS2": _of(lite_blocks.LiteDown),
    **dict.fromkeys(("EfficientRep", "EfficientRep6", "CSPBepBackbone", "CSPBepBackbone_P6"), _of(network.Backbone)),
    **dict.fromkeys(
        (
            *("RepPANNeck", "RepBiFPANNeck", "RepPANNeck6", "RepBiFPANNeck6"),
            *("CSPRepPANNeck", "CSPRepBiFPANNeck", "CSPRepPANNeck_P6", "CSPRepBiFPANNeck_P6"),
        ),
        _of(network.PanNeck),
    ),
    "Lite_EffiBackbone": _of(network.LiteBackbone),
    "Lite_EffiNeck": _of(network.LiteNeck),
    "Detect": _head,
}
"""Builders by the class's own name."""

SPPF_OF_TWO_VINTAGES = ("SimSPPF", "SPPF")
OWN_TENSORS = frozenset({"alpha", "proj"})


def rebuild(name: str, node: ModuleNode) -> nn.Module:
    """Rebuild a pickled module and all below it; see `rebuild_tree`."""
    return rebuild_tree(name, node, _builder, own_tensors=OWN_TENSORS, dropped=_is_dropped)


def _builder(node: ModuleNode) -> Block | None:
    build = BUILDERS.get(node.type_name)
    if node.type_name in SPPF_OF_TWO_VINTAGES:
        build = _of(blocks.Wrapped if "sppf" in node.children else blocks.Sppf)
    return None if build is None else _naming(build)


def _naming(build: Block) -> Block:
    """Let complaints about parts name the module."""

    def named(name: str, node: ModuleNode, parts: Parts) -> nn.Module:
        try:
            return build(name, node, parts)
        except PartsError as e:
            raise _fail(name, node, str(e)) from None

    return named


def _is_dropped(node: ModuleNode, key: str) -> bool:
    return node.type_name == "Detect" and key in network.Head.dropped
