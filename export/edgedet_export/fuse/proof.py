"""The proof that a fused block computes what the block computed: both in float64, on random input."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from edgedet_runtime.errors import CheckFailedError

__all__ = ["TOLERANCE", "prove_equal", "relative_error"]

TOLERANCE = 1e-5
"""Largest accepted difference relative to the largest output. Rounding fused weights to float32 costs about 1e-7."""


def relative_error(expected: Tensor, got: Tensor) -> float:
    """Return ``max|expected - got| / max|expected|`` (absolute where `expected` is all zero)."""
    scale = float(expected.abs().max()) or 1.0
    return float((expected - got).abs().max()) / scale


def prove_equal(before: nn.Module, after: nn.Module, channels: int, *, what: str, size: int = 16) -> float:
    """Run two blocks in float64 on one random batch and compare.

    Args:
        before: The block as it was; copied, not changed.
        after: The fused block; copied, not changed.
        channels: Input channels.
        what: Name of the block, for the message.
        size: Height of the random input; its width is 4 more, so that a mixed-up axis shows.

    Returns:
        The relative error.

    Raises:
        CheckFailedError: The blocks differ by more than `TOLERANCE`.
    """
    x = torch.randn(2, channels, size, size + 4, generator=torch.Generator(), dtype=torch.float64)
    with torch.no_grad():
        expected = copy.deepcopy(before).double().eval()(x.clone())
        got = copy.deepcopy(after).double().eval()(x.clone())
    if expected.shape != got.shape:
        raise CheckFailedError(
            f"fuse {what}: expected an output of shape {tuple(expected.shape)}, got {tuple(got.shape)}"
        )
    error = relative_error(expected, got)
    if not error <= TOLERANCE:  # NaN fails as well
        raise CheckFailedError(
            f"fuse {what}: expected a relative error of at most {TOLERANCE:g} in float64, got {error:.3g};"
            " this is a defect of the pass, please report the block"
        )
    return error
