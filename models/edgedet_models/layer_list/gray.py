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

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_models.layer_list.leaves import number, own_tensor
from edgedet_models.layer_list.network import Wiring
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.focus_stem import FocusStem
from edgedet_runtime.errors import CheckpointError

__all__ = ["RGB_TO_GRAY", "input_channels", "take_color"]

RGB_TO_GRAY = (0.299, 0.587, 0.114)
PHASES = ("Focus", "ReOrg")
"""Layers that turn each 2×2 square of pixels into channels."""


def input_channels(layers: Sequence[ModuleNode]) -> int:
    """Return the channels of the picture that pickled layers take: those of the first convolution.

    Raises:
        CheckpointError: There is no convolution, or it takes neither 3 channels nor 1.
    """
    conv = next((node for layer in layers for _, node in layer.walk() if node.type_name == "Conv2d"), None)
    if conv is None:
        raise CheckpointError("expected a convolution as the first layer; the file is damaged")
    channels: int = own_tensor("model", conv, "weight", 4).shape[1] * int(number("model", conv, "groups", 1))
    channels = channels // 4 if layers[0].type_name in PHASES else channels
    if channels not in (1, 3):
        raise CheckpointError(
            f"expected a network for color or gray pictures (3 channels or 1), got one for {channels} channels, which a"
            " camera's picture does not have; edgedet takes no depth, infrared or transparency beside the colors"
        )
    return channels


def take_color(layers: Sequence[nn.Module], wiring: Sequence[Wiring]) -> None:
    """Widen the convolutions that read a gray picture to RGB, in place.

    Raises:
        CheckpointError: A layer that reads the picture is no cell with a plain convolution of one input channel.
    """
    for index, (layer, wire) in enumerate(zip(layers, wiring, strict=True)):
        if -1 not in wire.sources:
            continue
        cell, phases = (layer.conv, 4) if isinstance(layer, FocusStem) else (layer, 1)
        conv = cell.conv if isinstance(cell, ConvBnAct) else None
        if not isinstance(cell, ConvBnAct) or not isinstance(conv, nn.Conv2d) or conv.in_channels != phases:
            raise CheckpointError(
                f"expected a network for gray pictures to begin with a convolution of one channel, got"
                f" {type(layer).__name__} as layer {index}, which cannot be given color"
            )
        cell.conv = _widened(conv, phases)


def _widened(conv: nn.Conv2d, phases: int) -> nn.Conv2d:
    """Return a convolution on RGB in place of gray; `phases` gray pixels beside each other become as many colors."""
    wide: nn.Conv2d = nn.utils.skip_init(
        nn.Conv2d,
        3 * phases,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        bias=conv.bias is not None,
    )
    with torch.no_grad():
        shares = torch.tensor(RGB_TO_GRAY, dtype=torch.float64).reshape(1, 1, 3, 1, 1)
        wide.weight.copy_((conv.weight.double()[:, :, None] * shares).flatten(1, 2))
        if conv.bias is not None and wide.bias is not None:
            wide.bias.copy_(conv.bias)
    return wide
