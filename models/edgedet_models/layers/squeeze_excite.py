"""Squeeze and excitation (Hu et al., 2018) by 1×1 convolutions, as torchvision and timm have it."""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.layers.activation import activation

__all__ = ["ChannelGate"]


class ChannelGate(nn.Module):
    """Scale each channel by a gate computed from all channel means.

    Keys: ``fc1`` and ``fc2`` (torchvision), or what `keys` says.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        act: str = "relu",
        gate: str = "sigmoid",
        keys: tuple[str, str] = ("fc1", "fc2"),
    ) -> None:
        """Build with `hidden` channels between the convolutions; `act` and `gate` are keys of `ACTIVATIONS`."""
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.add_module(keys[0], nn.Conv2d(channels, hidden, 1))
        self.add_module(keys[1], nn.Conv2d(hidden, channels, 1))
        self.act = activation(act)
        self.gate = activation(gate)
        self.keys = keys

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        narrow, widen = (self.get_submodule(key) for key in self.keys)
        factor: Tensor = self.gate(widen(self.act(narrow(self.pool(x)))))
        return x * factor
