"""The whole way: budget, determinism, audit, sensitivity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgedet_export.graph.conversion import from_proto
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.quantize import QuantConfig, get_target, inspect_sensitivity, measure, quantize
from edgedet_export.quantize.images import open_pictures
from edgedet_export.quantize.layers import find_layers, total_macs
from edgedet_export.quantize.trials import Recipe, Workbench
from edgedet_runtime.bundle.model_files import read_spec
from edgedet_runtime.engines import EngineName
from edgedet_runtime.errors import CheckFailedError, InputError

from .tiny_detector import pictures, tiny_detector

ENGINES: list[EngineName] = ["onnxruntime", "openvino"]


def config(engine: EngineName, max_drop: float = 2.4, max_float: float = 0.5) -> QuantConfig:
    return QuantConfig(engine, max_drop=max_drop, max_float=max_float, threads=1, latency_runs=3, cpu="vnni")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("classes", [1, 3])
def test_report_holds_what_was_done(tmp_path: Path, engine: EngineName, classes: int) -> None:
    model, spec = tiny_detector(classes)
    result = quantize(model, spec, pictures(4), config(engine))
    report = result.report
    assert [o.name for o in result.model.graph.output] == [o.name for o in model.graph.output]
    assert sum(row.chosen for row in report.pareto) == 1
    chosen = next(row for row in report.pareto if row.chosen)
    assert chosen.within_budget
    assert report.int8_share == pytest.approx(1 - sum(k.macs for k in report.kept_float) / total(model))
    target = get_target(engine)
    target.write(tmp_path / target.file, result.model, spec)
    tensor = next(open_pictures(pictures(1), limit=1).tensors(spec))
    executed = target.audit(tmp_path / target.file, spec, tensor, threads=1)
    assert executed.macs == pytest.approx(report.int8_share), "all that was planned ran in INT8"
    assert report.agreement.agreement == chosen.agreement
    assert report.recommended == (report.speedup > 1)
    assert json.loads(json.dumps(report.to_dict()))["engine"] == engine


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("classes", [1, 3])
def test_int8_finds_what_fp32_finds(engine: EngineName, classes: int) -> None:
    """Of one recipe: which of the candidates a search takes depends on how fast they happen to run."""
    model, spec = tiny_detector(classes)
    bench = Workbench(measure(model, spec, pictures(4), config(engine)), spec, config(engine))
    found = bench.attempt("all layers, mse", Recipe("mse")).agreement
    assert found.agreement > {"onnxruntime": 0.66, "openvino": 0.83}[engine]
    assert found.score_spread < {"onnxruntime": 0.0155, "openvino": 0.0105}[engine]
    assert abs(found.score_shift) < 0.002
    assert found.matched > 0.97 * found.reference
    assert found.extra < 0.03 * found.reference


def total(model: onnx.ModelProto) -> int:
    shaped = from_proto(model)
    infer_shapes(shaped)
    return total_macs(find_layers(shaped.graph))


@pytest.mark.parametrize("engine", ENGINES)
def test_same_input_same_bytes(engine: EngineName) -> None:
    model, spec = tiny_detector()
    measured = [measure(model, spec, pictures(3), config(engine)) for _ in range(2)]
    # the search may pick another of two equally fast files; each file itself is reproducible
    files = []
    for m in measured:
        bench = Workbench(m, spec, config(engine))
        files.append(bench.build(bench.plan(Recipe("mse"))).SerializeToString(deterministic=True))
    assert files[0] == files[1]
    assert measured[0].pictures.sha256 == measured[1].pictures.sha256


def test_budget_that_cannot_be_kept_is_an_error_that_says_so() -> None:
    model, spec = tiny_detector()
    with pytest.raises(CheckFailedError, match=r"INT8 for openvino: expected to lose at most 0 points .* best of"):
        quantize(model, spec, pictures(3), config("openvino", max_drop=0.0))


def test_labels_decide_where_there_are_some() -> None:
    model, spec = tiny_detector()
    asked: list[tuple[str, str]] = []

    def evaluate(file: Path, engine: EngineName) -> float:
        asked.append((file.suffix, engine))
        assert file.stat().st_size
        assert read_spec(file) == spec
        return 0.5 if len(asked) == 1 else 0.499

    report = quantize(model, spec, pictures(3), config("openvino", max_drop=0.2), evaluate=evaluate).report
    assert set(asked) == {(".xml", "openvino")}
    assert report.measure == "ap"
    assert report.reference_ap == 0.5
    assert next(r for r in report.pareto if r.chosen).drop == pytest.approx(0.1)


def test_layer_with_an_outlier_channel_is_the_most_sensitive() -> None:
    model, spec = tiny_detector()
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).copy()
        if tensor.name == "down_w":
            array[0] *= 2000  # one channel dwarfs the others …
        elif tensor.name == "residual_w":
            array[:, 0] /= 2000  # … and the layer behind it undoes that, so float does not care
        else:
            continue
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    found = {s.layer: s for s in inspect_sensitivity(model, spec, pictures(3), config("openvino"))}
    hurt, fine = found["residual"], found["pointwise"]
    assert hurt.outlier_ratio > 100
    assert hurt.poor_channels > 0.5
    assert hurt.effect > 3 * fine.effect
    assert fine.poor_channels < hurt.poor_channels


def test_convergence_counts_pictures() -> None:
    model, spec = tiny_detector()
    same = [p[:64] for p in pictures(1)] * 1
    calibration = measure(model, spec, [*same, *(np.roll(same[0], i, axis=0) for i in range(1, 8))], config("openvino"))
    assert [n for n, _ in calibration.calibration.growth] == [1, 2, 4, 8]
    assert calibration.calibration.growth[0][1] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_drop": -1.0}, "max_drop: expected"),
        ({"max_float": 1.5}, "max_float: expected"),
        ({"engine": "opencv"}, "onnxruntime or openvino"),
        ({"rules": ()}, "a rule"),
    ],
)
def test_config_refuses_nonsense(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        QuantConfig(**change)  # type: ignore[arg-type]
