"""BlazeFace's network, with the key names of the PyTorch port of MediaPipe's models (hollance/BlazeFace-PyTorch).

TensorFlow's paddings: where the stride is 2, rows and columns are added at the right and bottom only. A block whose
channels grow adds channels of zeros behind those of its shortcut. There is no BatchNorm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.detector import DetectorModule
from edgedet_models.layers.split_rows import SplitRows
from edgedet_runtime.prior_spec import PriorSpec
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

__all__ = ["BACK", "FRONT", "BlazeFace", "BlazeWidths", "read_blaze_widths"]

ANCHORS = (2, 6)
"""Boxes of a cell, on the fine and the coarse level."""
KEYPOINTS = 6
FRONT_STRIDED, BACK_STRIDED = (2, 5), (7, 15, 23)
"""Blocks of stride 2, by position, in the part before the fine level."""


@dataclass(frozen=True, slots=True)
class BlazeWidths:
    """Channels of a BlazeFace.

    Attributes:
        stem: Of the first convolution.
        fine: Of the blocks up to the fine level.
        coarse: Of the blocks from there to the coarse level; one, without a shortcut, in the back-camera network.
    """

    stem: int
    fine: tuple[int, ...]
    coarse: tuple[int, ...]

    @property
    def back(self) -> bool:
        """Whether this is the layout of the back-camera network."""
        return len(self.coarse) == 1


FRONT = BlazeWidths(24, (24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88), (96,) * 5)
BACK = BlazeWidths(24, (24,) * 15 + (48,) * 8 + (96,) * 8, (96,))


class BlazeBlock(nn.Module):
    """Depthwise 3×3, then 1×1, added to the input, which is pooled at stride 2, then ReLU."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1, *, shortcut: bool = True) -> None:
        """Build; without a shortcut nothing is added."""
        super().__init__()
        self.stride = stride
        self.shortcut = shortcut
        self.more = c_out - c_in
        padding = 1 if stride == 1 else 0
        self.convs = nn.Sequential(
            nn.Conv2d(c_in, c_in, 3, stride, padding, groups=c_in),
            nn.Conv2d(c_in, c_out, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        h = x if self.stride == 1 else functional.pad(x, (0, 2, 0, 2))
        h = self.convs(h)
        if not self.shortcut:
            return functional.relu(h)
        x = x if self.stride == 1 else functional.max_pool2d(x, 2)
        if self.more:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.more))
        return functional.relu(h + x)


class _Stem(nn.Conv2d):
    """5×5 at stride 2, with one row and column before and two behind."""

    def __init__(self, channels: int) -> None:
        super().__init__(3, channels, 5, 2)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(functional.pad(input, (1, 2, 1, 2)))


def _blocks(c_in: int, widths: tuple[int, ...], strided: tuple[int, ...]) -> list[nn.Module]:
    pairs = zip((c_in, *widths), widths, strict=False)
    return [BlazeBlock(a, b, 2 if i in strided else 1) for i, (a, b) in enumerate(pairs)]


def _regressor(c_in: int, anchors: int) -> SplitRows:
    """Official channels are anchor by anchor: x, y, w, h, then x and y of each keypoint."""
    size = 4 + 2 * KEYPOINTS
    starts = [size * a for a in range(anchors)]
    boxes = [start + i for start in starts for i in range(4)]
    points = [start + i for start in starts for i in range(4, size)]
    return SplitRows(c_in, {"boxes": boxes, "keypoints": points})


class BlazeFace(DetectorModule):
    """Front (128 px) or back-camera (256 px) network."""

    def __init__(self, variant: str, widths: BlazeWidths, classes: tuple[str, ...]) -> None:
        """Build an untrained detector."""
        super().__init__(_spec(variant, classes, back=widths.back))
        self.back = widths.back
        stem: list[nn.Module] = [_Stem(widths.stem), nn.ReLU()]
        if self.back:
            self.backbone = nn.Sequential(*stem, *_blocks(widths.stem, widths.fine, BACK_STRIDED))
            self.final = BlazeBlock(widths.fine[-1], widths.coarse[0], 2, shortcut=False)
        else:
            self.backbone1 = nn.Sequential(*stem, *_blocks(widths.stem, widths.fine, FRONT_STRIDED))
            self.backbone2 = nn.Sequential(*_blocks(widths.fine[-1], widths.coarse, (0,)))
        fine, coarse = widths.fine[-1], widths.coarse[-1]
        self.classifier_8 = nn.Conv2d(fine, ANCHORS[0] * len(classes), 1)
        self.classifier_16 = nn.Conv2d(coarse, ANCHORS[1] * len(classes), 1)
        self.regressor_8 = _regressor(fine, ANCHORS[0])
        self.regressor_16 = _regressor(coarse, ANCHORS[1])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return boxes (N, 4 A, h, w) and logits (N, A, h, w) per level, then keypoints (N, 12 A, h, w) per level."""
        fine = self.backbone(x) if self.back else self.backbone1(x)
        coarse = self.final(fine) if self.back else self.backbone2(fine)
        boxes_8, points_8 = self.regressor_8(fine)
        boxes_16, points_16 = self.regressor_16(coarse)
        return boxes_8, self.classifier_8(fine), boxes_16, self.classifier_16(coarse), points_8, points_16


def _spec(variant: str, classes: tuple[str, ...], *, back: bool) -> ModelSpec:
    size, strides = (256, (16, 32)) if back else (128, (8, 16))
    levels = tuple(
        LevelSpec(stride, f"boxes_{i}", f"scores_{i}", anchors_px=((1.0, 1.0),) * count)
        for i, (stride, count) in enumerate(zip(strides, ANCHORS, strict=True))
    )
    gray = (127.5, 127.5, 127.5)
    return ModelSpec(
        family="blazeface",
        variant=variant,
        input=InputSpec("images", size, size, layout="NCHW", dtype="float32", color="RGB", mean=gray, std=gray),
        resize=ResizeSpec("letterbox", pad_bgr=(0, 0, 0)),
        decode=DecodeSpec(
            "priors",
            levels,
            "cls",
            suppression="blend",
            unit_xy=(float(size), float(size)),
            priors=PriorSpec("linear"),
            keypoints=("keypoints_0", "keypoints_1"),
        ),
        classes=classes,
        thresholds=Thresholds(conf=0.65 if back else 0.75, iou=0.3),
        licence="Apache-2.0",
    )


def read_blaze_widths(tensors: Mapping[str, Tensor]) -> BlazeWidths | None:
    """Read the channels off the shapes; None where the marks of a BlazeFace are not there."""
    back = "final.convs.1.weight" in tensors
    first = "backbone" if back else "backbone1"
    stem = tensors.get(f"{first}.0.weight")
    fine = _widths(tensors, first, 2)
    coarse = (len(tensors["final.convs.1.weight"]),) if back else _widths(tensors, "backbone2", 0)
    if stem is None or not fine or not coarse or any(f"regressor_{n}.weight" not in tensors for n in (8, 16)):
        return None
    return BlazeWidths(len(stem), fine, coarse)


def _widths(tensors: Mapping[str, Tensor], prefix: str, first: int) -> tuple[int, ...]:
    found: list[int] = []
    while (name := f"{prefix}.{first + len(found)}.convs.1.weight") in tensors:
        found.append(len(tensors[name]))
    return tuple(found)
