"""Convolution, BatchNorm, activation by number: the cell of torchvision's backbones."""

from __future__ import annotations

from torch import nn

from edgedet_models.layers.activation import activation

__all__ = ["Cell"]


class Cell(nn.Sequential):
    """Keys ``0`` (convolution without bias) and ``1`` (BatchNorm); the activation has no tensors."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        act: str = "relu",
        eps: float = 1e-5,
    ) -> None:
        """Build with half the kernel as padding; `act` is a key of `ACTIVATIONS`, ``identity`` adds no layer."""
        layers: list[nn.Module] = [
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(c_out, eps=eps),
        ]
        super().__init__(*layers, *([] if act == "identity" else [activation(act)]))
