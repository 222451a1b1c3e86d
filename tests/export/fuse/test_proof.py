"""The proof, the report and the replacement, which every pass leans on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgedet_export.fuse import Change, FuseReport, PassReport, fuse
from edgedet_export.fuse.dataflow import Dataflow
from edgedet_export.fuse.proof import prove_equal, relative_error
from edgedet_export.fuse.replace import replace_module
from edgedet_runtime.errors import CheckFailedError


@pytest.mark.parametrize(
    ("expected", "got", "error"),
    [([1.0, -4.0], [1.0, -4.0], 0.0), ([1.0, -4.0], [1.2, -4.0], 0.05), ([0.0, 0.0], [0.0, 0.25], 0.25)],
    ids=["equal", "relative to the largest", "absolute where all is zero"],
)
def test_relative_error(expected: list[float], got: list[float], error: float) -> None:
    assert relative_error(torch.tensor(expected), torch.tensor(got)) == pytest.approx(error)


class _Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_a_block_may_be_one_hundred_thousandth_off() -> None:
    assert prove_equal(_Scaled(1), _Scaled(1 + 9e-6), 3, what="a") == pytest.approx(9e-6, rel=1e-6)
    for factor in (1 + 1.1e-5, float("nan")):
        with pytest.raises(CheckFailedError, match="fuse a: expected a relative error of at most 1e-05"):
            prove_equal(_Scaled(1), _Scaled(factor), 3, what="a")


class _Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(2, 3)


class _Flipped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(0)


def test_axes_and_pictures_of_a_batch_may_not_be_mixed_up() -> None:
    with pytest.raises(CheckFailedError, match=r"expected an output of shape \(2, 3, 16, 20\), got \(2, 3, 20, 16\)"):
        prove_equal(nn.Identity(), _Transposed(), 3, what="a")
    with pytest.raises(CheckFailedError, match="relative error"):
        prove_equal(nn.Identity(), _Flipped(), 3, what="a")


def test_proof_leaves_the_blocks_alone() -> None:
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = {k: v.clone() for k, v in block.state_dict().items()}
    assert prove_equal(block, block, 3, what="a") == 0
    assert block.training
    assert all(torch.equal(v, before[k]) and v.dtype == before[k].dtype for k, v in block.state_dict().items())


def test_worst_error_of_a_report() -> None:
    def report(*errors: float | None) -> FuseReport:
        changed = tuple(Change("a", "b", error) for error in errors)
        return FuseReport((PassReport("first", (), ()), PassReport("second", changed, ())), 9, 8, 7, 6)

    assert report().worst_relative_error == 0.0
    assert report(None).worst_relative_error == 0.0
    assert report(1e-9, None, 3e-8, 0.0).worst_relative_error == 3e-8


def test_layers_and_parameters_are_counted() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.Identity(), nn.ReLU())
    _, report = fuse(model, torch.randn(1, 3, 8, 8))
    assert (report.modules_before, report.modules_after) == (3, 2)
    assert (report.params_before, report.params_after) == (3 * 4 + 4 + 8, 3 * 4 + 4)


def test_replacing_what_is_not_there() -> None:
    model = nn.Sequential(nn.Sequential(nn.ReLU()))
    replace_module(model, "0.0", nn.SiLU())
    assert isinstance(model.get_submodule("0.0"), nn.SiLU)
    for path in ("0.1", "1", "0.x"):
        with pytest.raises((KeyError, AttributeError)):
            replace_module(model, path, nn.SiLU())
    assert [name for name, _ in model.named_modules()] == ["", "0", "0.0"]


class _Dropped(nn.Module):
    """A convolution whose output is thrown away, and a norm on something else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        self.conv(x)
        y = x * 2
        return self.bn(y)  # type: ignore[no-any-return]


def test_a_tensor_in_the_place_of_a_dropped_one_is_another() -> None:
    model = _Dropped().eval()
    flow = Dataflow.record(model, torch.randn(1, 4, 5, 5))
    assert flow.feeds(model.bn) is None
    assert flow.readers(model.conv) == []
