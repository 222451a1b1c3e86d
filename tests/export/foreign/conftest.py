"""Small detectors with the tails that exporters of the field write, exported to ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)
SIZE_HW = (64, 96)
ANCHORS = torch.tensor(
    [
        [[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]],
        [[30.0, 61.0], [62.0, 45.5], [59.0, 119.0]],
        [[116.0, 90.0], [156.0, 198.0], [373.0, 326.25]],
    ]
)


class Trunk(nn.Module):
    """Three feature maps of 8 channels at strides 8, 16, 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, 8)
        self.down = nn.ModuleList(nn.Conv2d(8, 8, 3, 2, 1) for _ in range(2))
        self.lateral = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        a = nn.functional.silu(self.stem(x))
        b = nn.functional.silu(self.down[0](a))
        c = nn.functional.silu(self.down[1](b))
        b = b + nn.functional.interpolate(self.lateral(c), scale_factor=2.0, mode="nearest")
        return [a, b, c]


def grid(h: int, w: int, like: Tensor) -> Tensor:
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return torch.stack((xs, ys), -1).to(like.dtype)


class AnchorDetector(nn.Module):
    """A YOLOv5/v7-like detector: one convolution per level holds everything.

    `tail` names the form of the outputs.
    """

    def __init__(self, tail: str, classes: int = 5, implicit: bool = False) -> None:
        super().__init__()
        self.tail = tail
        self.columns = 5 + classes
        self.trunk = Trunk()
        self.heads = nn.ModuleList(nn.Conv2d(8, 3 * self.columns, 1) for _ in STRIDES)
        self.ia = nn.ParameterList(nn.Parameter(torch.randn(1, 8, 1, 1) * 0.2) for _ in STRIDES) if implicit else None
        self.im = (
            nn.ParameterList(nn.Parameter(1 + torch.randn(1, 3 * self.columns, 1, 1) * 0.2) for _ in STRIDES)
            if implicit
            else None
        )

    def decode(self, level: int, t: Tensor) -> Tensor:
        """(N, 3, h, w, columns) raw to decoded, as the official code of one or other version writes it."""
        h, w = t.shape[2:4]
        stride, anchors = STRIDES[level], ANCHORS[level].to(t.dtype).view(1, 3, 1, 1, 2)
        y = t.sigmoid()
        if self.tail == "v7-split":
            xy, wh, conf = torch.split(y, [2, 2, self.columns - 4], 4)
            xy = xy * (2 * stride) + stride * (grid(h, w, t) - 0.5)
            wh = wh**2 * (4 * anchors)
        else:
            xy = (y[..., 0:2] * 2 - 0.5 + grid(h, w, t)) * stride
            wh = (y[..., 2:4] * 2) ** 2 * anchors
            conf = y[..., 4:]
        if self.tail == "corners":
            return torch.cat((xy - wh / 2, xy + wh / 2, conf), 4)
        if self.tail == "normalised":
            size = torch.tensor([SIZE_HW[1], SIZE_HW[0]], dtype=t.dtype)
            return torch.cat((xy / size, wh / size, conf), 4)
        if self.tail == "product":
            return torch.cat((xy, wh, conf[..., :1] * conf[..., 1:]), 4)
        return torch.cat((xy, wh, conf), 4)

    def forward(self, x: Tensor) -> Any:
        raw: list[Tensor] = []
        for i, feature in enumerate(self.trunk(x)):
            y = feature if self.ia is None else feature + self.ia[i]
            y = self.heads[i](y)
            raw.append(y if self.im is None else y * self.im[i])
        if self.tail == "raw-4d":
            return tuple(raw)
        five = [t.view(t.shape[0], 3, self.columns, *t.shape[2:]).permute(0, 1, 3, 4, 2).contiguous() for t in raw]
        if self.tail == "raw-5d":
            return tuple(five)
        if self.tail == "raw-5d-sigmoid":
            return tuple(t.sigmoid() for t in five)
        decoded = [self.decode(i, t) for i, t in enumerate(five)]
        if self.tail == "cells-first":
            decoded = [d.permute(0, 2, 3, 1, 4) for d in decoded]
        if self.tail == "coarse-first":
            decoded = decoded[::-1]
        together = torch.cat([d.reshape(d.shape[0], -1, d.shape[4]) for d in decoded], 1)
        if self.tail == "transposed":
            return together.transpose(1, 2)
        if self.tail == "two-outputs":
            return together[..., :4], together[..., 4:]
        if self.tail == "with-raw":
            return (together, *five)
        return together


class PointDetector(nn.Module):
    """A detector with separate convolutions per level: YOLOX (3), YOLOv6 and YOLOv8 (2)."""

    def __init__(self, tail: str, classes: int = 5, bins: int = 1, objectness: bool = True) -> None:
        super().__init__()
        self.tail, self.bins, self.classes = tail, bins, classes
        self.trunk = Trunk()
        # classes first, so that the graph's order is not the outputs'
        self.scores = nn.ModuleList(nn.Conv2d(8, classes, 1) for _ in STRIDES)
        self.boxes = nn.ModuleList(nn.Conv2d(8, 4 * bins, 1) for _ in STRIDES)
        self.objectness = nn.ModuleList(nn.Conv2d(8, 1, 1) for _ in STRIDES) if objectness else None
        self.projection = nn.Conv2d(bins, 1, 1, bias=False) if bins > 1 else None
        if self.projection is not None:
            self.projection.weight.data = torch.arange(bins, dtype=torch.float32).view(1, bins, 1, 1)

    def forward(self, x: Tensor) -> Any:
        features = self.trunk(x)
        classes = [m(f) for m, f in zip(self.scores, features, strict=True)]
        boxes = [m(f) for m, f in zip(self.boxes, features, strict=True)]
        if self.objectness is not None:
            objectness = [m(f) for m, f in zip(self.objectness, features, strict=True)]
            return self.yolox(boxes, objectness, classes)
        return self.sides(boxes, classes)

    def yolox(self, boxes: list[Tensor], objectness: list[Tensor], classes: list[Tensor]) -> Any:
        if self.tail == "raw-levels":
            return tuple(torch.cat(parts, 1) for parts in zip(boxes, objectness, classes, strict=True))
        levels = [
            torch.cat((b, o.sigmoid(), c.sigmoid()), 1) for b, o, c in zip(boxes, objectness, classes, strict=True)
        ]
        if self.tail == "levels":
            return tuple(levels)
        together = torch.cat([t.flatten(2) for t in levels], 2).permute(0, 2, 1)
        if self.tail == "flat":
            return together
        grids = torch.cat([grid(t.shape[2], t.shape[3], t).view(1, -1, 2) for t in levels], 1)
        strides = torch.cat(
            [torch.full((1, t.shape[2] * t.shape[3], 1), float(s)) for t, s in zip(levels, STRIDES, strict=True)], 1
        ).to(together.dtype)
        xy = (together[..., 0:2] + grids) * strides
        wh = torch.exp(together[..., 2:4]) * strides
        return torch.cat((xy, wh, together[..., 4:]), -1)

    def sides(self, boxes: list[Tensor], classes: list[Tensor]) -> Any:
        out = []
        for level, (box, score) in enumerate(zip(boxes, classes, strict=True)):
            n, _, h, w = box.shape
            if self.projection is not None:
                spread = box.reshape(n, 4, self.bins, h * w).permute(0, 2, 1, 3)
                box = self.projection(spread.softmax(1)).reshape(n, 4, h, w)
            points = (grid(h, w, box) + 0.5).permute(2, 0, 1)[None]
            low, high = points - box[:, :2], points + box[:, 2:]
            xywh = torch.cat(((low + high) / 2, high - low), 1) * STRIDES[level]
            ones = [] if self.tail == "v8" else [torch.ones_like(box[:, :1])]
            out.append(torch.cat((xywh, *ones, score.sigmoid()), 1).flatten(2))
        together = torch.cat(out, 2)
        return together if self.tail == "v8" else together.permute(0, 2, 1)


Export = Callable[..., Path]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Return a function that exports a module to ONNX with torch's TorchScript exporter."""

    def write(
        module: nn.Module,
        *,
        opset: int = 12,
        half: bool = False,
        size_hw: tuple[int, int] = SIZE_HW,
        channels: int = 3,
        **options: Any,
    ) -> Path:
        path = tmp_path / "foreign.onnx"
        example = torch.zeros(1, channels, *size_hw)
        if half:
            module, example = module.half(), example.half()
        torch.onnx.export(
            module.eval(), (example,), str(path), opset_version=opset, dynamo=False, input_names=["in"], **options
        )
        return path

    torch.manual_seed(0)
    return write


@pytest.fixture
def anchor_detector() -> Callable[..., nn.Module]:
    """Return the builder of YOLOv5-like detectors."""
    return AnchorDetector


@pytest.fixture
def point_detector() -> Callable[..., nn.Module]:
    """Return the builder of YOLOX-, YOLOv6- and YOLOv8-like detectors."""
    return PointDetector


@pytest.fixture
def anchors_px() -> tuple[tuple[tuple[float, float], ...], ...]:
    """Return the anchors that the YOLOv5-like detectors decode with."""
    return tuple(tuple((float(w), float(h)) for w, h in level) for level in ANCHORS)


@pytest.fixture(autouse=True)
def without_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare hundreds of imports a child process each; ``tests/export/test_foreign_trial.py`` is about it."""
    monkeypatch.setattr("edgedet_export.foreign.importer.try_untouched", lambda path, file_input: None)
