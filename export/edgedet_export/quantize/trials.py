"""Trials: one way to quantise a model, built, run and judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import onnx

from edgedet_export.onnx_graph import OnnxGraph
from edgedet_export.quantize.agreement import Agreement, compare_detections, detect, reference_conf
from edgedet_export.quantize.apply_plan import apply_plan
from edgedet_export.quantize.bias_correction import ChannelMeans, corrected_biases
from edgedet_export.quantize.calibration import Calibration
from edgedet_export.quantize.config import QuantConfig, QuantEngine, RangeRule
from edgedet_export.quantize.layers import ConvLayer, find_layers, total_macs
from edgedet_export.quantize.placement_onnxruntime import place_onnxruntime
from edgedet_export.quantize.placement_openvino import place_openvino
from edgedet_export.quantize.plan import QuantPlan
from edgedet_export.quantize.runner import Runner, make_runner
from edgedet_export.quantize.tensor_ranges import TensorRanges
from edgedet_runtime.candidates import Candidates
from edgedet_runtime.spec import ModelSpec

__all__ = ["DROP_PER_DISAGREEMENT", "Evaluate", "Recipe", "Trial", "Workbench"]

Evaluate = Callable[[onnx.ModelProto, QuantEngine], float]
"""AP in 0..1 of a model on the caller's labelled pictures, run on an engine."""

DROP_PER_DISAGREEMENT = 0.025
"""Points of AP that one point (0.01) of disagreement stands for where there are no labels: on YOLOX-nano, files that
lose 0.2 to 0.4 points of AP agree by 0.80 to 0.90, files that lose 9 to 11 points by 0.42 to 0.45."""

_HOPELESS = 0.5  # agreement below which labels are not consulted


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to quantise.

    Attributes:
        rule: How ranges are chosen.
        tight: Only INT8 layers see a tensor quantised (OpenVINO); other readers see it in float.
        keep: Layer id → reason, for layers that stay in float.
    """

    rule: RangeRule
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
        graph: The FP32 graph with shapes.
        layers: Its convolutions.
        runner: FP32 on the engine.
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
        self.model = model
        self.spec = spec
        self.config = config
        self.calibration = calibration
        self.threads = threads
        self.tensors = judge_tensors
        self.graph = OnnxGraph(model)
        self.layers: tuple[ConvLayer, ...] = find_layers(self.graph)
        self.runner: Runner = make_runner(model, config.engine, threads=threads)
        self._reference: list[Candidates] = [detect(self.runner(t), spec) for t in judge_tensors]
        self._conf = reference_conf(self._reference, spec)
        self._evaluate = evaluate
        self.reference_ap = evaluate(model, config.engine) if evaluate else None
        self._ranges: dict[RangeRule, TensorRanges] = {}
        self._means = ChannelMeans(model, self.layers, judge_tensors[: config.mean_images], threads=threads)

    def plan(self, recipe: Recipe) -> QuantPlan:
        """Place the grids for this engine."""
        ranges = self._ranges.setdefault(recipe.rule, TensorRanges(self.calibration.statistics, recipe.rule))
        if self.config.engine == "openvino":
            number_format = self.config.number_format
            return place_openvino(self.graph, self.layers, ranges, number_format, recipe.keep, tight=recipe.tight)
        return place_onnxruntime(self.graph, self.layers, ranges, self.config.number_format, recipe.keep)

    def build(self, plan: QuantPlan) -> onnx.ModelProto:
        """Write a plan into a copy of the model, biases corrected."""
        biases = corrected_biases(self.graph, self.layers, plan, self._means)
        return apply_plan(self.model, plan, self.layers, self.config.engine, biases)

    def share(self, plan: QuantPlan) -> float:
        """Return the share of the MACs that a plan puts in INT8."""
        return 1 - sum(k.macs for k in plan.kept) / total_macs(self.layers)

    def attempt(self, name: str, recipe: Recipe) -> Trial:
        """Build and judge a candidate; labels are consulted only where the detections are not far off."""
        plan = self.plan(recipe)
        model = self.build(plan)
        run = make_runner(model, self.config.engine, threads=self.threads)
        agreement = compare_detections(self._reference, [detect(run(t), self.spec) for t in self.tensors], self._conf)
        drop = 100 * DROP_PER_DISAGREEMENT * (1 - agreement.agreement)
        ap = None
        if self._evaluate and self.reference_ap is not None and agreement.agreement >= _HOPELESS:
            ap = self._evaluate(model, self.config.engine)
            drop = 100 * (self.reference_ap - ap)
        return Trial(name, recipe, model, plan, self.share(plan), agreement, ap, drop, model.ByteSize())
