"""Networks for gray pictures, given color.

The gray value of a pixel is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601, which OpenCV's conversion uses). It is linear,
so it goes into the first convolution: W'(o, c) = w(c) · W(o), and the network takes RGB. For gray pictures, whose
channels are equal, that is exact; for color pictures the gray value is not rounded to whole levels as OpenCV rounds it,
which moves it by half a level of 255 at most. Zero padding stays zero, and padding with an even color stays that level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from edgedet_models.layer_list.network import Wiring
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_runtime.errors import CheckpointError

__all__ = ["RGB_TO_GRAY", "take_color"]

RGB_TO_GRAY = (0.299, 0.587, 0.114)


def take_color(layers: Sequence[nn.Module], wiring: Sequence[Wiring]) -> None:
    """Widen the convolutions that read a gray picture to RGB, in place.

    Raises:
        CheckpointError: A layer that reads the picture is no cell with a plain convolution of one input channel.
    """
    for index, (layer, wire) in enumerate(zip(layers, wiring, strict=True)):
        if -1 not in wire.sources:
            continue
        conv = layer.conv if isinstance(layer, ConvBnAct) else None
        if not isinstance(conv, nn.Conv2d) or conv.in_channels != 1:
            raise CheckpointError(
                f"expected a network for gray pictures to begin with a convolution of one channel, got"
                f" {type(layer).__name__} as layer {index}, which cannot be given color"
            )
        wide = nn.utils.skip_init(
            nn.Conv2d,
            3,
            conv.out_channels,
            conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            bias=conv.bias is not None,
        )
        with torch.no_grad():
            shares = torch.tensor(RGB_TO_GRAY, dtype=torch.float64).reshape(1, 3, 1, 1)
            wide.weight.copy_(conv.weight.double() * shares)
            if conv.bias is not None and wide.bias is not None:
                wide.bias.copy_(conv.bias)
        layer.conv = wide
