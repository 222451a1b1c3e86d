"""Convolution, BatchNorm, activation: the cell of YOLOX, DAMO-YOLO and YOLOv6, with their key names."""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.layers.activation import activation

__all__ = ["ConvBnAct"]


class ConvBnAct(nn.Module):
    """``act(bn(conv(x)))`` with the padding that keeps the size at stride 1, unless one is given.

    Keys: ``conv``, and ``bn`` unless the convolution carries a bias of its own (saved after fusing).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        padding: int | None = None,
        act: str = "silu",
        eps: float = 1e-3,
        bn: bool = True,
    ) -> None:
        """Build the cell; `act` is a key of `edgedet_models.layers.activation.ACTIVATIONS`."""
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=not bn)
        self.bn: nn.Module = nn.BatchNorm2d(c_out, eps=eps) if bn else nn.Identity()
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out
