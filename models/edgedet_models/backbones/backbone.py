"""What a backbone is to a detector: a picture in, features at strides 8, 16 and 32 out."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

__all__ = ["Backbone", "Features", "round_channels", "tap"]

Features = tuple[Tensor, Tensor, Tensor]


class Backbone(nn.Module):
    """Base of all backbones; keys and epsilons are those of the published ImageNet weights.

    Attributes:
        channels: Channels of the features at strides 8, 16 and 32.
        classifier: How the names of published tensors start that belong to the classifier, or to layers that widen
            the last features for it and were not built.
        added: How the names of own tensors start that published weights lack.
    """

    channels: tuple[int, int, int]
    classifier: tuple[str, ...] = ("classifier.",)
    added: tuple[str, ...] = ()

    def forward(self, x: Tensor) -> Features:
        """Map (N, 3, H, W), H and W multiples of 32, to (N, C_i, H / s, W / s) for the strides s = 8, 16, 32."""
        raise TypeError(f"{type(self).__name__} does not define forward()")


def tap(layers: Iterable[nn.Module], at: tuple[int, int, int], x: Tensor) -> Features:
    """Run layers in a row as far as the last index in `at`, and return the outputs of those at the indices."""
    found: list[Tensor] = []
    for index, layer in enumerate(layers):
        x = layer(x)
        if index in at:
            found.append(x)
        if index == at[2]:
            break
    return found[0], found[1], found[2]


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, not more than a tenth down.

    The rule of the MobileNet papers' code, which torchvision and timm follow.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
