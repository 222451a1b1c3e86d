"""One convolution of an official network as several, each with some of its output channels.

A convolution's output channels do not depend on each other, so that sorting its rows into parts changes no number; it
keeps distances and logits apart in separate tensors. State dicts keep the official form: ``weight`` and ``bias``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SplitRows"]


class SplitRows(nn.Module):
    """Convolutions named after their parts; ``state_dict`` has the official one, and it is what loads."""

    def __init__(
        self, c_in: int, rows: Mapping[str, Sequence[int]], kernel: int = 1, *, padding: int = 0, bias: bool = True
    ) -> None:
        """Build.

        Args:
            c_in: Input channels.
            rows: The official output channels of each part, in the part's own order; together each of them once.
            kernel: Side of the kernel.
            padding: On each side.
            bias: Whether there is one.
        """
        super().__init__()
        self.parts = tuple(rows)
        self.rows = {name: torch.tensor(list(index), device="cpu") for name, index in rows.items()}
        order = torch.cat(list(self.rows.values()))
        assert torch.equal(order.sort().values, torch.arange(len(order), device="cpu")), "each row belongs to one part"
        self.back = order.argsort()
        for name, index in rows.items():
            self.add_module(name, nn.Conv2d(c_in, len(index), kernel, padding=padding, bias=bias))
        self.register_state_dict_post_hook(_join)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_split)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map (N, c_in, H, W) to one tensor per part."""
        return tuple(self.get_submodule(name)(x) for name in self.parts)


def _join(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Put the parts' rows in the official order, unless parameters themselves are asked for, as torch's tracer does."""
    assert isinstance(module, SplitRows), "registered by it"
    if isinstance(state.get(f"{prefix}{module.parts[0]}.weight"), nn.Parameter):
        return
    for field in ("weight", "bias"):
        names = [f"{prefix}{part}.{field}" for part in module.parts]
        if names[0] in state:
            joined = torch.cat([state.pop(name) for name in names])
            state[f"{prefix}{field}"] = joined[module.back.to(joined.device)]


def _split(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Sort the rows of the official convolution into the parts, before they are loaded."""
    assert isinstance(module, SplitRows), "registered by it"
    for field in ("weight", "bias"):
        tensor = state.pop(f"{prefix}{field}", None)
        if tensor is not None:
            state.update({f"{prefix}{part}.{field}": tensor[index] for part, index in module.rows.items()})
