"""Which candidate is written: noise in the latencies decides nothing."""

from __future__ import annotations

import pytest

from edgedet_export.quantize import QuantConfig, quantize
from edgedet_export.quantize.latency import Latencies

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
