"""Shares of what an engine executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet_export.quantize import audit
from edgedet_runtime.profiling.layers import Layer


def test_shares_are_of_macs_and_of_operations_that_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (
        Layer("a", "Conv", "int8", 1.0, 300, 8),
        Layer("b", "Conv", "int8", 3.0, 300, 8),
        Layer("c", "Conv", "fp32", 2.5, 200, 8),
        Layer("d", "Sigmoid", "fp32", 0.25, 0, 8),
        Layer("e", "Concat", "int8", 0.5, 0, 8),
        Layer("f", "Transpose", "int8", 9.0, 0, 8),
        Layer("g", "QuantizeLinear", "int8", 0.75, 0, 8),
        Layer("h", "Reorder", "fp32", 0.125, 0, 8),
    )
    asked: list[tuple[Any, ...]] = []

    def profile(engine: str, path: Path, tensor: Any, *, threads: int, runs: int) -> tuple[Layer, ...]:
        asked.append((engine, path, threads, runs))
        return layers

    monkeypatch.setattr(audit, "profile_layers", profile)
    found = audit.audit_file("openvino", Path("model.xml"), np.zeros(1), threads=3)
    assert asked == [("openvino", Path("model.xml"), 3, 5)]
    assert found.macs == 600 / 800
    assert found.layers == 3 / 5, "conversions are no work"
    assert found.kernels[:3] == (("Transpose int8", 1, 9.0), ("Conv int8", 2, 4.0), ("Conv fp32", 1, 2.5))
    assert [count for _, count, _ in found.kernels] == [1, 2, 1, 1, 1, 1, 1]


def test_a_file_without_work_has_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "profile_layers", lambda *_, **__: ())
    assert audit.audit_file("onnxruntime", Path("m.onnx"), np.zeros(1), threads=1) == audit.ExecutedPrecision(0, 0, ())


def test_times_are_rounded_to_a_microsecond(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (Layer("a", "Conv", "int8", 0.0123456, 1, 8), Layer("b", "Conv", "int8", 0.1, 1, 8))
    monkeypatch.setattr(audit, "profile_layers", lambda *_, **__: layers)
    found = audit.audit_file("onnxruntime", Path("m.onnx"), np.zeros(1), threads=1)
    assert found.kernels == (("Conv int8", 2, 0.112),)
