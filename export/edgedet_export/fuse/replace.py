"""Replacing submodules by dotted name."""

from __future__ import annotations

from torch import nn

__all__ = ["replace_module"]


def replace_module(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put `new` in the place of the submodule at `path`."""
    parent_path, _, name = path.rpartition(".")
    parent = model.get_submodule(parent_path)
    if name not in dict(parent.named_children()):
        raise KeyError(f"{path}: no such submodule")
    setattr(parent, name, new)
