"""The two small darknet detectors as cfg text, written from their published structure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["PRESETS"]

ANCHORS = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))
"""Of both networks, for 416 px pictures."""


def _section(kind: str, **options: object) -> str:
    return "\n".join([f"[{kind}]", *(f"{k}={v}" for k, v in options.items()), ""])


def _conv(filters: int, size: int = 3, stride: int = 1) -> str:
    return _section(
        "convolutional",
        batch_normalize=1,
        filters=filters,
        size=size,
        stride=stride,
        pad=1,
        activation="leaky",
    )


def _pool(stride: int) -> str:
    return _section("maxpool", size=2, stride=stride)


def _head(mask: tuple[int, ...], classes: int, scale_x_y: float) -> list[str]:
    filters = len(mask) * (5 + classes)
    anchors = ",".join(f"{w},{h}" for w, h in ANCHORS)
    numbers = ",".join(map(str, mask))
    return [
        _section("convolutional", filters=filters, size=1, stride=1, pad=1, activation="linear"),
        _section("yolo", mask=numbers, anchors=anchors, classes=classes, num=len(ANCHORS), scale_x_y=scale_x_y),
    ]


def _net(px: int) -> str:
    return _section("net", width=px, height=px, channels=3)


def _tiny_neck(classes: int, skip: int, finer: tuple[int, ...], scale_x_y: float) -> list[str]:
    """Both heads: the coarse one, then upsampling, the skip connection and the fine one."""
    return [
        _conv(256, 1),
        _conv(512),
        *_head((3, 4, 5), classes, scale_x_y),
        _section("route", layers=-4),
        _conv(128, 1),
        _section("upsample", stride=2),
        _section("route", layers=f"-1,{skip}"),
        _conv(256),
        *_head(finer, classes, scale_x_y),
    ]


def _yolov3_tiny(classes: int) -> str:
    parts = [_net(416)]
    for filters in (16, 32, 64, 128, 256):
        parts += [_conv(filters), _pool(2)]
    parts += [_conv(512), _pool(1), _conv(1024), *_tiny_neck(classes, 8, (0, 1, 2), 1.0)]
    return "\n".join(parts)


def _csp_block(filters: int) -> list[str]:
    """YOLOv4-tiny's block: the second half of the channels goes through two convolutions, all meet again."""
    half = filters // 2
    return [
        _conv(filters),
        _section("route", layers=-1, groups=2, group_id=1),
        _conv(half),
        _conv(half),
        _section("route", layers="-1,-2"),
        _conv(filters, 1),
        _section("route", layers="-6,-1"),
        _pool(2),
    ]


def _yolov4_tiny(classes: int) -> str:
    parts = [_net(416), _conv(32, 3, 2), _conv(64, 3, 2)]
    for filters in (64, 128, 256):
        parts += _csp_block(filters)
    # The fine head's mask repeats anchor 3 and leaves out anchor 0, as the published cfg does.
    parts += [_conv(512), *_tiny_neck(classes, 23, (1, 2, 3), 1.05)]
    return "\n".join(parts)


PRESETS: Mapping[str, Callable[[int], str]] = {"yolov3-tiny": _yolov3_tiny, "yolov4-tiny": _yolov4_tiny}
"""cfg text by variant name; the argument is the number of classes."""
