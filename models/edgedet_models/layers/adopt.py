"""Blocks made of parts that exist already, as they are read from a checkpoint."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

__all__ = ["adopt"]

Block = TypeVar("Block", bound=nn.Module)


def adopt(kind: type[Block], **parts: Any) -> Block:
    """Return a module of class `kind` with the given parts, without running its constructor.

    A checkpoint's module tree says of every part what it is, so the constructor's dimensions would only
    repeat it.

    Args:
        kind: A class whose forward uses nothing but `parts`.
        parts: Attributes by name; modules among them become submodules, None stays None.
    """
    module = kind.__new__(kind)
    nn.Module.__init__(module)
    for name, part in parts.items():
        setattr(module, name, part)
    return module
