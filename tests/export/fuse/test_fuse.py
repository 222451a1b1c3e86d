"""Each pass: the numbers stay, the nodes go, and what must not be fused is left and named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgedet_export.fuse import FoldAffine, FoldBatchNorm, FoldSpaceToDepth, MergeBranches, fuse, merge_block
from edgedet_export.fuse.fold_affine import probe_affine
from edgedet_export.fuse.fold_bn import batchnorm_affine
from edgedet_export.fuse.fold_space_to_depth import probe_space_to_depth
from edgedet_export.fuse.proof import prove_equal
from edgedet_runtime.errors import CheckFailedError
from tests.export.fuse.blocks import (
    ConvBN,
    Implicit,
    MobileOneBlock,
    QARepBlock,
    RepBlock,
    SpaceToDepth,
    randomise,
)

FOCUS = [(0, 0), (1, 0), (0, 1), (1, 1)]


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(m, kind) for m in model.modules())


def assert_same(before: nn.Module, after: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        expected, got = before.double()(x.double()), after.double()(x.double())
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_batchnorm_folds_into_convolution(bias: bool, groups: int, stride: int) -> None:
    model = randomise(nn.Sequential(ConvBN(8, 16, 3, stride, groups, bias), nn.SiLU()))
    x = torch.randn(1, 8, 12, 16)
    fused, report = fuse(model, x, passes=[FoldBatchNorm()])
    assert count(fused, nn.BatchNorm2d) == 0
    assert [c.path for c in report.passes[0].changed] == ["0.bn"]
    assert count(model, nn.BatchNorm2d) == 1, "the original is not touched"
    assert_same(model, fused, x)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_batchnorm_folds_into_transposed_convolution(bias: bool, groups: int) -> None:
    conv = nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1, groups=groups, bias=bias)
    model = randomise(nn.Sequential(conv, nn.BatchNorm2d(6)))
    x = torch.randn(1, 8, 6, 8)
    fused, _ = fuse(model, x, passes=[FoldBatchNorm()])
    assert count(fused, nn.BatchNorm2d) == 0
    assert_same(model, fused, x)


class _Shared(nn.Module):
    """A convolution whose output is also used before the BatchNorm, and a BatchNorm behind an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.other = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.other(self.bn(y) + y)  # type: ignore[no-any-return]


def test_batchnorm_with_another_reader_is_declined() -> None:
    model = randomise(_Shared())
    x = torch.randn(1, 4, 5, 5)
    fused, report = fuse(model, x, passes=[FoldBatchNorm()])
    assert count(fused, nn.BatchNorm2d) == 2
    assert {d.path for d in report.passes[0].declined} == {"bn", "other"}
    assert_same(model, fused, x)


class _Twice(nn.Module):
    """One convolution that runs twice, as shared heads do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(self.conv(x)) + self.b(self.conv(x * 2))  # type: ignore[no-any-return]


def test_shared_convolution_is_declined() -> None:
    model = randomise(_Twice())
    x = torch.randn(1, 4, 5, 5)
    fused, report = fuse(model, x, passes=[FoldBatchNorm()])
    assert not report.passes[0].changed
    assert_same(model, fused, x)


class _Idle(nn.Module):
    """A norm that does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


def test_batchnorm_that_does_not_run_is_declined() -> None:
    fused, report = fuse(_Idle().eval(), torch.randn(1, 4, 5, 5), passes=[FoldBatchNorm()])
    assert [(d.path, d.why) for d in report.passes[0].declined] == [("bn", "does not run in evaluation")]
    assert count(fused, nn.BatchNorm2d) == 1


@pytest.mark.parametrize("lacks", [("running_mean",), ("running_var",), ("running_mean", "running_var")])
def test_batchnorm_without_statistics_is_declined(lacks: tuple[str, ...]) -> None:
    norm = nn.BatchNorm2d(4)
    for name in lacks:
        setattr(norm, name, None)
    with pytest.raises(ValueError, match="keeps no running statistics"):
        batchnorm_affine(norm)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    _, report = fuse(model, torch.randn(1, 3, 5, 5), passes=[FoldBatchNorm()])
    assert "running statistics" in report.passes[0].declined[0].why


@pytest.mark.parametrize(
    ("block", "branches"),
    [
        (RepBlock(8, 8), 3),
        (RepBlock(8, 16), 2),
        (RepBlock(8, 8, s=2), 2),
        (RepBlock(8, 8, g=4), 3),
        (RepBlock(8, 8, g=8), 3),
        (QARepBlock(8), 4),
        (MobileOneBlock(8), 5),
    ],
)
def test_branches_merge_into_one_convolution(block: nn.Module, branches: int) -> None:
    model = randomise(nn.Sequential(nn.Conv2d(3, 8, 1), block))
    x = torch.randn(1, 3, 10, 12)
    fused, report = fuse(model, x, passes=[MergeBranches()])
    assert count(fused, nn.Conv2d) == 2
    assert count(fused, nn.BatchNorm2d) == 0
    assert report.passes[0].changed[0].what == f"{branches} branches → one Conv2d"
    assert report.worst_relative_error < 1e-6
    assert_same(model, fused, x)


class _NotASum(RepBlock):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1.01


def test_block_that_computes_something_else_is_declined() -> None:
    model = randomise(nn.Sequential(_NotASum(4, 4)))
    fused, report = fuse(model, torch.randn(1, 4, 8, 8), passes=[MergeBranches()])
    assert not report.passes[0].changed
    assert "relative error" in report.passes[0].declined[0].why
    assert count(fused, nn.BatchNorm2d) == 3


def test_merge_block_names_what_it_cannot_merge() -> None:
    block = RepBlock(4, 4)
    block.rbr_1x1 = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"a branch holds Conv2d \+ ReLU"):
        merge_block(block)


@pytest.mark.parametrize("order", [FOCUS, [(0, 0), (0, 1), (1, 0), (1, 1)]])
@pytest.mark.parametrize("k", [1, 3])
def test_space_to_depth_folds_whatever_its_order(order: list[tuple[int, int]], k: int) -> None:
    model = nn.Sequential(SpaceToDepth(order), nn.Conv2d(12, 5, k, padding=k // 2), nn.SiLU()).eval()
    x = torch.randn(1, 3, 16, 20)
    fused, report = fuse(model, x, passes=[FoldSpaceToDepth()])
    conv = next(m for m in fused.modules() if isinstance(m, nn.Conv2d))
    assert (conv.in_channels, conv.kernel_size, conv.stride) == (3, (2 * k, 2 * k), (2, 2))
    assert count(fused, SpaceToDepth) == 0
    assert report.worst_relative_error < 1e-12
    assert_same(model, fused, x)


class _TwoReaders(nn.Module):
    """Space-to-depth that two convolutions read, and a third reader if `concat`."""

    def __init__(self, concat: bool) -> None:
        super().__init__()
        self.move, self.concat = SpaceToDepth(FOCUS), concat
        self.a, self.b = nn.Conv2d(12, 4, 1), nn.Conv2d(12, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.move(x)
        return torch.cat([self.a(y), self.b(y), *([y] if self.concat else [])], dim=1)


def test_space_to_depth_folds_into_all_its_readers() -> None:
    model = _TwoReaders(concat=False).eval()
    x = torch.randn(1, 3, 16, 20)
    fused, report = fuse(model, x)
    assert [c.path for c in report.passes[-1].changed] == ["a", "b"]
    assert count(fused, SpaceToDepth) == 0
    assert_same(model, fused, x)


def test_space_to_depth_with_another_reader_is_declined() -> None:
    model = _TwoReaders(concat=True).eval()
    fused, report = fuse(model, torch.randn(1, 3, 16, 20))
    assert [d.path for d in report.passes[-1].declined] == ["move"]
    assert count(fused, SpaceToDepth) == 1


def test_pixel_unshuffle_of_torch_is_understood() -> None:
    model = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 5, 3, padding=1)).eval()
    x = torch.randn(1, 3, 8, 8)
    fused, report = fuse(model, x)
    assert len(report.passes[-1].changed) == 1
    assert_same(model, fused, x)


@pytest.mark.parametrize("module", [nn.MaxPool2d(2), nn.ReLU(), nn.Upsample(scale_factor=2), nn.AvgPool2d(2)])
def test_other_modules_are_not_taken_for_space_to_depth(module: nn.Module) -> None:
    assert probe_space_to_depth(module, 3) is None


@pytest.mark.parametrize(
    ("convolution", "why"),
    [
        ({"stride": 2, "padding": 1}, r"stride (2, 2), dilation (1, 1)"),
        ({"dilation": 2, "padding": 2}, r"stride (1, 1), dilation (2, 2)"),
        ({"groups": 3, "padding": 1}, "3 groups"),
        ({"padding": "same"}, "pads by zeros, same"),
        ({"padding": 1, "padding_mode": "reflect"}, "pads by reflect"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_convolution_behind_space_to_depth_that_is_declined(convolution: dict[str, Any], why: str) -> None:
    model = nn.Sequential(SpaceToDepth(FOCUS), nn.Conv2d(12, 6, 3, **convolution)).eval()
    fused, report = fuse(model, torch.randn(1, 3, 16, 16), passes=[FoldSpaceToDepth()])
    assert why in report.passes[0].declined[0].why
    assert count(fused, SpaceToDepth) == 1


def test_space_to_depth_by_four_and_a_rectangular_kernel() -> None:
    order = [(dy, dx) for dx in range(4) for dy in range(4)]
    conv = nn.Conv2d(32, 5, (1, 3), padding=(0, 1), bias=False)
    model = nn.Sequential(SpaceToDepth(order, 4), conv).eval()
    x = torch.randn(1, 2, 16, 24)
    fused, report = fuse(model, x, passes=[FoldSpaceToDepth()])
    assert report.passes[0].changed[0].what == "space-to-depth + Conv2d → Conv2d 4x12 stride 4"
    assert count(fused, SpaceToDepth) == 0
    assert_same(model, fused, x)


class _ImplicitHead(nn.Module):
    """Implicit addition read by two 1x1 convolutions, one followed by an implicit factor."""

    def __init__(self, kernel: int = 1) -> None:
        super().__init__()
        self.ia, self.im = Implicit(6, False), Implicit(5, True)
        self.a, self.b = nn.Conv2d(6, 5, kernel, padding=kernel // 2), nn.Conv2d(6, 3, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.ia(x)
        return self.im(self.a(y)), self.b(y)


def test_implicit_layers_fold_into_all_readers() -> None:
    model = _ImplicitHead().eval()
    x = torch.randn(1, 6, 4, 5)
    fused, report = fuse(model, x, passes=[FoldAffine()])
    assert count(fused, Implicit) == 0
    assert len(report.passes[0].changed) == 2
    for expected, got in zip(model(x), fused(x), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_offset_before_a_padded_convolution_is_declined() -> None:
    model = _ImplicitHead(kernel=3).eval()
    fused, report = fuse(model, torch.randn(1, 6, 4, 5), passes=[FoldAffine()])
    assert [c.path for c in report.passes[0].changed] == ["im"]
    assert [d.path for d in report.passes[0].declined] == ["ia"]
    assert count(fused, Implicit) == 1


class _PerPixel(nn.Module):
    """A factor of each pixel, or a cubic curve: neither is an affine map per channel."""

    def __init__(self, cubic: bool) -> None:
        super().__init__()
        self.factor, self.cubic = nn.Parameter(torch.rand(4, 3, 4) + 0.5), cubic

    def forward(self, x: Tensor) -> Tensor:
        return x**3 * self.factor.mean() if self.cubic else x * self.factor[:, : x.shape[2], : x.shape[3]]


@pytest.mark.parametrize("cubic", [False, True])
def test_what_is_not_affine_per_channel_stays(cubic: bool) -> None:
    module = _PerPixel(cubic)
    assert probe_affine(module, 4) is None
    assert module.factor.dtype == torch.float32, "the probe gives the module back as it was"
    fused, report = fuse(nn.Sequential(nn.Conv2d(3, 4, 1), module).eval(), torch.randn(1, 3, 3, 4))
    assert count(fused, _PerPixel) == 1
    assert not report.passes[2].changed


def test_factor_and_offset_are_found_exactly() -> None:
    norm = randomise(nn.BatchNorm2d(5))
    assert isinstance(norm, nn.BatchNorm2d)
    found = probe_affine(norm, 5)
    assert found is not None
    for got, expected in zip(found, batchnorm_affine(norm), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_affine_layer_before_a_grouped_or_strided_convolution() -> None:
    """A group would need its own sum; a stride changes nothing for a 1x1 convolution."""
    grouped = nn.Sequential(Implicit(6, True), nn.Conv2d(6, 6, 1, groups=2)).eval()
    _, report = fuse(grouped, torch.randn(1, 6, 4, 5), passes=[FoldAffine()])
    assert [d.path for d in report.passes[0].declined] == ["0"]
    strided = nn.Sequential(Implicit(6, False), nn.Conv2d(6, 3, 1, stride=2, padding="valid")).eval()
    x = torch.randn(1, 6, 6, 8)
    fused, report = fuse(strided, x, passes=[FoldAffine()])
    assert count(fused, Implicit) == 0
    assert_same(strided, fused, x)


def test_affine_layer_that_runs_twice_stays() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.a, self.b = Implicit(3, True), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.scale(self.a(x)) + self.scale(self.b(x))  # type: ignore[no-any-return]

    model = Twice().eval()
    fused, report = fuse(model, torch.randn(1, 3, 4, 4), passes=[FoldAffine()])
    assert not report.passes[0].changed
    assert count(fused, Implicit) == 1


def test_prelu_is_not_affine() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(4)).eval()
    fused, report = fuse(model, torch.randn(1, 3, 4, 4), passes=[FoldAffine()])
    assert count(fused, nn.PReLU) == 1
    assert not report.passes[0].changed


def test_proof_refuses_a_wrong_block() -> None:
    with pytest.raises(CheckFailedError, match="relative error"):
        prove_equal(nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), 3, what="block")


def test_all_passes_together_leave_plain_convolutions() -> None:
    model = randomise(
        nn.Sequential(
            SpaceToDepth(FOCUS), ConvBN(12, 8, 3), nn.ReLU(inplace=True), RepBlock(8, 8), QARepBlock(8),
            nn.ConvTranspose2d(8, 6, 2, 2), nn.BatchNorm2d(6), Implicit(6, False), nn.Conv2d(6, 5, 1),
            Implicit(5, True),
        )
    )  # fmt: skip
    x = torch.randn(1, 3, 16, 20)
    fused, report = fuse(model, x)
    leaves = {type(m) for m in fused.modules() if not list(m.children()) and not isinstance(m, nn.Identity)}
    assert leaves == {nn.Conv2d, nn.ConvTranspose2d, nn.ReLU, nn.SiLU}
    assert report.modules_after < report.modules_before
    assert report.params_after < report.params_before
    assert_same(model, fused, x)
