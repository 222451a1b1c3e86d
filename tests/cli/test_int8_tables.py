"""What people are told of INT8."""

from __future__ import annotations

from typing import Any

import pytest

from edgedet.commands.int8_tables import CANDIDATE_COLUMNS, candidate_rows, sentences, show_int8


def trial(name: str, *, chosen: bool = False, within: bool = True, speedup: float | None = 1.5) -> dict[str, Any]:
    """A candidate as the manifest has it."""
    return {
        "name": name,
        "drop": 0.25,
        "int8_share": 0.978,
        "speedup": speedup,
        "bytes": 2_060_000,
        "within_budget": within,
        "chosen": chosen,
    }


def report(**changes: Any) -> dict[str, Any]:
    """An engine's report, whole."""
    return {
        "measure": "agreement",
        "pareto": [
            trial("all layers, mse", within=False, speedup=None),
            trial("1 most sensitive in float", chosen=True),
        ],
        "executed": {"macs": 0.978, "layers": 0.95},
        "kept_float": [
            {"layer": "stem", "reason": "sensitive: alone in INT8 it moves the detections by 0.1", "macs": 2_000_000},
            {"layer": "head", "reason": "sensitive: alone in INT8 it moves the detections by 0.2", "macs": 1_000_000},
        ],
        "calibration": {"images": 64, "enough": 32, "duplicates": ["a.jpg"], "unreadable": []},
        "agreement": {"conf": 0.25, "score_shift": -0.0031, "score_spread": 0.02},
        "threshold": 0.2433,
        **changes,
    }


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
    agreement = {"conf": 0.013, "score_shift": 0.0, "score_spread": 0.0}
    text = sentences(report(agreement=agreement, threshold=None))[-1]
    assert "compared down to a score of 0.013" in text
    assert "like those of the device" in text


def test_ranges_that_still_grow() -> None:
    calibration: dict[str, Any] = {"images": 4, "enough": None, "duplicates": [], "unreadable": []}
    assert "more would be better" in sentences(report(calibration=calibration))[2]


def test_engines_without_a_file_show_what_was_tried(capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"failed": "…", "measure": "ap", "pareto": [trial("all layers, mse", within=False)], "recommended": "fp32"}
    assert sentences(failed) == []
    show_int8({"onnxruntime": failed, "openvino": report()})
    shown = capsys.readouterr().out
    assert "INT8 for onnxruntime: points of AP" in shown
    assert "beyond the budget" in shown
    assert "INT8 for openvino: 97.8%" in shown


def test_an_unsearched_file_has_no_candidates() -> None:
    placed = {"searched": False, "executed": {"macs": 1.0, "layers": 1.0}, "kept_float": []}
    assert candidate_rows(placed) == []
    assert len(sentences(placed)) == 1
