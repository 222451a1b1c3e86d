"""Factors and offsets: what is one, exactly, and where it may go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgedet_export.fuse import FoldAffine, PassReport, fuse
from edgedet_export.fuse.fold_affine import probe_affine
from tests.export.fuse.blocks import Implicit


class _Map(nn.Module):
    """Any function of x and a parameter; double where the probe makes the module double."""

    def __init__(self, function: Callable[[Tensor, Tensor], Any], channels: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(2.0, 2 + channels).reshape(1, channels, 1, 1))
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x, self.weight)


def _off_by(error: float) -> _Map:
    """A factor, and an error relative to the largest value that only shows where x is not constant."""
    return _Map(lambda x, w: x * w + (error * (x * w).abs().max() if x.std() > 0 else 0))


def test_factors_and_offsets_of_each_channel() -> None:
    found = probe_affine(_Map(lambda x, w: x * w - 3 * w), 3)
    assert found is not None
    assert found[0].tolist() == [2, 3, 4]
    assert found[1].tolist() == [-6, -9, -12]
    assert found[0].dtype == found[1].dtype == torch.float64


def test_rounding_is_no_difference_and_more_is() -> None:
    assert probe_affine(_off_by(0.7e-12), 3) is not None
    assert probe_affine(_off_by(1.5e-12), 3) is None


OTHER: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda x, w: (x * w, x),
    "fewer pictures": lambda x, w: (x * w)[:1],
    "other rank": lambda x, w: (x * w).mean(1),
    "transposed": lambda x, w: (x * w).transpose(2, 3),
    "per column": lambda x, w: x * w + torch.arange(4.0),
    "per row": lambda x, w: x * w * torch.arange(1.0, 4.0).reshape(3, 1),
    "per picture": lambda x, w: x * w + torch.arange(2.0).reshape(2, 1, 1, 1),
    "relu": lambda x, w: torch.relu(x * w),
    "rounded": lambda x, w: torch.round(x * w),
    "mean": lambda x, w: (x * w).mean(1, keepdim=True).expand_as(x),
    "nan": lambda x, w: x * w * float("nan"),
}


@pytest.mark.parametrize("case", OTHER)
def test_what_is_no_factor_and_offset(case: str) -> None:
    module = _Map(OTHER[case])
    assert probe_affine(module, 3) is None
    assert module.weight.dtype == torch.float32, "the probe gives the module back as it was"


def test_a_module_that_cannot_take_the_probe() -> None:
    module = _Map(lambda x, w: x @ w.reshape(1, 3).expand(7, 3))
    assert probe_affine(module, 3) is None
    assert module.weight.dtype == torch.float32


def _run(model: nn.Module, channels: int = 3) -> tuple[nn.Module, PassReport]:
    torch.manual_seed(3)
    x = torch.randn(1, channels, 4, 5)
    model.eval()
    fused, report = fuse(model, x, passes=[FoldAffine()])
    with torch.no_grad():
        before, after = model.double()(x.double()), fused.double()(x.double())
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)
    return fused, report.passes[0]


def test_a_factor_and_an_offset_go_into_the_convolution_behind() -> None:
    fused, report = _run(nn.Sequential(_Map(lambda x, w: x * w + w), nn.Conv2d(3, 5, 1, bias=False)))
    assert [type(m) for m in fused.children()] == [nn.Identity, nn.Conv2d]
    assert [(c.path, c.what) for c in report.changed] == [("0", "_Map + Conv2d → Conv2d")]
    assert report.declined == ()


class _Pair(nn.Module):
    """A factor that two convolutions read; the weights of one are powers of two, so that its proof is exact."""

    def __init__(self, exact_first: bool) -> None:
        super().__init__()
        self.scale, self.a, self.b = Implicit(3, True), nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        nn.init.constant_(self.scale.implicit, 4.0)
        exact = self.a if exact_first else self.b
        nn.init.constant_(exact.weight, 0.5)
        nn.init.zeros_(exact.bias)  # type: ignore[arg-type]
        nn.init.constant_((self.b if exact_first else self.a).weight, 1 / 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.scale(x)
        return self.a(y), self.b(y)


@pytest.mark.parametrize("exact_first", [False, True])
def test_the_error_of_a_change_is_its_worst(exact_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [0.0, 3e-8] if exact_first else [3e-8, 0.0]
    monkeypatch.setattr("edgedet_export.fuse.fold_affine.prove_equal", lambda *_, **__: errors.pop(0))
    fused, report = fuse(_Pair(exact_first).eval(), torch.randn(1, 3, 4, 5), passes=[FoldAffine()])
    assert [c.relative_error for c in report.passes[0].changed] == [3e-8]
    assert isinstance(fused.scale, nn.Identity)


def test_no_error_is_none() -> None:
    model = nn.Sequential(Implicit(3, True), nn.Conv2d(3, 4, 1))
    nn.init.constant_(model[0].implicit, 2.0)  # type: ignore[arg-type]
    _, report = _run(model)
    assert [c.relative_error for c in report.changed] == [0.0]


@pytest.mark.parametrize(
    "model",
    [
        lambda: nn.Sequential(nn.ReLU(), Implicit(3, True), nn.ReLU()),
        lambda: nn.Sequential(nn.ReLU(), Implicit(3, False), nn.ConvTranspose2d(3, 4, 1)),
        lambda: nn.Sequential(nn.ReLU(), Implicit(3, False), nn.Conv2d(3, 4, 1, padding=1)),
        lambda: nn.Sequential(nn.ReLU(), Implicit(3, False), nn.Conv2d(3, 4, (1, 3))),
        lambda: nn.Sequential(nn.ReLU(), Implicit(3, False), nn.Conv2d(3, 3, 1, groups=3)),
        lambda: nn.Sequential(nn.ReLU(), Implicit(3, False)),
    ],
    ids=["activations", "transposed", "padded", "wide", "grouped", "last"],
)
def test_a_place_between_other_things_is_declined(model: Callable[[], nn.Module]) -> None:
    fused, report = _run(model())
    assert report.changed == ()
    assert [d.path for d in report.declined] == ["1"]
    assert isinstance(fused.get_submodule("1"), Implicit)


class _Unread(nn.Module):
    """A layer whose output nobody reads, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.unread, self.idle, self.conv = Implicit(3, True), Implicit(3, True), nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.unread(x)
        return self.conv(x)  # type: ignore[no-any-return]


def test_what_nobody_reads_is_declined_and_what_does_not_run_is_passed_over() -> None:
    fused, report = _run(_Unread())
    assert [d.path for d in report.declined] == ["unread"]
    assert isinstance(fused.unread, Implicit)
    assert isinstance(fused.idle, Implicit)


def test_only_leaves_with_numbers_of_their_own_are_looked_at() -> None:
    """Convolutions and norms have passes of their own; a container's numbers are its children's."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, groups=4), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 4, 1)),
        nn.ConvTranspose2d(4, 4, 1, groups=4), nn.BatchNorm2d(4), nn.ReLU(),
    )  # fmt: skip
    _, report = _run(model)
    assert (report.changed, report.declined) == ((), ())
