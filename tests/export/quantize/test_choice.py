"""Which candidate is written: noise in the latencies decides nothing."""

from __future__ import annotations

import pytest

from edgedet_export.quantize import QuantConfig, quantize
from edgedet_export.quantize.latency import Latencies
from edgedet_export.quantize.report import BudgetError

from .tiny_detector import pictures, tiny_detector


def latencies(**rounds: tuple[float, ...]) -> Latencies:
    """Latencies of runners, round by round; medians do not matter here."""
    return Latencies({}, {}, rounds)


@pytest.mark.parametrize(
    ("one", "other", "faster"),
    [
        ((10.0,) * 8, (12.0,) * 8, True),
        ((10.0,) * 8, (10.4,) * 8, False),  # 4 %
        ((12.0,) * 8, (10.0,) * 8, False),
        ((10.0, 10.0, 10.0, 14.0, 14.0, 14.0, 10.0, 10.0), (12.0,) * 8, False),  # slower in three rounds of eight
        ((10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 40.0), (12.0,) * 8, True),  # one disturbance
    ],
)
def test_clearly_faster(one: tuple[float, ...], other: tuple[float, ...], faster: bool) -> None:
    assert latencies(one=one, other=other).clearly_faster("one", "other", by=0.05) is faster


def test_of_candidates_with_the_same_nodes_the_most_accurate_is_taken() -> None:
    model, spec = tiny_detector()
    config = QuantConfig("onnxruntime", max_drop=100, max_float=0, threads=1, latency_runs=3, cpu="vnni")
    rows = {row.name: row for row in quantize(model, spec, pictures(6), config).report.pareto}
    both = [rows["all layers, mse"], rows["all layers, percentile"]]
    (timed,) = (row for row in both if row.speedup is not None)
    assert timed.drop == min(row.drop for row in both)
    assert timed.chosen


def test_each_step_builds_on_the_best_so_far_and_costly_forms_wait() -> None:
    model, spec = tiny_detector()
    config = QuantConfig("openvino", max_drop=100, max_float=0.5, threads=1, latency_runs=3, cpu="vnni")
    rows = quantize(model, spec, pictures(4), config).report.pareto
    for row in rows:
        assert row.drop == pytest.approx(2.5 * (1 - row.agreement)), "2.5 points of AP for a whole disagreement"
    best = min(rows[:2], key=lambda row: row.drop)
    assert best is not max(rows[:2], key=lambda row: row.drop)
    assert rows[2].name == f"{best.name}, smoothed channels"
    best = min(rows[:3], key=lambda row: row.drop)
    assert rows[3].name == f"{best.name}, float residuals"
    assert len(rows) == 4, "nothing stays in float for a budget that is kept"


@pytest.mark.parametrize(("max_drop", "tried"), [(100.0, False), (0.0, True)])
def test_forms_that_cost_time_are_tried_only_where_the_budget_is_not_kept(max_drop: float, tried: bool) -> None:
    model, spec = tiny_detector()
    config = QuantConfig("onnxruntime", max_drop=max_drop, max_float=0.5, threads=1, latency_runs=3, cpu="vnni")
    try:
        rows = quantize(model, spec, pictures(4), config).report.pareto
    except BudgetError as e:
        rows = e.pareto
    assert any("smoothed" in row.name for row in rows) is tried
    assert any("most sensitive" in row.name for row in rows) is tried
