"""INT8 without a search: the plain placement of an engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgedet_export.config import ExportConfig
from edgedet_export.quantize import QuantConfig, get_target, measure, quantize_unjudged
from edgedet_runtime.engines import EngineName
from edgedet_runtime.errors import InputError

from .tiny_detector import pictures, tiny_detector


@pytest.mark.parametrize(
    ("engine", "activation", "kept"),
    [
        ("onnxruntime", "silu", set()),  # the stem reads bytes, in cells
        ("onnxruntime", "Relu", {"stem"}),  # scaled pixels: three float channels
        ("openvino", "silu", {"depthwise"}),
    ],
)
def test_everything_runs_in_int8_except_what_is_faster_in_float(
    tmp_path: Path, engine: EngineName, activation: str, kept: set[str]
) -> None:
    model, spec = tiny_detector(activation=activation)
    config = QuantConfig(engine, max_float=0.5, threads=1, cpu="vnni")
    measured = measure(model, spec, pictures(3), config)
    placed = quantize_unjudged(measured, spec, config)
    assert {layer.layer for layer in placed.kept_float} == kept
    assert 0.5 < placed.int8_share <= 1
    target = get_target(engine)
    target.write(tmp_path / target.file, placed.model, spec)
    executed = target.audit(tmp_path / target.file, spec, next(measured.pictures.tensors(spec)), threads=1)
    assert executed.macs == pytest.approx(placed.int8_share), "all that was planned ran in INT8"
    assert [o.name for o in placed.model.graph.output] == [o.name for o in model.graph.output]
    report = json.loads(json.dumps(placed.to_dict()))
    assert report["searched"] is False
    assert report["cpu"] == "vnni"


def test_labels_need_a_search() -> None:
    with pytest.raises(InputError, match=r"^data: it judges candidates of the search"):
        ExportConfig(int8=True, search=False, data=Path("coco.json"))
