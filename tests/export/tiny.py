"""A detector small enough for unit tests: two levels, every box kind, a few thousand parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_models.detector import DetectorModule
from edgedet_runtime.spec import BoxKind, DecodeSpec, InputSpec, LevelSpec, ModelSpec, PriorSpec, ResizeSpec, Thresholds

CLASSES = ("cat", "dog", "owl")
BINS = 4
BOX_CHANNELS = {"anchors": 4, "points-exp": 4, "ltrb": 4, "priors": 4, "dfl": 4 * BINS}
ANCHORS = (((10.0, 12.0), (24.0, 18.0)), ((40.0, 30.0), (50.0, 60.0)))


def tiny_spec(kind: BoxKind = "ltrb", *, size_hw: tuple[int, int] = (64, 96), **changes: object) -> ModelSpec:
    """Return the contract of a `TinyDetector`."""
    objectness = kind in ("anchors", "points-exp")
    levels = tuple(
        LevelSpec(
            stride=8 * 2**i,
            boxes=f"boxes_{i}",
            scores=f"scores_{i}",
            objectness=f"objectness_{i}" if objectness else None,
            anchors_px=ANCHORS[i] if kind in ("anchors", "priors") else (),
            scale_xy=2.0 if kind == "anchors" else 1.0,
        )
        for i in range(2)
    )
    if kind != "priors":
        decode = DecodeSpec(kind, levels, score="obj*cls" if objectness else "cls", bins=BINS if kind == "dfl" else 0)
    else:
        rules = PriorSpec("exp", (0.1, 0.1, 0.2, 0.2), step="grid", clamp=True, cap=1.0)
        unit_xy = (float(size_hw[1]), float(size_hw[0]))
        decode = DecodeSpec(kind, levels, score="softmax", unit_xy=unit_xy, priors=rules)
    spec = ModelSpec(
        family="custom",
        variant="tiny",
        input=InputSpec("images", *size_hw, layout="NCHW", dtype="float32", color="RGB", scale=1 / 255),
        resize=ResizeSpec(),
        decode=decode,
        classes=CLASSES,
        thresholds=Thresholds(conf=0.3),
        licence="Apache-2.0",
    )
    return spec.replace(**changes)


class TinyDetector(DetectorModule):
    """Three strided convolutions with BatchNorm and a split head on two levels; seeded."""

    def __init__(self, spec: ModelSpec, seed: int = 0) -> None:
        super().__init__(spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = self._block(3, 8)
            self.down = self._block(8, 12)
            self.levels = nn.ModuleList([self._block(12, 16), self._block(16, 16)])
            self.heads = nn.ModuleList()
            channels = BOX_CHANNELS[spec.decode.kind]
            for level in spec.decode.levels:
                anchors = max(1, len(level.anchors_px))
                widths = [channels * anchors]
                widths += [anchors] if level.objectness else []
                widths += [(len(spec.classes) + (spec.decode.score == "softmax")) * anchors]
                self.heads.append(nn.ModuleList(nn.Conv2d(16, w, 1) for w in widths))
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    assert module.running_mean is not None
                    assert module.running_var is not None
                    module.running_mean.normal_(std=0.3)
                    module.running_var.uniform_(0.5, 1.5)
            self.eval()

    @staticmethod
    def _block(c1: int, c2: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(c1, c2, 3, 2, 1, bias=False), nn.BatchNorm2d(c2), nn.SiLU())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.down(self.stem(x))
        outputs: list[Tensor] = []
        for level, head in zip(self.levels, self.heads, strict=True):
            x = level(x)
            assert isinstance(head, nn.ModuleList)
            outputs += [conv(x) * 3 for conv in head]
        return tuple(outputs)
