"""The heads of torchvision's SSDs: one convolution per level for boxes, one for classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

__all__ = ["SsdHead"]


class _Levels(nn.Module):
    """One module per level, under the key ``module_list``."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(modules)


class SsdHead(nn.Module):
    """Keys ``classification_head.module_list.<level>`` and ``regression_head.module_list.<level>``."""

    def __init__(self, scores: Iterable[nn.Module], boxes: Iterable[nn.Module]) -> None:
        """Take the modules per level."""
        super().__init__()
        self.classification_head = _Levels(scores)
        self.regression_head = _Levels(boxes)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return raw boxes and class logits, level by level."""
        raw: list[Tensor] = []
        for i, x in enumerate(features):
            raw += [self.regression_head.module_list[i](x), self.classification_head.module_list[i](x)]
        return tuple(raw)
