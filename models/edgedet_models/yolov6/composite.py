"""Modules made of named parts, which a constructor or a checkpoint's module tree supplies."""

from __future__ import annotations

from torch import nn

__all__ = ["Composite", "PartsError"]


class PartsError(ValueError):
    """A composite got too few parts, or parts that it does not know; the message names the first one."""


class Composite(nn.Module):
    """Base of blocks that do nothing in their constructor but keep their parts.

    A subclass annotates its parts: ``cv1: nn.Module`` is required, ``bn: nn.Module | None`` may be absent and is None
    then. ``dropped`` names parts that a file may hold and inference does not need.
    """

    dropped: tuple[str, ...] = ()

    def __init__(self, **parts: nn.Module) -> None:
        """Keep the parts.

        Raises:
            PartsError: A required part is missing, or one is not known.
        """
        super().__init__()
        kinds = {
            name: kind
            for cls in reversed(type(self).__mro__)
            for name, kind in getattr(cls, "__annotations__", {}).items()
            if kind in ("nn.Module", "nn.Module | None")
        }
        for name, kind in kinds.items():
            if name not in parts and kind == "nn.Module":
                raise PartsError(f"submodule {name!r} is missing")
            setattr(self, name, parts.get(name))
        for name in parts:
            if name not in kinds and name not in self.dropped:
                raise PartsError(f"submodule {name!r} is not expected")
