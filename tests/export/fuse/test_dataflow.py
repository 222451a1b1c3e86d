"""The dataflow that a pass sees: who makes a tensor and everyone who reads it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgedet_export.fuse import FoldBatchNorm, fuse
from edgedet_export.fuse.dataflow import Dataflow
from tests.export.fuse.blocks import randomise


class _Net(nn.Module):
    """A convolution and a norm behind it; `use` says what is done with both outputs."""

    def __init__(self, use: Any) -> None:
        super().__init__()
        self.conv, self.bn, self.use = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), use

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return self.use(y, self.bn(y))


def _record(use: Any) -> tuple[_Net, Dataflow]:
    net = _Net(use)
    net.eval()
    return net, Dataflow.record(net, torch.randn(1, 4, 5, 5))


def test_a_module_that_alone_reads_another() -> None:
    net, flow = _record(lambda y, z: z)
    assert flow.feeds(net.bn) is net.conv
    assert flow.readers(net.conv) == [net.bn]
    assert flow.readers(net.bn) == [None], "the graph's output"
    assert flow.feeds(net.conv) is None, "it reads the graph's input"
    assert (flow.calls(net.conv), flow.calls(nn.ReLU())) == (1, 0)


def test_an_output_of_the_network_is_read_elsewhere() -> None:
    for use in (lambda y, z: (y, z), lambda y, z: {"a": [y], "b": z}):
        net, flow = _record(use)
        assert flow.readers(net.conv) == [net.bn, None]
        assert flow.feeds(net.bn) is None


def test_a_function_reads_by_position_and_by_name() -> None:
    for use in (lambda y, z: torch.add(z, y), lambda y, z: torch.add(z, other=y), lambda y, z: torch.cat([z, y])):
        net, flow = _record(use)
        assert flow.readers(net.conv) == [net.bn, None]
        assert flow.feeds(net.bn) is None


def test_what_gives_no_tensor_reads_nothing() -> None:
    net, flow = _record(lambda y, z: z if y.size(1) == 4 and y.dim() == 4 else y)
    assert flow.feeds(net.bn) is net.conv


class _Inside(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) + x


def test_functions_inside_a_leaf_are_the_leafs_own() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), _Inside(), nn.Conv2d(4, 4, 1))
    flow = Dataflow.record(model, torch.randn(1, 4, 5, 5))
    assert flow.readers(model[0]) == [model[1]]
    assert flow.feeds(model[2]) is model[1]


def test_identities_are_looked_through() -> None:
    model = randomise(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Identity(), nn.BatchNorm2d(4)))
    flow = Dataflow.record(model, torch.randn(1, 4, 5, 5))
    conv, _, bn = model.children()
    assert flow.feeds(bn) is conv
    assert flow.readers(conv) == [bn]
    _, report = fuse(model, torch.randn(1, 4, 5, 5), passes=[FoldBatchNorm()])
    assert [c.path for c in report.passes[0].changed] == ["2"]


def test_a_module_that_runs_twice_has_no_one_reader() -> None:
    relu = nn.ReLU(inplace=True)  # twice on one tensor
    model = nn.Sequential(nn.Conv2d(4, 4, 1), relu, relu, nn.Conv2d(4, 4, 1))
    flow = Dataflow.record(model, torch.randn(1, 4, 5, 5))
    assert flow.calls(relu) == 2
    assert flow.readers(relu) == []
    assert flow.feeds(relu) is None
    assert flow.readers(model[0]) == [], "what it made is another's now"
    assert flow.feeds(model[3]) is None


class _Halves(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.chunk(2, dim=1)


def test_all_readers_of_a_module_with_two_outputs() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.halves, self.a, self.b = _Halves(), nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.halves(x)
            return self.a(left) * self.b(right)  # type: ignore[no-any-return]

    net = Net()
    flow = Dataflow.record(net, torch.randn(1, 4, 5, 5))
    assert flow.readers(net.halves) == [net.a, net.b]


def test_observing_leaves_no_trace() -> None:
    net, flow = _record(lambda y, z: z)
    net(torch.randn(1, 4, 5, 5))
    assert flow.calls(net.conv) == 1
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
