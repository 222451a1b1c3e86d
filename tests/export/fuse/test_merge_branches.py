"""Branches: every form that is a convolution becomes part of one, every other one is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgedet_export.fuse import MergeBranches, fuse, merge_block
from tests.export.fuse.blocks import ConvBN, RepBlock, randomise


class Sum(nn.Module):
    """The sum of branches named ``rbr_*``, and an activation."""

    def __init__(self, *branches: nn.Module, act: nn.Module | None = None, bn: nn.Module | None = None) -> None:
        super().__init__()
        for i, branch in enumerate(branches):
            self.add_module(f"rbr_{i}", branch)
        if act is not None:
            self.act = act
        if bn is not None:
            self.bn = bn

    def forward(self, x: Tensor) -> Any:
        total = sum(m(x) for name, m in self.named_children() if name.startswith("rbr_"))
        total = self.bn(total) if hasattr(self, "bn") else total
        return self.act(total) if hasattr(self, "act") else total


def conv(kernel: Any = 3, padding: Any = 1, c1: int = 4, c2: int = 4, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(c1, c2, kernel, padding=padding, **more)


MERGEABLE: dict[str, Callable[[], Sum]] = {
    "kernels of all shapes": lambda: Sum(conv(), conv((1, 3), (0, 1)), conv((3, 1), (1, 0)), conv(1, 0)),
    "a rectangle is the largest": lambda: Sum(conv((3, 5), (1, 2)), conv((1, 3), (0, 1)), conv(1, 0)),
    "pooling of a rectangle": lambda: Sum(conv(), nn.AvgPool2d((3, 1), 1, (1, 0))),
    "pooling of a row without padding": lambda: Sum(conv(3, (1, 0)), nn.AvgPool2d((1, 3), 1, 0)),
    "stride": lambda: Sum(conv(stride=2), conv(1, 0, stride=2), nn.AvgPool2d(3, 2, 1)),
    "dilation": lambda: Sum(conv(3, 2, dilation=2), conv(3, 2, dilation=2)),
    "groups": lambda: Sum(conv(groups=2), conv(1, 0, groups=2), nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(4)),
    "norm without gain": lambda: Sum(nn.Sequential(conv(), nn.BatchNorm2d(4, affine=False)), conv(1, 0)),
    "norm after the sum": lambda: Sum(conv(), nn.Identity(), bn=nn.BatchNorm2d(4)),
    "5x5 beside 3x3 and 1x1": lambda: Sum(conv(5, 2), conv(), conv(1, 0), nn.Identity()),
}


@pytest.mark.parametrize("case", MERGEABLE)
def test_one_convolution_computes_the_sum(case: str) -> None:
    torch.manual_seed(1)
    block = randomise(MERGEABLE[case]())
    merged = merge_block(block)
    assert isinstance(merged, nn.Conv2d), "without an activation the convolution stands alone"
    x = torch.randn(2, 4, 9, 12, dtype=torch.float64)
    with torch.no_grad():
        expected, got = block.double()(x), merged.double()(x)
    torch.testing.assert_close(got, expected, rtol=0, atol=3e-7 * float(expected.abs().max()))


def test_activation_stays_and_an_identity_goes() -> None:
    kept = merge_block(Sum(conv(), act=nn.SiLU()))
    assert [type(m) for m in kept.children()] == [nn.Conv2d, nn.SiLU]
    assert isinstance(merge_block(Sum(conv(), act=nn.Identity())), nn.Conv2d)


@pytest.mark.parametrize("training", [False, True])
def test_mode_and_type_are_the_blocks(training: bool) -> None:
    merged = merge_block(RepBlock(4, 4).double().train(training))
    assert merged.training is training
    assert {m.training for m in merged.modules() if isinstance(m, nn.Conv2d)} == {training}
    assert {p.dtype for p in merged.parameters()} == {torch.float64}


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no convolution": (lambda: Sum(nn.Identity(), nn.BatchNorm2d(4)), "no branch holds a convolution"),
    "padding in words": (lambda: Sum(conv(3, "same")), "pads by same"),
    "padding of a smaller one in words": (lambda: Sum(conv(), conv(1, "valid")), "pads by zeros, valid"),
    "reflection": (lambda: Sum(conv(padding_mode="reflect")), "pads by reflect"),
    "strides": (lambda: Sum(conv(stride=2), conv(1, 0)), "differ in stride"),
    "groups": (lambda: Sum(conv(), conv(1, 0, groups=2)), "differ in stride, groups"),
    "dilations": (lambda: Sum(conv(3, 2, dilation=2), conv(1, 0)), "differ in stride, groups or dilation"),
    "identity beside a stride": (lambda: Sum(conv(stride=2), nn.Identity()), "changes the shape"),
    "identity beside other channels": (lambda: Sum(conv(c2=6), nn.Identity()), "changes the shape"),
    "rows moved": (lambda: Sum(conv(), conv(3, (0, 1))), "do not align"),
    "rows of a rectangle moved": (lambda: Sum(conv((3, 5), (1, 2)), conv((3, 1), 0)), "do not align"),
    "columns moved": (lambda: Sum(conv(), conv(3, (1, 0))), "do not align"),
    "rows padded more": (lambda: Sum(conv(3, 0), conv(1, (1, 0))), "do not align"),
    "columns padded more": (lambda: Sum(conv(3, 0), conv(1, (0, 1))), "do not align"),
    "pooling with another stride": (lambda: Sum(conv(), nn.AvgPool2d(3, 2, 1)), "another stride or divisor"),
    "pooling that counts pixels": (
        lambda: Sum(conv(), nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
        "another stride or divisor",
    ),
    "pooling with a divisor": (
        lambda: Sum(conv(), nn.AvgPool2d(3, 1, 1, divisor_override=5)),
        "another stride or divisor",
    ),
    "maximum": (lambda: Sum(conv(), nn.MaxPool2d(3, 1, 1)), "a branch holds MaxPool2d"),
    "two layers": (lambda: Sum(conv(), nn.Sequential(conv(1, 0), nn.ReLU())), r"a branch holds Conv2d \+ ReLU"),
    "norm of the batch": (
        lambda: Sum(nn.Sequential(conv(), nn.BatchNorm2d(4, track_running_stats=False))),
        "BatchNorm keeps no running statistics",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusal_says_why(case: str) -> None:
    build, why = REFUSED[case]
    with pytest.raises(ValueError, match=why):
        merge_block(build())


def test_pooling_over_pixels_alone_is_fine_where_nothing_is_padded() -> None:
    merge_block(Sum(conv(3, 0), nn.AvgPool2d(3, 1, 0, count_include_pad=False)))


def test_what_is_refused_stays_and_the_rest_is_merged() -> None:
    model = nn.Sequential(Sum(conv(), nn.MaxPool2d(3, 1, 1)), Sum(conv(), conv(1, 0)), ConvBN(4, 4, 3)).eval()
    fused, report = fuse(model, torch.randn(1, 4, 8, 8), passes=[MergeBranches()])
    assert [(d.path, d.why) for d in report.passes[0].declined] == [("0", "a branch holds MaxPool2d")]
    assert [(c.path, c.what) for c in report.passes[0].changed] == [("1", "2 branches → one Conv2d")]
    assert isinstance(fused[0], Sum)
    assert isinstance(fused[1], nn.Conv2d)


class _Merged(nn.Module):
    """A block that was merged when it was saved: one convolution under the name that RepVGG gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.rbr_reparam, self.nonlinearity = conv(), nn.ReLU()

    def forward(self, x: Tensor) -> Any:
        return self.nonlinearity(self.rbr_reparam(x))


def test_a_merged_block_stays_as_it_is() -> None:
    fused, report = fuse(nn.Sequential(_Merged()).eval(), torch.randn(1, 4, 8, 8), passes=[MergeBranches()])
    assert (report.passes[0].changed, report.passes[0].declined) == ((), ())
    assert isinstance(fused[0], _Merged)


def test_a_network_that_is_itself_a_block_stays() -> None:
    """There is nothing above it to put the convolution into."""
    fused, report = fuse(RepBlock(4, 4).eval(), torch.randn(1, 4, 8, 8), passes=[MergeBranches()])
    assert (report.passes[0].changed, report.passes[0].declined) == ((), ())
    assert isinstance(fused, RepBlock)
