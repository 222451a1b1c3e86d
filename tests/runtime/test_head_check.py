"""Outputs against specs, for every kind of head."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from edgedet_runtime.choices import EngineName
from edgedet_runtime.decode import KINDS
from edgedet_runtime.engines import load_engine
from edgedet_runtime.engines.head_check import HEADS, Shape, check_head
from edgedet_runtime.errors import EngineError, ModelFileError
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.postprocess import postprocess
from edgedet_runtime.spec import DecodeSpec, LevelSpec, ModelSpec, PriorSpec
from tests.runtime.tiny_models import TINY_SPEC, tiny_onnx

LEVEL = LevelSpec(8, boxes="b", scores="s", objectness="o")
ANCHORS = LevelSpec(8, boxes="b", scores="s", objectness="o", anchors_px=((8.0, 8.0), (16.0, 16.0)))
SSD = LevelSpec(8, boxes="b", scores="s", anchors_px=((8.0, 8.0), (16.0, 16.0)))
TINY_WH = tuple(float(side) for side in reversed(TINY_SPEC.input.size_hw))

SPECS: dict[str, tuple[DecodeSpec, dict[str, Shape]]] = {
    "anchors": (DecodeSpec("anchors", (ANCHORS,)), {"b": (1, 8, 4, 4), "o": (1, 2, 4, 4), "s": (1, 6, 4, 4)}),
    "points-exp": (DecodeSpec("points-exp", (LEVEL,)), {"b": (1, 4, 4, 4), "o": (1, 1, 4, 4), "s": (1, 3, 4, 4)}),
    "ltrb": (DecodeSpec("ltrb", (LEVEL,), score="cls"), {"b": (1, 4, 4, 4), "o": (1, 1, 4, 4), "s": (1, 3, 4, 4)}),
    "dfl": (DecodeSpec("dfl", (LEVEL,), bins=8), {"b": (1, 32, 4, 4), "o": (1, 1, 4, 4), "s": (1, 3, 4, 4)}),
    "priors": (
        DecodeSpec("priors", (SSD,), score="softmax", unit_xy=(TINY_WH[0], TINY_WH[1]), priors=PriorSpec()),
        {"b": (1, 8, 4, 4), "s": (1, 8, 4, 4)},
    ),
    "queries": (
        DecodeSpec("queries", (LevelSpec(8, boxes="b", scores="s"),), score="cls", suppression="none"),
        {"b": (1, 9, 4), "s": (1, 9, 3)},
    ),
    "decoded": (DecodeSpec("decoded", (LevelSpec(8, boxes="b", scores="b"),)), {"b": (1, 16, 7)}),
    "nms": (DecodeSpec("nms", (LevelSpec(8, boxes="b", scores="b"),)), {"b": (30, 6)}),
}


def spec_of(kind: str, classes: int = 3) -> ModelSpec:
    return TINY_SPEC.replace(decode=SPECS[kind][0], classes=tuple(f"c{i}" for i in range(classes)))


def test_every_kind_says_what_it_needs() -> None:
    assert set(HEADS) == set(KINDS)


@pytest.mark.parametrize("kind", SPECS)
def test_outputs_that_fit(kind: str) -> None:
    shapes = SPECS[kind][1]
    check_head(shapes, spec_of(kind), "model")
    check_head(dict.fromkeys(shapes), spec_of(kind), "model")
    check_head({name: (None,) * len(shape) for name, shape in shapes.items()}, spec_of(kind), "model")


@pytest.mark.parametrize("kind", SPECS)
def test_one_more_of_anything_that_counts_is_refused(kind: str) -> None:
    for name, shape in SPECS[kind][1].items():
        channel = 1 if len(shape) == 4 else len(shape) - 1
        odd = tuple(size + (i == channel) for i, size in enumerate(shape) if size is not None)
        for wrong in (odd, (*shape, 1)):
            with pytest.raises(ModelFileError, match=f"^model: output {name}: expected shape .* do not fit"):
                check_head({**SPECS[kind][1], name: wrong}, spec_of(kind), "model")


@pytest.mark.parametrize("kind", sorted(set(SPECS) - {"nms"}))
@pytest.mark.parametrize("classes", [1, 2, 4])
def test_another_number_of_classes_is_refused(kind: str, classes: int) -> None:
    with pytest.raises(ModelFileError, match="as its spec says"):
        check_head(SPECS[kind][1], spec_of(kind, classes), "model")


@pytest.mark.parametrize("engine", get_args(EngineName))
def test_every_engine_tells_its_shapes(engine: EngineName, tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    loaded = load_engine(engine, path, TINY_SPEC, threads=1)
    assert loaded.output_shapes == {"boxes": (1, 4, 8, 12), "objectness": (1, 1, 8, 12), "scores": (1, 3, 8, 12)}
    loaded.close()
    with pytest.raises(ModelFileError, match=r"output scores: expected shape \(1, 2, \?, \?\) for 2 classes"):
        load_engine(engine, path, TINY_SPEC.replace(classes=("cat", "dog")), threads=1)


@pytest.mark.parametrize("class_id", [3.0, -1.0, np.inf, 1e30])
def test_a_class_that_the_spec_does_not_name(class_id: float) -> None:
    rows = np.array([[0, 0, 8, 8, 0.9, class_id]], np.float32)
    spec = spec_of("nms")
    letterbox = Letterbox.fit((64, 96), spec.input.size_hw, spec.resize)
    with pytest.raises(EngineError, match="expected class ids 0 to 2, as the spec names them"):
        postprocess([rows], letterbox, spec, spec.thresholds)
    with pytest.raises(EngineError, match="expected class ids 0 to 2"):
        postprocess([rows], letterbox, spec, spec.thresholds, wanted=np.ones(3, np.bool_))
