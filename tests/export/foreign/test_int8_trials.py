"""INT8 that is made of a foreign network meets its engine in a child process before this one loads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgedet_export import int8, pipeline
from edgedet_export.config import ExportConfig
from edgedet_export.quantize import trials
from edgedet_runtime.engines import trial_load
from edgedet_runtime.errors import EngineDeathError
from tests.export.foreign.conftest import Export

pytestmark = pytest.mark.slow


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return engine and name of what was tried; the children are real."""
    tried: list[tuple[str, str]] = []
    real = trial_load.try_in_child

    def recorded(engine: Any, source: Any, spec: Any, **options: Any) -> None:
        tried.append((engine, options.get("what") or Path(source).name))
        real(engine, source, spec, **options)

    for module in (trials, int8, trial_load):
        monkeypatch.setattr(module, "try_in_child", recorded)
    return tried


def config(out: Path, **options: Any) -> ExportConfig:
    return ExportConfig(out=out, int8=True, family="yolox", max_drop=100.0, max_float=1.0, **options)


@pytest.mark.parametrize("search", [True, False])
def test_each_candidate_and_each_file(
    export: Export,
    point_detector: Callable[..., torch.nn.Module],
    seen: list[tuple[str, str]],
    tmp_path: Path,
    search: bool,
) -> None:
    path = export(point_detector("decoded"))
    pipeline.export(path, config(tmp_path / "bundle", formats=("onnx",), search=search))
    assert (("onnxruntime", "the quantized network") in seen) is search
    assert [f for e, f in seen if e == "onnxruntime" and f.endswith(".onnx")] == [
        "model.int8.onnx",  # before it is audited
        "model.onnx",
        "model.int8.onnx",
    ]


def test_a_network_that_was_built_here_needs_none(seen: list[tuple[str, str]], tmp_path: Path) -> None:
    pipeline.export(
        "edgecode-n", ExportConfig(out=tmp_path / "b", formats=("onnx",), imgsz=(64, 64), int8=True, search=False)
    )
    assert seen == []


def test_a_candidate_that_kills_the_engine(
    export: Export,
    point_detector: Callable[..., torch.nn.Module],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def die(*_: object, what: str, **__: object) -> None:
        raise EngineDeathError(f"{what}: in a trial process onnxruntime died of a signal")

    monkeypatch.setattr(trials, "try_in_child", die)
    path = export(point_detector("decoded"))
    with pytest.raises(EngineDeathError, match="the quantized network: in a trial process onnxruntime died"):
        pipeline.export(path, config(tmp_path / "bundle", formats=("onnx",)))
    assert not (tmp_path / "bundle").exists()
