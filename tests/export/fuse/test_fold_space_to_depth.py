"""Space-to-depth: what moves blocks of pixels, in which order, and what only resembles it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgedet_export.fuse import FoldSpaceToDepth, fuse
from edgedet_export.fuse.fold_space_to_depth import probe_space_to_depth, strided_equivalent
from tests.export.fuse.blocks import SpaceToDepth

ORDER = [(0, 1), (1, 0), (0, 0), (1, 1)]


def test_block_and_order_are_read_off_the_module() -> None:
    found = probe_space_to_depth(SpaceToDepth(ORDER), 2)
    assert found is not None
    assert found[0] == 2
    assert found[1].tolist() == [[c, dy, dx] for dy, dx in ORDER for c in (0, 1)]
    by_four = [(dy, dx) for dx in range(4) for dy in range(4)]
    found = probe_space_to_depth(SpaceToDepth(by_four, 4), 1)
    assert found is not None
    assert found[0] == 4
    assert found[1].tolist() == [[0, dy, dx] for dy, dx in by_four]


class _Moves(nn.Module):
    def __init__(self, move: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.move = move

    def forward(self, x: Tensor) -> Any:
        return self.move(x)


def _cells(x: Tensor) -> Tensor:
    return SpaceToDepth(ORDER)(x)  # type: ignore[no-any-return]


OTHER: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda x: (_cells(x),),
    "a place twice": SpaceToDepth([(0, 0), (0, 1), (1, 0), (0, 0)]),
    "rows of the next cell": lambda x: torch.cat([_cells(x)[:, :3], _cells(x.roll(-2, 2))[:, 3:]], 1),
    "columns of the next cell": lambda x: torch.cat([_cells(x)[:, :3], _cells(x.roll(-2, 3))[:, 3:]], 1),
    "one pixel differs": lambda x: _cells(x) + (torch.arange(16.0) == 15).reshape(4, 4),
    "a factor": lambda x: _cells(x) * 2,
    "transposed": lambda x: _cells(x).transpose(2, 3),
    "blocks of eight": lambda x: torch.nn.functional.pixel_unshuffle(x, 8),
    "an error": lambda x: x.reshape(7),
}


@pytest.mark.parametrize("case", OTHER)
def test_what_only_resembles_it(case: str) -> None:
    assert probe_space_to_depth(_Moves(OTHER[case]), 1) is None


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_strided_convolution_has_the_same_weights_elsewhere(bias: bool, training: bool) -> None:
    conv = nn.Conv2d(8, 5, (1, 3), padding=(0, 1), bias=bias).double().train(training)
    source = torch.tensor([[c, dy, dx] for dy, dx in ORDER for c in (0, 1)])
    new = strided_equivalent(conv, 2, source)
    assert (new.in_channels, new.out_channels, new.kernel_size) == (2, 5, (2, 6))
    assert (new.stride, new.padding, new.training) == ((2, 2), (0, 2), training)
    assert new.weight.dtype == torch.float64
    for channel, (c, dy, dx) in enumerate(source.tolist()):
        for u in range(3):
            assert torch.equal(new.weight[:, c, dy, 2 * u + dx], conv.weight[:, channel, 0, u])
    assert (new.bias is None) is not bias
    assert not bias or torch.equal(new.bias, conv.bias)  # type: ignore[arg-type]


def test_other_channels_than_blocks_make_are_no_blocks() -> None:
    """Six channels cannot be the cells of 2x2 pixels, nor can a module without a convolution behind it."""
    model = nn.Sequential(_Moves(lambda x: x[:, :, ::2, ::2]), nn.Conv2d(6, 4, 1), SpaceToDepth(ORDER)).eval()
    _, report = fuse(model, torch.randn(1, 6, 16, 16), passes=[FoldSpaceToDepth()])
    assert (report.passes[0].changed, report.passes[0].declined) == ((), ())


@pytest.mark.parametrize("block", [2, 4])
def test_a_block_is_probed_with_its_own_channels(block: int) -> None:
    """Sixteen channels are 2x2 cells of four or 4x4 cells of one; the class tells neither."""
    mover = nn.PixelUnshuffle(block)
    model = nn.Sequential(mover, nn.Conv2d(16, 4, 1)).eval()
    x = torch.randn(1, 16 // block**2, 16, 16)
    fused, report = fuse(model, x, passes=[FoldSpaceToDepth()])
    what = f"space-to-depth + Conv2d → Conv2d {block}x{block} stride {block}"
    assert [(c.path, c.what) for c in report.passes[0].changed] == [("1", what)]
    torch.testing.assert_close(fused(x), model(x))


def test_a_declined_one_says_its_place_and_the_rest_goes_on() -> None:
    model = nn.Sequential(
        SpaceToDepth(ORDER), nn.Conv2d(12, 2, 1, stride=2), SpaceToDepth(ORDER), nn.Conv2d(8, 4, 1), nn.ReLU()
    ).eval()
    fused, report = fuse(model, torch.randn(1, 3, 16, 16), passes=[FoldSpaceToDepth()])
    assert [d.path for d in report.passes[0].declined] == ["0"]
    assert [c.path for c in report.passes[0].changed] == ["3"]
    assert [type(m) for m in fused.children()] == [SpaceToDepth, nn.Conv2d, nn.Identity, nn.Conv2d, nn.ReLU]
