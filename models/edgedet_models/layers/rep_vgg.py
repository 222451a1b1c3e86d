"""The RepVGG block with the key names of YOLOv6 and DAMO-YOLO, and its relatives.

Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", 2021: in training 3×3, 1×1 and identity, each with a
BatchNorm, side by side; in deploy form one convolution, ``rbr_reparam``. QARepVGG (Chu et al., 2022) leaves the
BatchNorm out of the 1×1 and the identity branch and puts one (``bn``) behind the sum; its second version adds an
average pooling (``rbr_avg``).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from edgedet_models.layers.activation import activation

__all__ = ["RepVgg", "conv_bn"]


def conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1, *, groups: int = 1, eps: float = 1e-3) -> nn.Module:
    """Make a convolution (``conv``) with BatchNorm (``bn``) and the padding that keeps the size at stride 1."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(c_out, eps=eps)))


class RepVgg(nn.Module):
    """``nonlinearity(bn(sum of the rbr_ branches))``; branches and BatchNorm exist as the form has them."""

    nonlinearity: nn.Module
    rbr_reparam: nn.Module | None
    rbr_dense: nn.Module | None
    rbr_1x1: nn.Module | None
    rbr_identity: nn.Module | None
    rbr_avg: nn.Module | None
    bn: nn.Module | None

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int = 1,
        *,
        act: str = "relu",
        identity: bool = True,
        deploy: bool = False,
    ) -> None:
        """Build RepVGG's form; the identity branch exists where it is wished and the shape allows it."""
        super().__init__()
        fits = identity and not deploy and c_in == c_out and stride == 1
        self.nonlinearity = activation(act)
        self.rbr_reparam = nn.Conv2d(c_in, c_out, 3, stride, 1) if deploy else None
        self.rbr_dense = None if deploy else conv_bn(c_in, c_out, 3, stride)
        self.rbr_1x1 = None if deploy else conv_bn(c_in, c_out, 1, stride)
        self.rbr_identity = nn.BatchNorm2d(c_in, eps=1e-3) if fits else None
        self.rbr_avg = None
        self.bn = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        branches = (self.rbr_reparam, self.rbr_dense, self.rbr_1x1, self.rbr_identity, self.rbr_avg)
        first, *others = [branch(x) for branch in branches if branch is not None]
        y: Tensor = first
        for other in others:
            y = y + other
        if self.bn is not None:
            y = self.bn(y)
        out: Tensor = self.nonlinearity(y)
        return out
