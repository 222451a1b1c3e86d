"""Activations by the name that configurations give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

__all__ = ["ACTIVATIONS", "activation"]

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "selu": nn.SELU,
}
"""Constructors by name; the slope of ``leaky`` is 0.1, that of darknet, YOLOX and YOLOv7-tiny."""


def activation(name: str) -> nn.Module:
    """Make the activation called `name`, a key of `ACTIVATIONS`."""
    return ACTIVATIONS[name]()
