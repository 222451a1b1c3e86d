"""The reparameterised block that survives 8 bits.

RepVGG (Ding et al., 2021) trains a 3x3, a 1x1 and an identity branch, each with a BatchNorm, and adds them up. Merged,
its weights have outliers that quantisation does not forgive. QARepVGG (Chu et al., 2022) leaves the BatchNorm out of
the 1x1 and the identity branch and puts one behind the sum:

    y = act(bn(bn_3x3(W_3x3 * x) + W_1x1 * x + x))

Without a BatchNorm of its own, the identity is nothing but a 1x1 convolution with ones on the diagonal, so it is part
of W_1x1 from the start. The inner BatchNorm keeps the statistics that it was built with and trains its gain and offset
alone, so that the branches can be merged online (OREPA, Hu et al., 2022): training costs one convolution and one
BatchNorm per block, as much as without branches.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["QARepBlock"]


class QARepBlock(nn.Module):
    """A 3x3 convolution of stride 1, trained as three branches; one convolution and a ReLU after fusing.

    Keys: ``rbr_dense.conv``, ``rbr_dense.bn``, ``rbr_1x1`` and ``bn``.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        """Build the block from `c_in` to `c_out` channels."""
        super().__init__()
        self.rbr_dense = nn.Sequential()
        self.rbr_dense.add_module("conv", nn.Conv2d(c_in, c_out, 3, padding=1, bias=False))
        self.rbr_dense.add_module("bn", nn.BatchNorm2d(c_out))
        self.rbr_1x1 = nn.Conv2d(c_in, c_out, 1, bias=False)
        if c_in == c_out:
            with torch.no_grad():
                self.rbr_1x1.weight += torch.eye(c_in)[:, :, None, None]
        self.bn = nn.BatchNorm2d(c_out)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        if not self.training:
            out: Tensor = self.act(self.bn(self.rbr_dense(x) + self.rbr_1x1(x)))
            return out
        # The inner norm is linear while its statistics stand still, so training needs one convolution only.
        k = self.inner.weight * (self.inner.running_var + self.inner.eps).rsqrt()
        weight = self.dense.weight * k[:, None, None, None] + functional.pad(self.rbr_1x1.weight, (1, 1, 1, 1))
        bias = self.inner.bias - self.inner.running_mean * k
        merged: Tensor = self.act(self.bn(functional.conv2d(x, weight, bias, padding=1)))
        return merged

    @property
    def dense(self) -> nn.Conv2d:
        """The 3x3 convolution."""
        return cast(nn.Conv2d, self.rbr_dense.conv)

    @property
    def inner(self) -> Any:
        """The BatchNorm behind the 3x3 convolution; Any, since its buffers are optional to type checkers."""
        return self.rbr_dense.bn
