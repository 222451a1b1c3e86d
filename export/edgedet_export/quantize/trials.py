"""Trials: one way to quantise a model, built, run and judged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgedet_export.quantize.agreement import Agreement, compare_detections, detect, reference_conf
from edgedet_export.quantize.apply_plan import apply_plan
from edgedet_export.quantize.bias_correction import corrected_biases
from edgedet_export.quantize.calibration import Calibration, calibrate
from edgedet_export.quantize.config import QuantConfig, QuantEngine, RangeRule
from edgedet_export.quantize.equalise import equalise
from edgedet_export.quantize.fuse_silu import fuse_silu
from edgedet_export.quantize.layers import total_macs
from edgedet_export.quantize.placement_onnxruntime import place_onnxruntime
from edgedet_export.quantize.placement_openvino import place_openvino
from edgedet_export.quantize.plan import QuantPlan
from edgedet_export.quantize.runner import Runner, make_runner
from edgedet_export.quantize.stem_to_depth import stem_to_depth
from edgedet_export.quantize.variant import Form, Variant
from edgedet_runtime.candidates import Candidates
from edgedet_runtime.spec import ModelSpec

__all__ = ["DROP_PER_DISAGREEMENT", "Evaluate", "Recipe", "Trial", "Workbench"]

_log = logging.getLogger(__name__)

Evaluate = Callable[[onnx.ModelProto, QuantEngine], float]
"""AP in 0..1 of a model on the caller's labelled pictures, run on an engine."""

DROP_PER_DISAGREEMENT = 0.025
"""Points of AP that one point (0.01) of disagreement stands for where there are no labels: on YOLOX-nano, files that
lose 0.2 to 0.4 points of AP agree by 0.80 to 0.90, files that lose 9 to 11 points by 0.42 to 0.45."""

_EQUAL = 1e-3  # of an output's range: float32 noise of other factors, far below what 8 bits do
_HOPELESS = 0.5  # agreement below which labels are not consulted


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to quantise.

    Attributes:
        rule: How ranges are chosen.
        form: What is quantised: the network as it is, or with channels brought to like ranges.
        tight: Only INT8 layers see a tensor quantised (OpenVINO); other readers see it in float.
        keep: Layer id → reason, for layers that stay in float.
    """

    rule: RangeRule
    form: Form = "plain"
    tight: bool = False
    keep: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """A judged candidate.

    Attributes:
        name: What it is, in words.
        recipe: How it was made.
        model: The quantised model.
        plan: What was quantised.
        int8_share: Share of the MACs in INT8, 0..1.
        agreement: Detections against those of FP32.
        ap: Average precision 0..1, if labels were given.
        drop: Loss in points: of AP, or estimated from the agreement.
        bytes: Size of the serialised model.
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
    """Builds and judges trials for one model and engine.

    Attributes:
        model: FP32 in the form that is quantised.
        graph: Its graph with shapes.
        layers: Its convolutions.
        runner: FP32 on the engine, in the form that was given.
        reference_ap: AP of FP32, if labels were given.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        spec: ModelSpec,
        config: QuantConfig,
        calibration: Calibration,
        judge_tensors: Sequence[npt.NDArray[Any]],
        threads: int,
        evaluate: Evaluate | None,
    ) -> None:
        """Run FP32 on the judging pictures."""
        self.spec = spec
        self.config = config
        self.calibration = calibration
        self.threads = threads
        self.tensors = judge_tensors
        self._given = model
        self.model = self._for_engine(model)
        plain = Variant(self.model, calibration, judge_tensors[: config.mean_images], threads)
        self._forms: dict[Form, Variant | None] = {"plain": plain}
        self.graph, self.layers = plain.graph, plain.layers
        self.runner: Runner = make_runner(model, config.engine, threads=threads)
        self._reference: list[Candidates] = [detect(self.runner(t), spec) for t in judge_tensors]
        self._conf = reference_conf(self._reference, spec)
        self._evaluate = evaluate
        self.reference_ap = evaluate(model, config.engine) if evaluate else None

    def offers(self, form: Form) -> bool:
        """Return whether a form has anything to gain and computes the same; if not, recipes must not ask for it."""
        if form not in self._forms:
            self._forms[form] = self._make(form)
        return self._forms[form] is not None

    def _make(self, form: Form) -> Variant | None:
        found = equalise(self._given, self.calibration.statistics, smooth=form == "smoothed")
        if found is None:
            return None
        model = self._for_engine(found.model)
        off = self._distance(model)
        if not off < _EQUAL:
            _log.warning("INT8: %s channels: outputs move by %.2g of their range, so the form is not used", form, off)
            return None
        calibration = calibrate(model, self.tensors, threads=self.threads)
        return Variant(model, calibration, self.tensors[: self.config.mean_images], self.threads)

    def _for_engine(self, model: onnx.ModelProto) -> onnx.ModelProto:
        return fuse_silu(stem_to_depth(model)) if self.config.engine == "onnxruntime" else model

    def _distance(self, model: onnx.ModelProto) -> float:
        """Return how far a model's outputs are from the given one's on a picture, as a share of their range."""
        ours = make_runner(model, "onnxruntime", threads=self.threads)(self.tensors[0])
        theirs = make_runner(self._given, "onnxruntime", threads=self.threads)(self.tensors[0])
        return max(float(np.abs(ours[n] - a).max()) / max(float(np.abs(a).max()), 1e-6) for n, a in theirs.items())

    def variant(self, form: Form) -> Variant:
        """Return the network in a form that is offered."""
        found = self._forms[form]
        assert found is not None, "asked for only where `offers` says so"
        return found

    def plan(self, recipe: Recipe) -> QuantPlan:
        """Place the grids for this engine."""
        of = self.variant(recipe.form)
        ranges, number_format = of.ranges(recipe.rule), self.config.number_format
        if self.config.engine == "openvino":
            return place_openvino(of.graph, of.layers, ranges, number_format, recipe.keep, tight=recipe.tight)
        return place_onnxruntime(of.graph, of.layers, ranges, number_format, recipe.keep)

    def build(self, plan: QuantPlan, form: Form = "plain") -> onnx.ModelProto:
        """Write a plan into a copy of the form that it was made for, biases corrected."""
        of = self.variant(form)
        biases = corrected_biases(of.graph, of.layers, plan, of.means)
        return apply_plan(of.model, plan, of.layers, self.config.engine, biases)

    def share(self, plan: QuantPlan) -> float:
        """Return the share of the MACs that a plan puts in INT8."""
        return 1 - sum(k.macs for k in plan.kept) / total_macs(self.layers)

    def attempt(self, name: str, recipe: Recipe) -> Trial:
        """Build and judge a candidate; labels are consulted only where the detections are not far off."""
        plan = self.plan(recipe)
        model = self.build(plan, recipe.form)
        run = make_runner(model, self.config.engine, threads=self.threads)
        agreement = compare_detections(self._reference, [detect(run(t), self.spec) for t in self.tensors], self._conf)
        drop = 100 * DROP_PER_DISAGREEMENT * (1 - agreement.agreement)
        ap = None
        if self._evaluate and self.reference_ap is not None and agreement.agreement >= _HOPELESS:
            ap = self._evaluate(model, self.config.engine)
            drop = 100 * (self.reference_ap - ap)
        return Trial(name, recipe, model, plan, self.share(plan), agreement, ap, drop, model.ByteSize())
