"""EfficientDet's heads: separable convolutions that all levels share, BatchNorms of each level's own.

Each level has modules of its own here, with the same weights, so that every BatchNorm can be folded into the
convolution before it. State dicts keep the official form: ``conv_rep.<r>`` once, ``bn_rep.<r>.<level>.bn``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from edgedet_models.efficientdet.bifpn import EPS, SeparableConv
from edgedet_models.layers.activation import activation
from edgedet_models.layers.split_rows import SplitRows

__all__ = ["Head"]

LEVELS = 5
SHARED = ("conv_dw.weight", "conv_pw.weight", "conv_pw.bias")


class _Predict(nn.Module):
    """A depthwise and a 1×1 convolution; boxes' rows come as y, x, h, w and leave as x, y, w, h."""

    def __init__(self, width: int, channels: int, *, boxes: bool) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        rows = [4 * (i // 4) + (1, 0, 3, 2)[i % 4] if boxes else i for i in range(channels)]
        self.conv_pw = SplitRows(width, {"all": rows})

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_pw(self.conv_dw(x))[0]
        return out


class _Layer(nn.Module):
    def __init__(self, width: int, *, act: str, bias: bool) -> None:
        super().__init__()
        self.conv = SeparableConv(width, width, bias=bias, norm=False)
        self.bn = nn.BatchNorm2d(width, eps=EPS)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv.conv_pw(self.conv.conv_dw(x))))
        return out


class Head(nn.Module):
    """A tower per level with shared weights, then shared last convolutions."""

    def __init__(self, width: int, repeats: int, channels: int, *, act: str, bias: bool, boxes: bool) -> None:
        """Build.

        Args:
            width: Channels of the maps.
            repeats: Layers of a tower.
            channels: That come out.
            act: Key of `ACTIVATIONS`.
            bias: Whether convolutions have one before BatchNorms.
            boxes: Whether boxes come out, whose official order is y, x, h, w.
        """
        super().__init__()
        self.towers = nn.ModuleList(
            nn.Sequential(*(_Layer(width, act=act, bias=bias) for _ in range(repeats))) for _ in range(LEVELS)
        )
        first = self.towers[0]
        for tower in self.towers[1:]:
            for own, shared in zip(tower.modules(), first.modules(), strict=True):
                if isinstance(own, nn.Conv2d) and isinstance(shared, nn.Conv2d):
                    own.weight, own.bias = shared.weight, shared.bias
        self.predict = _Predict(width, channels, boxes=boxes)
        self.register_state_dict_post_hook(_to_official)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_from_official)  # type: ignore[no-untyped-call]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the raw output of each level."""
        return [self.predict(tower(x)) for tower, x in zip(self.towers, maps, strict=True)]


def _to_official(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Name the shared tensors once, unless parameters themselves are asked for, as torch's tracer does."""
    mine = [name for name in state if name.startswith(f"{prefix}towers.")]
    if any(isinstance(state[name], nn.Parameter) for name in mine):
        return
    for name in mine:
        tensor = state.pop(name)
        level, layer, rest = name.removeprefix(f"{prefix}towers.").split(".", 2)
        if rest.startswith("bn."):
            state[f"{prefix}bn_rep.{layer}.{level}.{rest}"] = tensor
        elif level == "0":
            state[f"{prefix}conv_rep.{layer}.{rest.removeprefix('conv.')}"] = tensor


def _from_official(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give each level the shared tensors, before they are loaded."""
    for name in [name for name in state if name.startswith(prefix)]:
        rest = name.removeprefix(prefix)
        shared = re.fullmatch(r"conv_rep\.(\d+)\.(.+)", rest)
        norm = re.fullmatch(r"bn_rep\.(\d+)\.(\d+)\.(bn\..+)", rest)
        if shared is not None:
            tensor = state.pop(name)
            state.update({f"{prefix}towers.{k}.{shared[1]}.conv.{shared[2]}": tensor for k in range(LEVELS)})
        elif norm is not None:
            state[f"{prefix}towers.{norm[2]}.{norm[1]}.{norm[3]}"] = state.pop(name)
