"""Running a network for its shapes alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

__all__ = ["norms_passed_through"]


def _same(x: Tensor) -> Tensor:
    return x


@contextmanager
def norms_passed_through(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let every BatchNorm below `modules` return its input while the context lasts; hooks still run.

    A BatchNorm keeps the shape, and on the ``meta`` device it takes most of the time: torch decomposes it in Python.
    """
    norms = [norm for module in modules for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
    for norm in norms:
        norm.__dict__["forward"] = _same
    try:
        yield
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)
