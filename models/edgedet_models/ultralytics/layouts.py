"""YOLOv3u, v5u, v8, v10, YOLO11, 12 and 26 before scaling; v9 is in `layouts_v9`.

Published architectures: YOLOv8 (Jocher, Chaurasia, Qiu, 2023), YOLOv10 (Wang et al., 2024, arXiv:2405.14458), YOLO11
and YOLO26 (Jocher, Qiu, 2024 and 2025), YOLO12 (Tian, Ye, Doermann, 2025, arXiv:2502.12524); YOLOv3u and v5u are the
old networks with YOLOv8's head.
"""

from __future__ import annotations

from itertools import pairwise

from edgedet_models.ultralytics.rows import Layout, Row, RowWriter

__all__ = ["v3u", "v3u_tiny", "v5u", "v8", "v8_p2", "v8_p6", "v10", "v11", "v12", "v26"]


def _strided(channels: int) -> Row:
    return Row("Conv", channels, kernel=3, stride=2)


def _c2f_backbone(*deeper: int) -> RowWriter:
    """Stem and stages of strides 2 to 32, or 64 where there is a channel count more, and the pools."""
    r = RowWriter()
    r.cell(64, 3, 2)
    stages = [(128, 3), (256, 6), (512, 6), *((channels, 3) for channels in deeper)]
    for channels, repeats in stages:
        r.add(_strided(channels))
        r.add(Row("C2f", channels, repeats, add=True))
    r.add(Row("SPPF", stages[-1][0]))
    return r


def _path_of(r: RowWriter, kind: str, features: list[int], channels: list[int]) -> tuple[int, ...]:
    """A path of equal stages, `channels` of the levels finest first."""
    up = [Row(kind, c, 3) for c in channels[-2::-1]]
    down = [Row(kind, c, 3) for c in channels[1:]]
    return r.path(features, up, down, lambda index: _strided(channels[index]))


def v8() -> Layout:
    """Return YOLOv8."""
    r = _c2f_backbone(1024)
    levels = _path_of(r, "C2f", [4, 6, 9], [256, 512, 1024])
    return Layout(tuple(r.rows), levels)


def v8_p2() -> Layout:
    """Return YOLOv8 with a level of stride 4."""
    r = _c2f_backbone(1024)
    levels = _path_of(r, "C2f", [2, 4, 6, 9], [128, 256, 512, 1024])
    return Layout(tuple(r.rows), levels)


def v8_p6() -> Layout:
    """Return YOLOv8 with a level of stride 64."""
    r = _c2f_backbone(768, 1024)
    levels = _path_of(r, "C2", [4, 6, 8, 11], [256, 512, 768, 1024])
    return Layout(tuple(r.rows), levels)


def v5u(*, p6: bool = False) -> Layout:
    """Return YOLOv5 v6 with YOLOv8's head; `p6`: with a level of stride 64."""
    r = RowWriter()
    r.add(Row("Conv", 64, kernel=6, stride=2, padding=2))
    coarse = (768, 1024) if p6 else (1024,)
    for channels, repeats in ((128, 3), (256, 6), (512, 9), *((c, 3) for c in coarse)):
        r.add(_strided(channels))
        r.add(Row("C3", channels, repeats, add=True))
    r.add(Row("SPPF", 1024))
    widths = (256, 512, *coarse)
    laterals = []
    for index in reversed(range(len(widths) - 1)):
        laterals.append(r.cell(widths[index]))
        r.add(Row("Upsample"))
        r.add(Row("Concat", source=(-1, 4 + 2 * index)))
        last = r.add(Row("C3", widths[index], 3))
    levels = [last]
    for narrow, wide in pairwise(widths):
        r.add(_strided(narrow))
        r.add(Row("Concat", source=(-1, laterals.pop())))
        levels.append(r.add(Row("C3", wide, 3)))
    return Layout(tuple(r.rows), tuple(levels))


def v3u(*, pools: bool = False) -> Layout:
    """Return YOLOv3 with YOLOv8's head; `pools`: YOLOv3-SPP."""
    r = RowWriter()
    r.cell(32, 3)
    for channels, repeats in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        r.add(_strided(channels))
        r.add(Row("Bottleneck", channels, repeats, add=True))
    r.add(Row("Bottleneck", 1024))
    r.add(Row("SPP", 512)) if pools else r.cell(512)
    r.cell(1024, 3)
    r.cell(512)
    levels = [r.cell(1024, 3)]
    for channels, feature, deep in ((256, 8, False), (128, 6, True)):
        # Each finer branch leaves before the last cell of the coarser one.
        r.cell(channels, source=-2)
        r.add(Row("Upsample"))
        r.add(Row("Concat", source=(-1, feature)))
        r.add(Row("Bottleneck", 2 * channels))
        if deep:
            levels.append(r.add(Row("Bottleneck", 2 * channels, 2)))
            continue
        r.add(Row("Bottleneck", 2 * channels))
        r.cell(channels)
        levels.append(r.cell(2 * channels, 3))
    return Layout(tuple(r.rows), tuple(reversed(levels)))


def v3u_tiny() -> Layout:
    """Return YOLOv3-tiny with YOLOv8's head: two levels."""
    r = RowWriter()
    for channels in (16, 32, 64, 128, 256):
        r.cell(channels, 3)
        r.add(Row("MaxPool2d", kernel=2, stride=2))
    r.cell(512, 3)
    r.add(Row("ZeroPad2d"))
    r.add(Row("MaxPool2d", kernel=2, stride=1))
    r.cell(1024, 3)
    r.cell(256)
    coarse = r.cell(512, 3)
    r.cell(128, source=-2)
    r.add(Row("Upsample"))
    r.add(Row("Concat", source=(-1, 8)))
    return Layout((*r.rows, Row("Conv", 256, kernel=3)), (len(r.rows), coarse))


def v10(cib: tuple[int, ...], *, large: bool) -> Layout:
    """Return YOLOv10.

    Args:
        cib: Indices of the stages that are made of compact inverted blocks; they differ from size to size.
        large: Whether those have a 7×7 cell (n and s).
    """
    r = RowWriter()
    r.cell(64, 3, 2)
    for channels, repeats, shrink in ((128, 3, "Conv"), (256, 6, "Conv"), (512, 6, "SCDown"), (1024, 3, "SCDown")):
        r.add(Row(shrink, channels, kernel=3, stride=2))
        r.add(Row("C2f", channels, repeats, add=True))
    r.add(Row("SPPF", 1024))
    r.add(Row("PSA", 1024))
    levels = r.path(
        [4, 6, 10],
        [Row("C2f", 512, 3), Row("C2f", 256, 3)],
        [Row("C2f", 512, 3), Row("C2f", 1024, 3)],
        lambda index: _strided(256) if index == 0 else Row("SCDown", 512, kernel=3, stride=2),
    )
    rows = (
        Row("C2fCIB", row.channels, row.repeats, add=True, full=large) if index in cib else row
        for index, row in enumerate(r.rows)
    )
    return Layout(tuple(rows), levels, dense_classes=False, two_heads=True)


def _c3k2_stages(r: RowWriter) -> None:
    """Stem and the stages of strides 4 and 8, which YOLO11, 12 and 26 share."""
    r.cell(64, 3, 2)
    r.add(_strided(128))
    r.add(Row("C3k2", 256, 2, share=0.25))
    r.add(_strided(256))
    r.add(Row("C3k2", 512, 2, share=0.25))
    r.add(_strided(512))


def _c3k2_network(pools: Row, *, full_path: bool, last: Row) -> RowWriter:
    r = RowWriter()
    _c3k2_stages(r)
    r.add(Row("C3k2", 512, 2, full=True))
    r.add(_strided(1024))
    r.add(Row("C3k2", 1024, 2, full=True))
    r.add(pools)
    r.add(Row("C2PSA", 1024, 2))
    stage, fine = Row("C3k2", 512, 2, full=full_path), Row("C3k2", 256, 2, full=full_path)
    r.path([4, 6, 10], [stage, fine], [stage, last], lambda index: _strided(256 << index))
    return r


def v11() -> Layout:
    """Return YOLO11."""
    r = _c3k2_network(Row("SPPF", 1024), full_path=False, last=Row("C3k2", 1024, 2, full=True))
    return Layout(tuple(r.rows), (16, 19, 22), dense_classes=False)


def v26() -> Layout:
    """Return YOLO26: YOLO11 with attention in its last stage, two heads and plain distances."""
    last = Row("C3k2", 1024, full=True, attention=True)
    r = _c3k2_network(Row("SPPF", 1024, add=True), full_path=True, last=last)
    return Layout(tuple(r.rows), (16, 19, 22), bins=1, dense_classes=False, two_heads=True)


def v12() -> Layout:
    """Return YOLO12."""
    r = RowWriter()
    _c3k2_stages(r)
    r.add(Row("A2C2f", 512, 4, areas=4))
    r.add(_strided(1024))
    r.add(Row("A2C2f", 1024, 4, areas=1))
    stage = Row("A2C2f", 512, 2)
    levels = r.path(
        [4, 6, 8],
        [stage, Row("A2C2f", 256, 2)],
        [stage, Row("C3k2", 1024, 2, full=True)],
        lambda index: _strided(256 << index),
    )
    return Layout(tuple(r.rows), levels, dense_classes=False)
