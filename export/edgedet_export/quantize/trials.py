"""Trials: one way to quantize a model, built, run and judged."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
import onnx_ir as ir

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.quantize.agreement import Agreement, compare_detections, detect, reference_conf
from edgedet_export.quantize.apply_plan import apply_plan
from edgedet_export.quantize.bias_correction import corrected_biases
from edgedet_export.quantize.calibration import calibrate
from edgedet_export.quantize.config import QuantConfig
from edgedet_export.quantize.equalize import Form, equalize
from edgedet_export.quantize.layers import total_macs
from edgedet_export.quantize.measure import Measured
from edgedet_export.quantize.plan import QuantPlan
from edgedet_export.quantize.ranges import RangeRule
from edgedet_export.quantize.runner import Runner, onnx_runner
from edgedet_export.quantize.targets import get_target
from edgedet_export.quantize.variant import Variant
from edgedet_runtime.candidates import Candidates
from edgedet_runtime.cpu import available_threads
from edgedet_runtime.engines import EngineName
from edgedet_runtime.engines.trial_load import try_in_child
from edgedet_runtime.spec import ModelSpec

__all__ = ["DROP_PER_DISAGREEMENT", "Evaluate", "Recipe", "Trial", "Workbench"]

_log = logging.getLogger(__name__)

Evaluate = Callable[[Path, EngineName], float]
"""AP in 0..1 of a model file, its spec inside, on the caller's labelled pictures, run on an engine."""

DROP_PER_DISAGREEMENT = 0.025
"""Points of AP that one point (0.01) of disagreement stands for where there are no labels: on YOLOX-nano, files that
lose 0.2 to 0.4 points of AP agree by 0.80 to 0.90, files that lose 9 to 11 points by 0.42 to 0.45."""

_EQUAL = 1e-3  # of an output's range: float32 noise of other factors, far below what 8 bits do
_TINY = float(np.finfo(np.float32).tiny)  # only keeps a division from zero
_HOPELESS = 0.5  # agreement below which labels are not consulted


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to quantize.

    Attributes:
        rule: How ranges are chosen.
        form: What is quantized: the network as it is, or with channels brought to like ranges.
        float_residuals: Only INT8 layers see a tensor quantized; other readers see it in float (see `Target.place`).
        keep: Layer id → reason, for layers that stay in float.
    """

    rule: RangeRule
    form: Form = "plain"
    float_residuals: bool = False
    keep: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """A judged candidate.

    Attributes:
        name: What it is, in words.
        recipe: How it was made.
        model: The quantized model.
        plan: What was quantized.
        int8_share: Share of the MACs in INT8, 0..1.
        agreement: Detections against those of FP32.
        ap: Average precision 0..1, if labels were given.
        drop: Loss in points: of AP, or estimated from the agreement.
        bytes: Size of the serialized model.
    """

    name: str
    recipe: Recipe
    model: onnx.ModelProto
    plan: QuantPlan
    int8_share: float
    agreement: Agreement
    ap: float | None
    drop: float
    bytes: int

    def within(self, config: QuantConfig) -> bool:
        """Return whether the trial keeps the budget."""
        return self.drop <= config.max_drop and 1 - self.int8_share <= config.max_float + 1e-9


class Workbench:
    """Builds and judges trials for one model and target.

    Attributes:
        spec: The model's contract.
        config: Options.
        target: The engine that the candidates are for.
        threads: Threads of engines.
        number_format: 8-bit formats of the CPU that the candidates are for.
        tensors: Inputs made of the judging pictures.
        model: FP32, prepared for the target.
        graph: Its graph with shapes.
        layers: Its convolutions.
        runner: FP32 on the engine, in the form that was given.
        reference_ap: AP of FP32, if labels were given.
    """

    def __init__(
        self, measured: Measured, spec: ModelSpec, config: QuantConfig, evaluate: Evaluate | None = None
    ) -> None:
        """Run FP32 on the judging pictures."""
        self.spec = spec
        self.config = config
        self.target = get_target(config.engine)
        self.threads = config.threads or available_threads()
        self.number_format = self.target.number_formats[config.cpu_kind]
        self.tensors = list(measured.pictures.spread(config.judge_images).tensors(spec))
        self._calibration = measured.calibration
        self._given = from_proto(measured.model)
        self.model = self.target.prepare(self._given)
        plain = Variant(self.model, measured.calibration, self.tensors[: config.mean_images], self.threads)
        self._forms: dict[Form, Variant | None] = {"plain": plain}
        self.graph, self.layers = plain.graph, plain.layers
        self.runner: Runner = self.target.open_session(measured.model, threads=self.threads)
        self._reference: list[Candidates] = [detect(self.runner(t), spec) for t in self.tensors]
        self._conf = reference_conf(self._reference, spec)
        self._evaluate = evaluate
        self.reference_ap = self._average_precision(measured.model)

    def offers(self, form: Form) -> bool:
        """Return whether a form has anything to gain and computes the same; if not, recipes must not ask for it."""
        if form not in self._forms:
            self._forms[form] = self._make(form)
        return self._forms[form] is not None

    def _make(self, form: Form) -> Variant | None:
        found = equalize(self._given, self._calibration.statistics, smooth=form == "smoothed")
        if found is None:
            return None
        model = self.target.prepare(found.model)
        off = self._distance(model)
        if not off < _EQUAL:
            _log.warning("INT8: %s channels: outputs move by %.2g of their range, so the form is not used", form, off)
            return None
        calibration = calibrate(model, self.tensors, threads=self.threads)
        return Variant(model, calibration, self.tensors[: self.config.mean_images], self.threads)

    def _distance(self, model: ir.Model) -> float:
        """Return how far a model's outputs are from the given one's on a picture, as a share of their range."""
        ours, theirs = (onnx_runner(to_proto(m), threads=self.threads)(self.tensors[0]) for m in (model, self._given))
        return max(float(np.abs(ours[n] - a).max()) / max(float(np.abs(a).max()), _TINY) for n, a in theirs.items())

    def variant(self, form: Form) -> Variant:
        """Return the network in a form that is offered."""
        found = self._forms[form]
        assert found is not None, "asked for only where `offers` says so"
        return found

    def plan(self, recipe: Recipe) -> QuantPlan:
        """Place the grids."""
        variant = self.variant(recipe.form)
        return self.target.place(
            variant.graph,
            variant.layers,
            variant.ranges(recipe.rule),
            self.number_format,
            recipe.keep,
            float_residuals=recipe.float_residuals,
        )

    def build(self, plan: QuantPlan, form: Form = "plain") -> onnx.ModelProto:
        """Write a plan into a copy of the form that it was made for, biases corrected."""
        variant = self.variant(form)
        biases = corrected_biases(variant.graph, variant.layers, plan, variant.means)
        return to_proto(apply_plan(variant.model, plan, variant.layers, biases))

    def share(self, plan: QuantPlan) -> float:
        """Return the share of the MACs that a plan puts in INT8."""
        return 1 - sum(k.macs for k in plan.kept) / total_macs(self.layers)

    def attempt(self, name: str, recipe: Recipe) -> Trial:
        """Build and judge a candidate; labels are consulted only where the detections are not far off."""
        plan = self.plan(recipe)
        model = self.build(plan, recipe.form)
        if self.config.foreign:
            try_in_child(self.target.name, model.SerializeToString(), self.spec, what="the quantized network")
        run = self.target.open_session(model, threads=self.threads)
        agreement = compare_detections(self._reference, [detect(run(t), self.spec) for t in self.tensors], self._conf)
        drop = 100 * DROP_PER_DISAGREEMENT * (1 - agreement.agreement)
        ap = self._average_precision(model) if agreement.agreement >= _HOPELESS else None
        if ap is not None:
            assert self.reference_ap is not None, "labels judge both"
            drop = 100 * (self.reference_ap - ap)
        return Trial(name, recipe, model, plan, self.share(plan), agreement, ap, drop, model.ByteSize())

    def _average_precision(self, model: onnx.ModelProto) -> float | None:
        """Return the AP of a model's file, 0..1; None where there are no labels."""
        if self._evaluate is None:
            return None
        with tempfile.TemporaryDirectory(prefix="edgedet-candidate-") as folder:
            path = Path(folder, PurePosixPath(self.target.file).name)
            self.target.write(path, model, self.spec)
            return self._evaluate(path, self.target.name)
