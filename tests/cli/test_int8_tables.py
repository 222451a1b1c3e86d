"""What people are told of INT8."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgedet.commands.int8_tables import CANDIDATE_COLUMNS, candidate_rows, sentences, show_int8
from edgedet_runtime.bundle.quantization import (
    AgreementFacts,
    CalibrationFacts,
    CandidateFacts,
    ExecutedFacts,
    FloatLayerFacts,
    QuantizationFacts,
)


def trial(name: str, *, chosen: bool = False, within: bool = True, speedup: float | None = 1.5) -> CandidateFacts:
    """A candidate as the manifest has it."""
    return CandidateFacts(
        name=name,
        drop=0.25,
        ap=None,
        agreement=0.9,
        int8_share=0.978,
        speedup=speedup,
        bytes=2_060_000,
        within_budget=within,
        chosen=chosen,
    )


WHOLE = QuantizationFacts(
    recommended="int8",
    measure="agreement",
    pareto=(
        trial("all layers, mse", within=False, speedup=None),
        trial("1 most sensitive in float", chosen=True),
    ),
    executed=ExecutedFacts(0.978, 0.95, ()),
    kept_float=(
        FloatLayerFacts("stem", "sensitive: alone in INT8 it moves the detections by 0.1", 2_000_000),
        FloatLayerFacts("head", "sensitive: alone in INT8 it moves the detections by 0.2", 1_000_000),
    ),
    calibration=CalibrationFacts(64, 32, (), ("a.jpg",), (), ""),
    agreement=AgreementFacts(0.9, 0.25, 40, 38, 1, -0.0031, 0.02, 0.2433),
    threshold=0.2433,
)


def report(**changes: Any) -> QuantizationFacts:
    """An engine's report, whole."""
    return replace(WHOLE, **changes)


def test_candidates_in_a_table() -> None:
    rows = candidate_rows(report())
    assert all(len(row) == len(CANDIDATE_COLUMNS) for row in rows)
    assert rows[0] == ["all layers, mse", "0.25", "97.8%", "", "2.06", "beyond the budget"]
    assert rows[1][3:] == ["1.50x", "2.06", "chosen"]


def test_sentences() -> None:
    found = sentences(report())
    assert found[0] == "97.8% of the MACs and 95% of the operations run in INT8"
    assert found[1] == "2 stay in float (sensitive; 3.0 MMACs): stem, head"
    assert found[2] == "calibrated on 64 pictures, 32 were enough; 1 left out as duplicates, such as a.jpg"
    assert found[3].endswith("a threshold of 0.243 gives as many boxes as 0.25 in FP32")


def test_no_threshold_is_offered_where_the_pictures_hold_few_objects() -> None:
    agreement = AgreementFacts(0.9, 0.013, 4, 4, 0, 0.0, 0.0, 0.013)
    text = sentences(report(agreement=agreement, threshold=None))[-1]
    assert "compared down to a score of 0.013" in text
    assert "like those of the device" in text


def test_ranges_that_still_grow() -> None:
    calibration = CalibrationFacts(4, None, (), (), (), "")
    assert "more would be better" in sentences(report(calibration=calibration))[2]


def test_engines_without_a_file_show_what_was_tried(capsys: pytest.CaptureFixture[str]) -> None:
    tried = (trial("all layers, mse", within=False),)
    failed = QuantizationFacts(recommended="fp32", failed="…", measure="ap", pareto=tried)
    assert sentences(failed) == []
    show_int8({"onnxruntime": failed, "openvino": report()})
    shown = capsys.readouterr().out
    assert "INT8 for onnxruntime: points of AP" in shown
    assert "beyond the budget" in shown
    assert "INT8 for openvino: 97.8%" in shown


def test_an_unsearched_file_has_no_candidates() -> None:
    placed = QuantizationFacts(recommended="fp32", searched=False, executed=ExecutedFacts(1.0, 1.0, ()))
    assert candidate_rows(placed) == []
    assert len(sentences(placed)) == 1
