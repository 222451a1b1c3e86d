"""The RepVGG block with the key names of YOLOv6 and DAMO-YOLO.

Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", 2021: in training 3×3, 1×1 and identity, each with a
BatchNorm, side by side; in deploy form one convolution, ``rbr_reparam``.
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
    """``act(rbr_dense(x) + rbr_1x1(x) + rbr_identity(x))``, or ``act(rbr_reparam(x))`` after deployment."""

    rbr_identity: nn.Module | None
    rbr_reparam: nn.Module | None

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
        """Build; the identity branch exists where it is wished and the shape allows it."""
        super().__init__()
        self.nonlinearity = activation(act)
        self.rbr_reparam = nn.Conv2d(c_in, c_out, 3, stride, 1) if deploy else None
        if not deploy:
            fits = identity and c_in == c_out and stride == 1
            self.rbr_identity = nn.BatchNorm2d(c_in, eps=1e-3) if fits else None
            self.rbr_dense = conv_bn(c_in, c_out, 3, stride)
            self.rbr_1x1 = conv_bn(c_in, c_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        if self.rbr_reparam is not None:
            y: Tensor = self.rbr_reparam(x)
        else:
            y = self.rbr_dense(x) + self.rbr_1x1(x)
            if self.rbr_identity is not None:
                y = y + self.rbr_identity(x)
        out: Tensor = self.nonlinearity(y)
        return out
