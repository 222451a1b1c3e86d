"""Which module feeds which: the dataflow of an eager module, observed by running it once.

Fusing a BatchNorm into the convolution before it is only right if that convolution's output goes nowhere else. Names
and registration order do not tell; symbolic tracing fails on many users' modules. So the module is run once on a
small input while every torch function reports the tensors that it reads (``TorchFunctionMode``) and every leaf module
the tensors that it receives and returns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgedet_models.nested_tensors import tensors_in

__all__ = ["Dataflow"]


class _FunctionRecorder(TorchFunctionMode):
    """Reports what every torch function that returns tensors reads."""

    def __init__(self, report: Callable[[Sequence[Tensor]], None]) -> None:
        super().__init__()
        self._report = report

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if list(tensors_in(result)):
            self._report(list(tensors_in([args, kwargs])))
        return result


class Dataflow:
    """The observed dataflow of one forward pass.

    A tensor's readers are leaf modules (modules without children; identities are looked through) or, for functions
    called elsewhere, None.
    """

    def __init__(self) -> None:
        """Start empty; use `record`."""
        self._known: dict[int, Tensor] = {}  # ids are only unique while the tensors live
        self._readers: dict[int, list[nn.Module | None]] = defaultdict(list)
        self._inputs: dict[nn.Module, list[int]] = defaultdict(list)
        self._producer: dict[int, nn.Module] = {}
        self._stack: list[nn.Module] = []

    @classmethod
    def record(cls, model: nn.Module, *inputs: Tensor) -> Dataflow:
        """Run `model` once, without gradients, and observe it.

        Args:
            model: Any module; it is not changed.
            inputs: Positional arguments of its forward.
        """
        flow = cls()
        leaves = [m for m in model.modules() if not any(True for _ in m.children()) and not isinstance(m, nn.Identity)]
        with ExitStack() as stack:
            for leaf in leaves:
                stack.callback(leaf.register_forward_pre_hook(flow._enter).remove)
                stack.callback(leaf.register_forward_hook(flow._leave).remove)
            stack.enter_context(torch.no_grad())
            stack.enter_context(_FunctionRecorder(flow._call))
            result = model(*inputs)
        for tensor in tensors_in(result):
            flow._readers[flow._id(tensor)].append(None)
        return flow

    def _id(self, tensor: Tensor) -> int:
        """Return a tensor's id and keep the tensor, so that no later one gets it."""
        self._known[id(tensor)] = tensor
        return id(tensor)

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._stack.append(module)
        for tensor in tensors_in(args):
            self._readers[self._id(tensor)].append(module)
            self._inputs[module].append(self._id(tensor))

    def _leave(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        self._stack.pop()
        for tensor in tensors_in(result):
            self._producer[self._id(tensor)] = module

    def _call(self, read: Sequence[Tensor]) -> None:
        if not self._stack:  # inside a leaf, its hooks have already reported
            for tensor in read:
                self._readers[self._id(tensor)].append(None)

    def calls(self, module: nn.Module) -> int:
        """Return how often a leaf module ran, counting one tensor argument per call."""
        return len(self._inputs[module])

    def feeds(self, module: nn.Module) -> nn.Module | None:
        """Return the leaf module whose output is the input of `module`, if nothing else reads that output.

        None where either module runs more than once, where the input comes from a function, or where the tensor has
        other readers (a branch, a graph output).
        """
        if self.calls(module) != 1:
            return None
        tensor = self._inputs[module][0]
        source = self._producer.get(tensor)
        if source is None or self.calls(source) != 1 or self._readers[tensor] != [module]:
            return None
        return source

    def readers(self, module: nn.Module) -> list[nn.Module | None]:
        """Return everything that reads the output of a leaf module; None stands for a function or a graph output.

        Empty where the module runs more than once or not at all.
        """
        if self.calls(module) != 1:
            return []
        outputs = [tensor for tensor, producer in self._producer.items() if producer is module]
        return [reader for tensor in outputs for reader in self._readers[tensor]]
