"""How often a profiled model runs, which runs count, and what is said where it cannot: with engines made up here."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgedet_runtime.errors import EngineError
from edgedet_runtime.profiling import layers_onnxruntime, layers_openvino
from edgedet_runtime.profiling.layers import Layer, profile_layers
from tests.runtime.tiny_models import tiny_onnx

TENSOR = np.zeros((1, 2), np.float32)
NOTHING: tuple[Layer, ...] = ()


class Session:
    """Stands for onnxruntime: run number k takes k milliseconds."""

    def __init__(self, model: Path, options: Any) -> None:
        assert options.enable_profiling
        assert options.intra_op_num_threads == 3
        self.runs = 0
        self._trace = Path(options.profile_file_prefix).with_suffix(".json")
        shutil.copy(model, options.optimized_model_filepath)

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="image"), SimpleNamespace(name="other")]

    def run(self, outputs: None, feed: dict[str, Any]) -> None:
        assert feed["image"] is TENSOR
        self.runs += 1

    def end_profiling(self) -> str:
        shapes = {"op_name": "Relu", "input_type_shape": [], "output_type_shape": []}
        events = [
            {"cat": "Node", "name": "n_kernel_time", "dur": 1000 * (k + 1), "args": shapes} for k in range(self.runs)
        ]
        self._trace.write_text(json.dumps(events))
        return str(self._trace)


@pytest.mark.parametrize(("runs", "all_runs", "median_ms"), [(8, 10, 6.5), (1, 1, 1.0), (20, 25, 15.5)])
def test_a_quarter_more_runs_come_before_those_that_count(
    runs: int, all_runs: int, median_ms: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Session] = []

    def open_session(file: Path, options: Any) -> Session:
        opened.append(Session(file, options))
        return opened[0]

    monkeypatch.setattr(layers_onnxruntime, "open_session", open_session)
    model = tiny_onnx(tmp_path / "m.onnx")
    (layer,) = layers_onnxruntime.profile_layers(model, TENSOR, threads=3, runs=runs)
    assert (opened[0].runs, layer.time_ms) == (all_runs, median_ms)


def test_a_model_that_onnxruntime_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Session):
        def run(self, outputs: None, feed: dict[str, Any]) -> None:
            raise RuntimeError("out of order\nin many lines")

    monkeypatch.setattr(layers_onnxruntime, "open_session", Broken)
    with pytest.raises(EngineError, match=r"m\.onnx: onnxruntime cannot profile it: out of order$"):
        layers_onnxruntime.profile_layers(tiny_onnx(tmp_path / "m.onnx"), TENSOR, threads=3, runs=4)


def port(shape: list[int], size: int) -> Any:
    return SimpleNamespace(get_shape=lambda: shape, get_element_type=lambda: SimpleNamespace(size=size))


def node(name: str, kind: str, inputs: list[Any], outputs: list[Any], primitive: str = "jit_avx2_f32") -> Any:
    facts = {"layerType": kind, "primitiveType": primitive, "runtimePrecision": "i8"}
    info = {key: SimpleNamespace(value=value) for key, value in facts.items()}
    return SimpleNamespace(
        get_rt_info=lambda: info, get_friendly_name=lambda: name, inputs=lambda: inputs, outputs=lambda: outputs
    )


NODES = [
    node("x", "Input", [], [port([1, 3, 8, 8], 4)]),
    node("w", "Const", [], [port([16, 3, 3, 3], 4)]),
    node("c", "Convolution", [port([1, 3, 8, 8], 4), port([16, 3, 3, 3], 1)], [port([1, 16, 8, 8], 2), port([7], 8)]),
    node("untimed", "Reorder", [port([5], 4)], [port([5], 1)], "undef"),
    node("y", "Output", [port([1, 16, 8, 8], 4)], []),
]


class Compiled:
    """Stands for OpenVINO: run number k takes k milliseconds."""

    def __init__(self) -> None:
        self.runs = 0

    def create_infer_request(self) -> Any:
        return self

    def infer(self, inputs: list[Any]) -> None:
        assert inputs[0] is TENSOR
        self.runs += 1

    @property
    def profiling_info(self) -> list[Any]:
        return [SimpleNamespace(node_name="c", real_time=timedelta(milliseconds=self.runs))]

    def get_runtime_model(self) -> Any:
        return SimpleNamespace(get_ordered_ops=lambda: NODES)


@pytest.mark.parametrize(("runs", "all_runs", "median_ms"), [(8, 10, 6.5), (1, 1, 1.0), (20, 25, 15.5)])
def test_openvino_counts_the_last_runs_and_what_is_executed(
    runs: int, all_runs: int, median_ms: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, asked = Compiled(), list[Any]()

    def compile_on_cpu(*of: Any, **how: Any) -> Compiled:
        asked.append((of, how))
        return compiled

    monkeypatch.setattr(layers_openvino, "compile_on_cpu", compile_on_cpu)
    found = layers_openvino.profile_layers(Path("m.xml"), TENSOR, threads=3, runs=runs)
    assert asked == [((Path("m.xml"), 3), {"profiled": True})]
    assert compiled.runs == all_runs
    assert found == (
        Layer("c", "Convolution", "fp32", median_ms, 16 * 64 * 27, 4 * 192 + 432 + 2 * 1024 + 56),
        Layer("untimed", "Reorder", "int8", 0.0, 0, 25),
    )


def test_a_model_that_openvino_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Compiled):
        def infer(self, inputs: list[Any]) -> None:
            raise RuntimeError("out of order\nin many lines")

    monkeypatch.setattr(layers_openvino, "compile_on_cpu", lambda *_, **__: Broken())
    with pytest.raises(EngineError, match=r"m\.xml: OpenVINO cannot profile it: out of order$"):
        layers_openvino.profile_layers(Path("m.xml"), TENSOR, threads=1, runs=4)


@pytest.mark.parametrize(("more", "runs"), [({}, 20), ({"runs": 3}, 3)], ids=str)
def test_twenty_runs_count_unless_another_number_is_named(
    more: dict[str, int], runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def profile(file: Path, tensor: Any, **how: int) -> tuple[Layer, ...]:
        seen.append((file, tensor.flags.c_contiguous, how))
        return NOTHING

    monkeypatch.setattr(layers_onnxruntime, "profile_layers", profile)
    assert profile_layers("onnxruntime", Path("m"), np.ones((4, 4))[:, ::2], threads=2, **more) == NOTHING
    assert seen == [(Path("m"), True, {"threads": 2, "runs": runs})]


def test_share_and_intensity_of_nothing() -> None:
    still = Layer("a", "Concat", "fp32", 1.0, 0, 0)
    assert still.intensity == 0.0
