"""Darknet's activation functions by the names that a cfg uses (``activations.h`` of AlexeyAB/darknet)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

__all__ = ["DARKNET_ACTIVATIONS", "HardMish", "Loggy"]


class HardMish(nn.Module):
    """x above 0, x² / 2 + x between -2 and 0, else 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function element by element."""
        return x.clamp(min=0) + x.clamp(-2, 0) * (x.clamp(-2, 0) / 2 + 1)


class Loggy(nn.Module):
    """2 * sigmoid(x) - 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function element by element."""
        return x.sigmoid() * 2 - 1


class _Ramp(nn.Module):
    """x * (x > 0) + x / 10."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=0) + x * 0.1


DARKNET_ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "mish": nn.Mish,
    "hard_mish": HardMish,
    "swish": nn.SiLU,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": lambda: nn.GELU(approximate="tanh"),
    "relie": lambda: nn.LeakyReLU(0.01),
    "ramp": _Ramp,
    "hardtan": nn.Hardtanh,
    "loggy": Loggy,
}
"""Constructors by name; darknet replaces a name that it does not know by relu, edgedet refuses it."""
