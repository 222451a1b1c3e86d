"""A third target is one file and one line: a toy one goes through the search with nothing else changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

from edgedet_export.config import Format
from edgedet_export.quantize import TARGETS, QuantConfig, QuantResult, Target, get_target, quantize, targets_of
from edgedet_export.quantize.audit import ExecutedPrecision
from edgedet_export.quantize.equalize import Form
from edgedet_export.quantize.layers import ConvLayer
from edgedet_export.quantize.number_format import CpuKind, NumberFormat
from edgedet_export.quantize.plan import Grid, KeptFloat, QuantPlan
from edgedet_export.quantize.runner import Runner, onnx_runner
from edgedet_export.quantize.tensor_ranges import TensorRanges
from edgedet_runtime.engines import EngineName
from edgedet_runtime.errors import InputError
from edgedet_runtime.spec import ModelSpec

from .tiny_detector import pictures, tiny_detector

TOY = cast("EngineName", "toy")


class ToyTarget:
    """7-bit weights and int8 activations on every CPU, heads in float, float residuals, a file of its own kind."""

    name: EngineName = TOY
    formats = cast("tuple[Format, ...]", ("toy", "onnx"))
    file = "toy/model.int8.toy"
    number_formats: Mapping[CpuKind, NumberFormat] = {"vnni": NumberFormat("int8", 40)}
    free_forms: tuple[Form, ...] = ("equalized", "smoothed")
    costly_forms: tuple[Form, ...] = ()
    float_residuals = True

    def __init__(self) -> None:
        self.prepared = 0
        self.sessions = 0

    def prepare(self, model: ir.Model) -> ir.Model:
        self.prepared += 1
        return model

    def place(
        self,
        graph: ir.Graph,
        layers: tuple[ConvLayer, ...],
        ranges: TensorRanges,
        number_format: NumberFormat,
        keep_float: Mapping[str, str],
        *,
        float_residuals: bool = False,
    ) -> QuantPlan:
        reasons = {**{layer.id: "toy head" for layer in layers if layer.is_head}, **keep_float}
        chosen = [layer for layer in layers if layer.id not in reasons]
        grids = {layer.data: Grid.spanning(ranges.choose(layer.data), number_format) for layer in chosen}
        return QuantPlan(
            grids=grids,
            everywhere=frozenset() if float_residuals else frozenset(grids),
            layers=tuple(layer.id for layer in chosen),
            integer_products=(),
            kept=tuple(KeptFloat(la.id, reasons[la.id], la.macs) for la in layers if la.id in reasons),
            number_format=number_format,
            bias="float32",
            copied_upsampling=False,
        )

    def float_front(self, layers: tuple[ConvLayer, ...]) -> Mapping[str, str]:
        return {layers[0].id: "toy stem"}

    def open_session(self, model: onnx.ModelProto, *, threads: int) -> Runner:
        self.sessions += 1
        return onnx_runner(model, threads=threads)

    def write(self, path: Path, model: onnx.ModelProto, spec: ModelSpec) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"toy" + model.SerializeToString())

    def audit(self, path: Path, spec: ModelSpec, tensor: npt.NDArray[Any], *, threads: int) -> ExecutedPrecision:
        model = onnx.ModelProto.FromString(path.read_bytes().removeprefix(b"toy"))
        made = {node.output[0]: node.op_type for node in model.graph.node}
        convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        int8 = sum(made.get(node.input[1]) == "DequantizeLinear" for node in convolutions)
        return ExecutedPrecision(int8 / len(convolutions), int8 / len(model.graph.node), (("Conv int8", int8, 0.0),))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyTarget:
    target = ToyTarget()
    monkeypatch.setitem(TARGETS, TOY, target)  # the one line
    return target


def quantized(max_drop: float = 2.4, **more: Any) -> tuple[QuantResult, ModelSpec]:
    model, spec = tiny_detector()
    config = QuantConfig(TOY, max_drop=max_drop, max_float=0.5, threads=1, latency_runs=3, cpu="vnni")
    return quantize(model, spec, pictures(4), config, **more), spec


def test_a_toy_target_goes_through_the_search(toy: ToyTarget, tmp_path: Path) -> None:
    result, spec = quantized()
    report = result.report
    assert report.engine == TOY
    assert (report.activations, report.weight_limit) == ("int8", 40)
    heads = {"boxes", "objectness", "scores"}
    assert heads <= {kept.layer for kept in report.kept_float}
    assert {kept.reason for kept in report.kept_float if kept.layer in heads} == {"toy head"}
    names = [row.name for row in report.pareto]
    assert any("float residuals" in name for name in names)
    assert any("smoothed channels" in name for name in names), "its SiLU leaves nothing to equalize, so the second form"
    assert any(name.startswith("first 1 in float") for name in names)
    assert toy.prepared == 2, "the plain form and the smoothed one"
    assert toy.sessions >= len(names) + 1
    codes = [onnx.numpy_helper.to_array(t) for t in result.model.graph.initializer if t.name.endswith("/w/codes")]
    assert max(int(np.abs(c).max()) for c in codes) == 40
    toy.write(tmp_path / toy.file, result.model, spec)
    executed = toy.audit(tmp_path / toy.file, spec, np.zeros(0), threads=1)
    assert executed.macs == pytest.approx(1 - len(report.kept_float) / 9)


def test_a_toy_target_writes_what_labels_judge(toy: ToyTarget) -> None:
    asked = []

    def evaluate(file: Path, engine: EngineName) -> float:
        asked.append((file.name, engine, file.read_bytes()[:3]))
        return 0.5

    result, _ = quantized(evaluate=evaluate)
    assert result.report.measure == "ap"
    assert set(asked) == {("model.int8.toy", "toy", b"toy")}


def test_formats_have_targets(toy: ToyTarget) -> None:
    target: Target = toy
    wanted = cast("tuple[Format, ...]", ("toy", "openvino"))
    assert [t.name for t in targets_of(wanted)] == ["toy", "openvino"]
    assert [t.name for t in targets_of(("openvino", "onnx"))] == ["openvino", "onnxruntime", "toy"]
    assert get_target(TOY) is target


def test_engines_without_a_target_are_refused() -> None:
    with pytest.raises(InputError, match="expected the engine onnxruntime or openvino, got 'toy'"):
        get_target(TOY)


@pytest.mark.parametrize("target", list(TARGETS.values()), ids=lambda target: str(target.name))
def test_a_written_file_is_audited_as_it_lies_there(target: Target, tmp_path: Path) -> None:
    """The audit sees the file, so one of float numbers in the place of the quantized one is found out."""
    model, spec = tiny_detector()
    path = tmp_path / "deep" / target.file
    target.write(path, model, spec)
    tensor = pictures(1)[0][None, :64, :64].copy()
    assert target.audit(path, spec, tensor, threads=1).macs == 0.0
    assert not model.metadata_props, "writing leaves the model as it is"


@pytest.mark.parametrize(
    ("channels", "groups", "front"), [(3, 1, 2), (4, 1, 2), (5, 1, 0), (12, 1, 0), (1, 2, 0), (1, 3, 0), (1, 1, 2)]
)
def test_a_stem_of_few_channels_may_be_faster_in_float(channels: int, groups: int, front: int) -> None:
    layers = tuple(
        ConvLayer(name, "Conv", "x", "w", None, (16, channels, 3, 3), groups, 1, False, False) for name in "abc"
    )
    assert list(get_target("onnxruntime").float_front(layers)) == ["a", "b"][:front]
    assert get_target("openvino").float_front(layers) == {}
