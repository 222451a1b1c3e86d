"""The bench: what a trial's numbers are made of, and which forms it offers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from edgedet_export.graph.conversion import from_proto
from edgedet_export.quantize import trials
from edgedet_export.quantize.agreement import Agreement
from edgedet_export.quantize.config import QuantConfig
from edgedet_export.quantize.measure import Measured, measure
from edgedet_export.quantize.quantizer import _failure, _measure_of, _report, inspect_sensitivity, quantize
from edgedet_export.quantize.search import SearchResult
from edgedet_export.quantize.trials import Recipe, Trial, Workbench
from edgedet_runtime.cpu import available_threads
from edgedet_runtime.spec import ModelSpec

from .test_equalize import unbalance
from .tiny_detector import pictures, tiny_detector

CONFIG = QuantConfig("onnxruntime", threads=1, cpu="vnni", judge_images=1)


@pytest.fixture(scope="module")
def prepared() -> tuple[Measured, ModelSpec]:
    model, spec = tiny_detector(activation="Relu")
    unbalance(model, 30.0)
    return measure(model, spec, pictures(2), QuantConfig(threads=1)), spec


def agreeing(agreement: float) -> Agreement:
    return Agreement(agreement, 0.25, 3, 3, 0, 0.0, 0.0, 0.25)


@pytest.mark.parametrize(
    ("agreement", "ap", "consulted", "drop"),
    [(0.8, None, False, 0.5), (0.8, 0.37, True, 3.0), (0.5, 0.37, True, 3.0), (0.49, 0.37, False, 1.275)],
)
def test_labels_are_consulted_where_detections_agree_at_all(
    prepared: tuple[Measured, ModelSpec],
    monkeypatch: pytest.MonkeyPatch,
    agreement: float,
    ap: float | None,
    consulted: bool,
    drop: float,
) -> None:
    """Without labels a whole disagreement stands for two and a half points."""
    found = iter([0.4, ap])
    asked: list[str] = []

    def evaluate(path: Path, engine: str) -> float:
        asked.append(path.name)
        value = next(found)
        assert value is not None
        return value

    monkeypatch.setattr(trials, "compare_detections", lambda *_: agreeing(agreement))
    bench = Workbench(*prepared, CONFIG, None if ap is None else evaluate)
    assert bench.reference_ap == (None if ap is None else 0.4)
    trial = bench.attempt("all", Recipe("minmax"))
    assert trial.drop == pytest.approx(drop)
    assert trial.ap == (ap if consulted else None)
    assert asked == ["model.int8.onnx"] * (0 if ap is None else 1 + consulted)
    assert (trial.name, trial.int8_share, trial.bytes) == ("all", 1.0, trial.model.ByteSize())
    assert _measure_of(trial) == ("ap" if consulted else "agreement")


def test_the_share_is_of_macs(prepared: tuple[Measured, ModelSpec]) -> None:
    bench = Workbench(*prepared, CONFIG)
    stem = bench.layers[0]
    plan = bench.plan(Recipe("minmax", keep={stem.id: "asked"}))
    assert bench.share(plan) == pytest.approx(1 - stem.macs / sum(la.macs for la in bench.layers))
    assert (len(bench.tensors), bench.threads) == (1, 1)
    everything = Workbench(*prepared, replace(CONFIG, threads=None, judge_images=9))
    assert (len(everything.tensors), everything.threads) == (2, available_threads())


@pytest.mark.parametrize(
    ("drop", "share", "within"),
    [(0.5, 0.85, True), (0.51, 1.0, False), (0.0, 0.84, False), (0.6, 0.5, False), (-1.0, 0.9, True)],
)
def test_a_budget_is_kept_up_to_its_edge(drop: float, share: float, within: bool) -> None:
    plan: Any = SimpleNamespace()
    trial = Trial("x", Recipe("mse"), onnx.ModelProto(), plan, share, agreeing(1), None, drop, 0)
    assert trial.within(QuantConfig()) is within


def scaled(model: onnx.ModelProto, factor: float) -> ir.Model:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in ("boxes_w", "boxes_b"):
            tensor.CopyFrom(
                numpy_helper.from_array((numpy_helper.to_array(tensor) * factor).astype("float32"), tensor.name)
            )
    return from_proto(changed)


def test_a_form_that_computes_something_else_is_not_offered(
    prepared: tuple[Measured, ModelSpec], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Workbench(*prepared, CONFIG)
    for factor in (1.01, 0.9, 1.0):
        distance = bench._distance(bench.target.prepare(scaled(prepared[0].model, factor)))
        assert distance == pytest.approx(abs(factor - 1), abs=1e-5)
    for distance, offered in ((0.9e-3, True), (1.05e-3, False), (float("nan"), False)):
        fresh = Workbench(*prepared, CONFIG)
        monkeypatch.setattr(fresh, "_distance", lambda _, distance=distance: distance)
        assert fresh.offers("equalized") is offered
        assert ("so the form is not used" in caplog.text) is not offered
        assert fresh.offers("equalized") is offered, "found once"
    assert bench.offers("plain")
    assert bench.variant("plain").layers == bench.layers


def test_nothing_to_gain_is_not_offered() -> None:
    model, spec = tiny_detector()
    bench = Workbench(measure(model, spec, pictures(2), QuantConfig(threads=1)), spec, CONFIG)
    assert not bench.offers("equalized"), "SiLU is not homogeneous"


@pytest.mark.parametrize(("speedup", "recommended"), [(0.99, False), (1.0, False), (1.01, True)])
def test_a_file_is_recommended_if_it_is_faster(
    prepared: tuple[Measured, ModelSpec], speedup: float, recommended: bool
) -> None:
    bench = Workbench(*prepared, CONFIG)
    best = bench.attempt("all", Recipe("minmax"))
    latencies = SimpleNamespace(speedup={"all": speedup}, ms={"all": 2.0, "fp32": 2.0 * speedup})
    result: Any = SimpleNamespace(latencies=latencies, trials=(best,), best=best, sensitivity=())
    report = _report(prepared[0], bench, result, best)
    assert (report.recommended, report.speedup) == (recommended, speedup)
    assert report.calibration.images == 2
    assert [row.chosen for row in report.pareto] == [True]
    assert report.default_conf == prepared[1].thresholds.conf
    for conf, threshold in ((report.default_conf, 0.7), (report.default_conf / 2, None)):
        judged = replace(report, agreement=replace(agreeing(1.0), conf=conf, threshold=0.7))
        assert judged.threshold == threshold, "only of the score that the model has for its own"


def test_progress_is_told_from_the_pictures_to_the_latencies(prepared: tuple[Measured, ModelSpec]) -> None:
    measured, spec = prepared
    config = replace(CONFIG, max_drop=100.0, latency_runs=1, rules=("minmax",))
    said: list[str] = []
    quantize(measured.model, spec, pictures(2), config, progress=said.append)
    assert said[:3] == ["reading calibration pictures", "calibrating, picture 1 of 2", "calibrating, picture 2 of 2"]
    assert said[3] == "trying all layers, minmax"
    assert said[-1] == "measuring latency"
    said.clear()
    quantize(measured.model, spec, [], config, progress=said.append, measured=measured)
    assert said[0] == "trying all layers, minmax", "what was measured is not measured again"
    said.clear()
    layers = inspect_sensitivity(measured.model, spec, pictures(2), config, progress=said.append)
    assert said[-1] == f"measuring single layers, {len(layers)} of {len(layers)}"
    assert len(layers) == 8 + 1


def test_a_budget_that_nothing_keeps_is_reported_by_the_best_candidate(prepared: tuple[Measured, ModelSpec]) -> None:
    def made(name: str, drop: float, ap: float | None) -> Trial:
        plan: Any = SimpleNamespace()
        return Trial(name, Recipe("mse"), onnx.ModelProto(), plan, 0.75, agreeing(0.5), ap, drop, 0)

    latencies: Any = SimpleNamespace()
    for ap, what in ((None, "estimated AP, from the agreement of detections,"), (0.3, "AP")):
        result = SearchResult(
            (made("worse", 3.0, ap), made("best", 1.25, ap), made("worst", 9.0, ap)), latencies, None, ()
        )
        said = _failure(result, CONFIG)
        assert f"expected to lose at most 0.5 points of {what} with at most 15% of the MACs in float" in said
        assert "the best of 3 candidates (best) loses 1.25 with 25%" in said
