"""quantize(): from an FP32 ONNX with raw heads to the INT8 model for one engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import onnx

from edgedet_export.quantize.config import QuantConfig
from edgedet_export.quantize.images import Picture
from edgedet_export.quantize.measure import Measured, Progress, measure, silent
from edgedet_export.quantize.plan import KeptFloat
from edgedet_export.quantize.report import BudgetError, QuantReport, QuantResult
from edgedet_export.quantize.search import SearchResult, float_fronts, search
from edgedet_export.quantize.sensitivity import measure_sensitivity
from edgedet_export.quantize.trials import Evaluate, Recipe, Trial, Workbench
from edgedet_runtime.bundle.quantization import CalibrationFacts, CandidateFacts, LayerFacts
from edgedet_runtime.engines import EngineName
from edgedet_runtime.spec import ModelSpec

__all__ = ["Placed", "inspect_sensitivity", "quantize", "quantize_unjudged"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A quantized model that nobody judged.

    Attributes:
        model: QDQ ONNX for the engine.
        engine: The engine that it is for.
        cpu: The kind of CPU that it is for.
        int8_share: Share of the MACs that the file has in INT8.
        kept_float: Layers that stay in float.
    """

    model: onnx.ModelProto
    engine: EngineName
    cpu: str
    int8_share: float
    kept_float: tuple[KeptFloat, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, the model left out."""
        return {
            "searched": False,
            "engine": self.engine,
            "cpu": self.cpu,
            "int8_share": self.int8_share,
            "kept_float": [asdict(kept) for kept in self.kept_float],
        }


def quantize_unjudged(measured: Measured, spec: ModelSpec, config: QuantConfig) -> Placed:
    """Quantize with the engine's plain placement: no search, no budget, no comparison of detections.

    What the engine can run in INT8 runs in INT8, except the first layer where its float kernel may be faster (see
    `Target.float_front`). For latency and size of networks whose detections mean nothing.

    Args:
        measured: From `measure`.
        spec: The model's contract.
        config: Engine, CPU, first range rule and threads; the budget only limits what stays in float on purpose.

    Raises:
        EngineError: The engine refuses the model.
    """
    bench = Workbench(measured, spec, config)
    recipe = Recipe(config.rules[0])
    plan = bench.plan(recipe)
    for front in float_fronts(bench, plan, recipe.keep)[:1]:
        recipe = replace(recipe, keep=front)
        plan = bench.plan(recipe)
    return Placed(bench.build(plan), config.engine, config.cpu_kind, bench.share(plan), plan.kept)


def quantize(
    model: onnx.ModelProto,
    spec: ModelSpec,
    images: Sequence[Picture],
    config: QuantConfig,
    *,
    progress: Progress | None = None,
    evaluate: Evaluate | None = None,
    measured: Measured | None = None,
) -> QuantResult:
    """Quantize a detector for one engine.

    Args:
        model: FP32 ONNX of fixed input size whose outputs are the raw heads.
        spec: Its contract.
        images: Calibration pictures: paths or uint8 BGR arrays.
        config: Engine, budget and effort.
        progress: Called with a few words on what happens.
        evaluate: Gives the AP (0..1) of a model file on an engine; None: detections are compared instead.
        measured: From `measure` with the same model and pictures, to calibrate once for several engines.

    Returns:
        QDQ ONNX for the engine, which the target writes and audits (`Target.write`, `Target.audit`), and the report.

    Raises:
        BudgetError: No candidate keeps the budget.
        InputError: No usable picture.
        EngineError: The engine refuses the model.
    """
    say = progress or silent
    measured = measured or measure(model, spec, images, config, progress=progress)
    bench = Workbench(measured, spec, config, evaluate)
    result = search(bench, say)
    if result.best is None:
        raise BudgetError(_failure(result, config), _measure_of(result.trials[0]), _pareto(result, config))
    return QuantResult(result.best.model, _report(measured, bench, result, result.best))


def inspect_sensitivity(
    model: onnx.ModelProto,
    spec: ModelSpec,
    images: Sequence[Picture],
    config: QuantConfig,
    *,
    progress: Progress | None = None,
) -> tuple[LayerFacts, ...]:
    """Return how each layer alone reacts to INT8 on an engine, most sensitive first; see `quantize`."""
    say = progress or silent
    bench = Workbench(measure(model, spec, images, config, progress=progress), spec, config)
    return measure_sensitivity(bench, Recipe(config.rules[0]), say)


def _failure(result: SearchResult, config: QuantConfig) -> str:
    best = min(result.trials, key=lambda t: t.drop)
    what = "AP" if best.ap is not None else "estimated AP, from the agreement of detections,"
    return (
        f"INT8 for {config.engine}: expected to lose at most {config.max_drop:g} points of {what} with at most "
        f"{config.max_float:.0%} of the MACs in float, the best of {len(result.trials)} candidates ({best.name}) loses "
        f"{best.drop:.2f} with {1 - best.int8_share:.0%}; raise `max_drop` or `max_float`, or stay with FP32"
    )


def _measure_of(trial: Trial) -> str:
    return "agreement" if trial.ap is None else "ap"


def _pareto(result: SearchResult, config: QuantConfig) -> tuple[CandidateFacts, ...]:
    return tuple(
        CandidateFacts(
            name=t.name,
            drop=t.drop,
            ap=t.ap,
            agreement=t.agreement.agreement,
            int8_share=t.int8_share,
            speedup=result.latencies.speedup.get(t.name),
            bytes=t.bytes,
            within_budget=t.within(config),
            chosen=t is result.best,
        )
        for t in result.trials
    )


def _report(measured: Measured, bench: Workbench, result: SearchResult, best: Trial) -> QuantReport:
    config, latencies, calibration = bench.config, result.latencies, measured.calibration
    return QuantReport(
        engine=config.engine,
        cpu=config.cpu_kind,
        activations=bench.number_format.activations,
        weight_limit=bench.number_format.weight_limit,
        rule=best.recipe.rule,
        measure=_measure_of(best),
        max_drop=config.max_drop,
        max_float=config.max_float,
        reference_ap=bench.reference_ap,
        pareto=_pareto(result, config),
        kept_float=best.plan.kept,
        int8_share=best.int8_share,
        agreement=best.agreement,
        default_conf=bench.spec.thresholds.conf,
        speedup=latencies.speedup[best.name],
        latency_ms=latencies.ms[best.name],
        fp32_latency_ms=latencies.ms["fp32"],
        recommended=latencies.speedup[best.name] > 1.0,
        calibration=CalibrationFacts(
            images=calibration.images,
            enough=calibration.enough,
            growth=calibration.growth,
            duplicates=measured.pictures.duplicates,
            unreadable=measured.pictures.unreadable,
            sha256=measured.pictures.sha256,
        ),
        sensitivity=result.sensitivity,
    )
