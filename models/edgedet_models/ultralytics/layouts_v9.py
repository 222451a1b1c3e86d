"""YOLOv9 (Wang, Yeh and Liao, 2024, arXiv:2402.13616): t, s, m, c and e, each with widths of its own."""

from __future__ import annotations

from edgedet_models.ultralytics.rows import Layout, Row, RowWriter

__all__ = ["v9_c", "v9_e", "v9_m", "v9_small"]


def _stage(channels: int, hidden: int, inner: int, repeats: int) -> Row:
    return Row("RepNCSPELAN4", channels, repeats, hidden=hidden, inner=inner)


def _even(channels: int, repeats: int) -> Row:
    """A stage whose inner channels are as many as its output's."""
    return _stage(channels, channels, channels // 2, repeats)


def _narrow(first: Row, widths: tuple[int, int, int], repeats: int, shrunk: tuple[int, int]) -> Layout:
    """Return t, s or m: stages of equal build, sizes halved by AConv."""
    r = RowWriter()
    r.cell(widths[0] // 4 if first.kind == "ELAN1" else 32, 3, 2)
    r.cell(widths[0] // 2 if first.kind == "ELAN1" else 64, 3, 2)
    r.add(first)
    for width in widths:
        r.add(Row("AConv", width))
        r.add(_even(width, repeats))
    r.add(Row("SPPELAN", widths[2], hidden=widths[2] // 2))
    middle = _even(widths[1], repeats)
    levels = r.path(
        [4, 6, 9],
        [middle, _even(widths[0], repeats)],
        [middle, _even(widths[2], repeats)],
        lambda index: Row("AConv", shrunk[index]),
    )
    return Layout(tuple(r.rows), levels)


def v9_small(width: int) -> Layout:
    """Return t (`width` 64) or s (128)."""
    first = Row("ELAN1", width // 2, hidden=width // 2, inner=width // 4)
    middle = width * 3 // 2
    return _narrow(first, (width, middle, 2 * width), 3, (middle // 2, width))


def v9_m() -> Layout:
    """Return m."""
    return _narrow(_even(128, 1), (240, 360, 480), 1, (184, 240))


def v9_c() -> Layout:
    """Return c, which is GELAN-C."""
    r = RowWriter()
    r.cell(64, 3, 2)
    r.cell(128, 3, 2)
    r.add(_stage(256, 128, 64, 1))
    for shrunk, stage in ((256, _stage(512, 256, 128, 1)), (512, _even(512, 1)), (512, _even(512, 1))):
        r.add(Row("ADown", shrunk))
        r.add(stage)
    r.add(Row("SPPELAN", 512, hidden=256))
    wide = _even(512, 1)
    levels = r.path([4, 6, 9], [wide, _even(256, 1)], [wide, wide], lambda index: Row("ADown", 256 << index))
    return Layout(tuple(r.rows), levels)


def v9_e() -> Layout:
    """Return e: two backbones; features of the first are added into the second, level by level."""
    r = RowWriter()
    stages = (_stage(256, 128, 64, 2), _stage(512, 256, 128, 2), _stage(1024, 512, 256, 2), _stage(1024, 512, 256, 2))
    shrunk = (256, 512, 1024)
    r.add(Row("Identity"))
    r.cell(64, 3, 2)
    r.cell(128, 3, 2)
    features = [1, r.add(stages[0])]
    for width, stage in zip(shrunk, stages[1:], strict=True):
        r.add(Row("ADown", width))
        features.append(r.add(stage))
    widths = (64, 128, 256, 512, 1024)
    links = [
        r.add(Row("CBLinear", source=feature, picks=widths[: index + 1])) for index, feature in enumerate(features)
    ]
    r.cell(64, 3, 2, source=0)
    _fuse(r, links, 0)
    r.cell(128, 3, 2)
    laterals = []
    for index, stage in enumerate(stages):
        if index:
            r.add(Row("ADown", shrunk[index - 1]))
        _fuse(r, links, index + 1)
        laterals.append(r.add(stage))
    top = r.add(Row("SPPELAN", 512, hidden=256))
    wide = _even(512, 2)
    levels = r.path(
        [laterals[1], laterals[2], top],
        [wide, _even(256, 2)],
        [wide, _stage(512, 1024, 512, 2)],
        lambda index: Row("ADown", 256 << index),
    )
    return Layout(tuple(r.rows), levels)


def _fuse(r: RowWriter, links: list[int], level: int) -> None:
    """Add what the links have for a level to the layer written last."""
    sources = links[level:]
    r.add(Row("CBFuse", source=(*sources, -1), picks=(level,) * len(sources)))
