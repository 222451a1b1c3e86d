"""Run a model that exists in memory only on either engine, set up as the runtime's engines set it up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgedet_export.quantize.config import QuantEngine
from edgedet_runtime.engines.onnxruntime_engine import session_options
from edgedet_runtime.engines.openvino_engine import cpu_settings
from edgedet_runtime.errors import EngineError

__all__ = ["Latencies", "Runner", "make_runner", "measure_latencies"]

_BLOCK = 3

Tensor = npt.NDArray[Any]
Runner = Callable[[Tensor], dict[str, npt.NDArray[np.float32]]]


def make_runner(model: onnx.ModelProto, engine: QuantEngine, *, threads: int, optimise: bool = True) -> Runner:
    """Load a model and return a function from its input tensor to its outputs by name.

    Args:
        model: One input.
        engine: Where to run it.
        threads: Threads within an operator.
        optimise: False: onnxruntime runs the nodes as they are, which shows every tensor as in the file.

    Raises:
        EngineError: The engine refuses the model.
    """
    return _openvino(model, threads) if engine == "openvino" else _onnxruntime(model, threads, optimise)


def _onnxruntime(model: onnx.ModelProto, threads: int, optimise: bool) -> Runner:
    import onnxruntime as ort

    options = session_options(threads)
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime raises its own classes without a common root
        raise EngineError(f"onnxruntime refuses the quantised model: {str(e).splitlines()[0]}") from None
    name = session.get_inputs()[0].name
    outputs = [o.name for o in session.get_outputs()]

    def run(tensor: Tensor) -> dict[str, npt.NDArray[np.float32]]:
        return dict(zip(outputs, session.run(outputs, {name: tensor}), strict=True))

    return run


def _openvino(model: onnx.ModelProto, threads: int) -> Runner:
    import openvino as ov

    try:
        core = ov.Core()
        compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", cpu_settings(threads))
        request = compiled.create_infer_request()
    except RuntimeError as e:
        raise EngineError(f"OpenVINO refuses the quantised model: {str(e).strip().splitlines()[-1]}") from None
    outputs = [o.name for o in model.graph.output]

    def run(tensor: Tensor) -> dict[str, npt.NDArray[np.float32]]:
        request.infer([tensor])
        return {name: np.array(request.get_tensor(name).data) for name in outputs}

    return run


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies measured side by side.

    Attributes:
        ms: Runner → median latency in milliseconds.
        speedup: Runner → how many times faster than the first one: the median over rounds of the ratio within a
            round, so that a disturbance that lasts for a round does not count.
        rounds: Runner → median latency of each round, in milliseconds.
    """

    ms: Mapping[str, float]
    speedup: Mapping[str, float]
    rounds: Mapping[str, tuple[float, ...]]

    def clearly_faster(self, one: str, other: str, *, by: float) -> bool:
        """Return whether a runner is faster by a share of the other's time, and faster at all in most rounds.

        Args:
            one: A runner.
            other: Another.
            by: 0.05: by 5 % in the median round.
        """
        ratios = sorted(b / a for a, b in zip(self.rounds[one], self.rounds[other], strict=True))
        return median(ratios) > 1 + by and ratios[len(ratios) // 4] > 1


def measure_latencies(runners: Mapping[str, Runner], tensors: Sequence[Tensor], runs: int) -> Latencies:
    """Time runners that take turns in blocks; the first run of a block warms caches and threads and is not counted.

    Args:
        runners: Name → runner; the first is the reference.
        tensors: Inputs, used in turn.
        runs: Counted runs of each.
    """
    rounds: dict[str, list[float]] = {name: [] for name in runners}
    every: dict[str, list[float]] = {name: [] for name in runners}
    for run in runners.values():
        run(tensors[0])
    for turn in range(-(-runs // _BLOCK)):
        tensor = tensors[turn % len(tensors)]
        for name, run in runners.items():
            run(tensor)
            times = []
            for _ in range(_BLOCK):
                start = time.perf_counter()
                run(tensor)
                times.append((time.perf_counter() - start) * 1e3)
            rounds[name].append(median(times))
            every[name] += times
    first = next(iter(rounds.values()))
    return Latencies(
        ms={name: median(times) for name, times in every.items()},
        speedup={name: median(a / b for a, b in zip(first, times, strict=True)) for name, times in rounds.items()},
        rounds={name: tuple(times) for name, times in rounds.items()},
    )
