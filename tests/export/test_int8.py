"""The INT8 step: which engines get a file, and what is said of those that do not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from edgedet_export import int8
from edgedet_export.config import ExportConfig
from edgedet_export.int8 import Int8Files, NoInt8Error, add_int8
from edgedet_export.quantize.report import BudgetError
from edgedet_export.to_onnx import to_onnx
from edgedet_models.builtin import calibration_images
from edgedet_runtime.bundle.quantization import CandidateFacts, QuantizationFacts
from edgedet_runtime.errors import CheckFailedError
from tests.export.tiny import TinyDetector, tiny_spec

LOST = CandidateFacts("all layers, mse", 1.5, None, 0.4, 1.0, None, 1000, within_budget=False, chosen=False)


def run(tmp_path: Path, config: ExportConfig) -> Int8Files:
    spec = tiny_spec()

    return add_int8(
        tmp_path,
        to_onnx(TinyDetector(spec)),
        spec,
        config,
        calibration=calibration_images()[:4],
        progress=lambda text: None,
    )


@pytest.mark.slow
def test_an_engine_without_a_file_in_budget_stays_with_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = int8.__dict__["quantize"]

    def quantize(model: Any, spec: Any, images: Any, config: Any, **more: Any) -> Any:
        if config.engine == "onnxruntime":
            raise BudgetError("INT8 for onnxruntime: too much is lost", "agreement", (LOST,))
        return real(model, spec, images, dataclasses.replace(config, max_drop=100.0), **more)

    monkeypatch.setattr(int8, "quantize", quantize)
    made = run(tmp_path, ExportConfig(int8=True))
    assert [file.engine for file in made.written] == ["openvino"]
    assert made.reports["onnxruntime"] == QuantizationFacts(
        recommended="fp32",
        failed="INT8 for onnxruntime: too much is lost",
        measure="agreement",
        pareto=(CandidateFacts(**dataclasses.asdict(LOST)),),
    )
    assert made.notes[0] == "INT8 for onnxruntime: too much is lost"
    assert not (tmp_path / "model.int8.onnx").exists()


def test_no_engine_in_budget_is_a_failed_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quantize(*_: Any, **__: Any) -> Any:
        raise BudgetError("too much is lost", "agreement", (LOST,))

    monkeypatch.setattr(int8, "quantize", quantize)
    with pytest.raises(NoInt8Error, match="too much is lost; too much is lost") as caught:
        run(tmp_path, ExportConfig(int8=True))
    assert isinstance(caught.value, CheckFailedError)
    assert {engine: report.pareto[0].name for engine, report in caught.value.reports.items()} == {
        "onnxruntime": "all layers, mse",
        "openvino": "all layers, mse",
    }
    assert list(tmp_path.iterdir()) == []
