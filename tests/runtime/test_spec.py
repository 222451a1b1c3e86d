"""ModelSpec: strict reading, exact round trip, and the published schema says the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from importlib import resources
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedet_runtime import spec as spec_module
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.spec import (
    BoxKind,
    Clip,
    ColorOrder,
    DecodeSpec,
    InputSpec,
    Layout,
    LevelSpec,
    ModelSpec,
    PriorSpec,
    ResizeSpec,
    ScoreKind,
    Suppression,
    Thresholds,
    TopKPer,
)
from tests.runtime.tiny_models import TINY_SPEC

SCHEMA: dict[str, Any] = json.loads(
    resources.files("edgedet_runtime").joinpath("spec.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

finite = st.floats(-1e6, 1e6)
positive = st.floats(1e-6, 1e6)
unit = st.floats(0, 1)
names = st.text(min_size=1, max_size=8)
triples = st.tuples(finite, finite, finite)


@st.composite
def inputs(draw: st.DrawFn) -> InputSpec:
    size: dict[str, Any] = {"height": draw(st.integers(1, 16384)), "width": draw(st.integers(1, 16384))}
    layout: Layout = draw(st.sampled_from(["NCHW", "NHWC"]))
    color: ColorOrder = draw(st.sampled_from(["BGR", "RGB"]))
    if draw(st.booleans()):
        return InputSpec(draw(names), **size, layout=layout, color=color)
    std = draw(st.tuples(positive, positive, positive))
    scale = draw(positive)
    return InputSpec(draw(names), **size, layout=layout, dtype="float32", scale=scale, mean=draw(triples), std=std)


def _prior_decode(draw: st.DrawFn) -> DecodeSpec:
    """Return rules of priors for an input whose size is not known yet; `sized` sets it."""
    pairs = draw(st.lists(st.tuples(positive, positive), min_size=1, max_size=3).map(tuple))
    level = LevelSpec(draw(st.integers(1, 128)), draw(names), draw(names), draw(names), anchors_px=pairs)
    cap = draw(st.none() | positive)
    rules = PriorSpec(
        box=draw(st.sampled_from(["exp", "linear", "sides"])),
        variances=draw(st.tuples(positive, positive, positive, positive)),
        step=draw(st.sampled_from(["stride", "grid", "grid-floor"])),
        clamp=draw(st.booleans()),
        cap=cap,
        cap_below=cap is not None and draw(st.booleans()),
        scales=draw(st.booleans()),
        inclusive=draw(st.booleans()),
    )
    score: ScoreKind = draw(st.sampled_from(["cls", "softmax", "sqrt(obj*cls)"]))
    clip: Clip = draw(st.sampled_from(["after-nms", "before-nms", "before-nms-drop-empty"]))
    per: TopKPer = draw(st.sampled_from(["level", "class"]))
    k = draw(st.integers(0, 1000))
    offset = draw(finite)
    return DecodeSpec("priors", (level,), score, cell_offset=offset, priors=rules, clip=clip, top_k=k, top_k_per=per)


@st.composite
def decodes(draw: st.DrawFn) -> DecodeSpec:
    kind: BoxKind = draw(
        st.sampled_from(["anchors", "points-exp", "ltrb", "dfl", "priors", "queries", "decoded", "nms"])
    )
    if kind == "priors":
        return _prior_decode(draw)
    if kind == "queries":
        only = LevelSpec(draw(st.integers(1, 128)), draw(names), draw(names))
        return DecodeSpec(kind, (only,), "cls", suppression="none")
    score: ScoreKind = draw(st.sampled_from(["obj*cls", "cls", "obj"]))
    pairs = st.lists(st.tuples(positive, positive), min_size=1, max_size=3).map(tuple)
    level = st.builds(
        LevelSpec,
        stride=st.integers(1, 128),
        boxes=names,
        scores=names if "cls" in score else st.none(),
        objectness=names if "obj" in score else st.none(),
        anchors_px=pairs if kind == "anchors" else st.just(()),
        scale_xy=finite,
    )
    levels = tuple(draw(st.lists(level, min_size=1, max_size=3)))
    wh: Literal["exp", "square"] = draw(st.sampled_from(["exp", "square"]))
    suppression: Suppression = draw(st.sampled_from(["nms", "none"]))
    return DecodeSpec(kind, levels, score, wh, draw(st.integers(2, 32)), draw(finite), suppression)


def in_fractions(spec: ModelSpec) -> ModelSpec:
    """Return a contract whose queries, where it has any, are fractions of the input."""
    if spec.decode.kind != "queries":
        return spec
    return spec.replace(decode=dataclasses.replace(spec.decode, unit_xy=(spec.input.width, spec.input.height)))


def build_spec(input: InputSpec, decode: DecodeSpec, **more: Any) -> ModelSpec:
    """Build a contract; priors take the size of the input."""
    if decode.kind == "priors":
        decode = dataclasses.replace(decode, unit_xy=(float(input.width), float(input.height)))
    return ModelSpec(input=input, decode=decode, **more)


specs = st.builds(
    build_spec,
    family=names,
    variant=names,
    input=inputs(),
    resize=st.builds(
        ResizeSpec,
        mode=st.just("letterbox-topleft"),
        per_axis=st.booleans(),
    )
    | st.builds(
        ResizeSpec,
        mode=st.sampled_from(["letterbox", "letterbox-topleft", "stretch"]),
        pad_bgr=st.tuples(*[st.integers(0, 255)] * 3),
        rounding=st.sampled_from(["round", "floor"]),
        scale_up=st.booleans(),
        interpolation=st.sampled_from(["linear", "linear-exact", "area-down", "linear-corner"]),
    ),
    decode=decodes(),
    classes=st.lists(names, min_size=1, max_size=4).map(tuple),
    thresholds=st.builds(
        Thresholds,
        conf=unit,
        iou=unit,
        max_det=st.integers(1, 10**6),
        multi_label=st.booleans(),
        class_agnostic=st.booleans(),
    ),
    licence=st.text(max_size=8),
)


@settings(deadline=None, max_examples=60)
@given(spec=specs | specs.map(in_fractions))
def test_every_spec_survives_json_and_fits_the_schema(spec: ModelSpec) -> None:
    text = spec.to_json()
    assert ModelSpec.from_json(text) == spec
    VALIDATOR.validate(json.loads(text))


def test_a_spec_is_written_as_the_lowest_version_that_can_say_it() -> None:
    plain = json.loads(TINY_SPEC.to_json())
    assert plain["spec_version"] == 1
    assert "suppression" not in plain["decode"], "an earlier runtime refuses fields that it does not know"
    free = TINY_SPEC.replace(decode=dataclasses.replace(TINY_SPEC.decode, suppression="none"))
    data = json.loads(free.to_json())
    assert (data["spec_version"], data["decode"]["suppression"]) == (2, "none")
    assert free.replace(decode=TINY_SPEC.decode) == TINY_SPEC


def test_a_later_version_may_say_what_an_earlier_one_says() -> None:
    assert ModelSpec.from_json(json.dumps(changed("spec_version", 2))) == TINY_SPEC
    assert ModelSpec.from_json(json.dumps(changed("spec_version", ...))) == TINY_SPEC


def test_the_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", [ModelSpec, InputSpec, ResizeSpec, LevelSpec, DecodeSpec, PriorSpec, Thresholds])
def test_schema_and_dataclass_have_the_same_fields(kind: type) -> None:
    node = SCHEMA if kind is ModelSpec else SCHEMA["$defs"][kind.__name__]
    fields = dataclasses.fields(kind)
    assert set(node["properties"]) == {f.name for f in fields}
    required = {f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    assert set(node.get("required", ())) == required
    assert node["additionalProperties"] is False


@pytest.mark.parametrize(
    "kind", ["Layout", "Dtype", "ColorOrder", "ResizeMode", "BoxKind", "ScoreKind", "Suppression", "Clip", "TopKPer"]
)
def test_schema_and_literals_agree(kind: str) -> None:
    options = list(getattr(spec_module, kind).__args__)
    enums = [
        prop["enum"]
        for node in SCHEMA["$defs"].values()
        for prop in node.get("properties", {}).values()
        if "enum" in prop
    ]
    assert options in enums


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the tiny spec's JSON with one value replaced; a path like ``input.height``; ``...`` deletes."""
    data: dict[str, Any] = json.loads(TINY_SPEC.to_json())
    node: Any = data
    *parents, last = path.split(".")
    for key in parents:
        node = node[int(key)] if key.isdecimal() else node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return data


BAD = {
    "unknown field": ("color", "red"),
    "missing field": ("input.name", ...),
    "missing classes": ("classes", ...),
    "no classes": ("classes", []),
    "class is a number": ("classes", [1]),
    "height 0": ("input.height", 0),
    "height is a bool": ("input.height", True),
    "height is text": ("input.height", "640"),
    "unknown layout": ("input.layout", "CHW"),
    "uint8 with scale": ("input.scale", 0.5),
    "uint8 with mean": ("input.mean", [1, 2, 3]),
    "two means": ("input.mean", [0, 0]),
    "zero std": ("input.std", [1, 1, 0]),
    "empty name": ("input.name", ""),
    "pad 256": ("resize.pad_bgr", [0, 0, 256]),
    "unknown mode": ("resize.mode", "crop"),
    "no levels": ("decode.levels", []),
    "kind": ("decode.kind", "ssd"),
    "anchors without anchors": ("decode.kind", "anchors"),
    "dfl without bins": ("decode.kind", "dfl"),
    "stride 0": ("decode.levels.0.stride", 0),
    "negative anchor": ("decode.levels.0.anchors_px", [[-1, 2]]),
    "conf 1.5": ("thresholds.conf", 1.5),
    "max_det 0": ("thresholds.max_det", 0),
    "another version": ("spec_version", 3),
    "version is text": ("spec_version", "1"),
    "version is a bool": ("spec_version", True),
    "version 1 without suppression": ("decode.suppression", "none"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_specs_are_refused_by_both(case: str) -> None:
    data = changed(*BAD[case])
    assert not VALIDATOR.is_valid(data)
    with pytest.raises(ModelFileError, match=r"^model spec: .*expected .*got") as error:
        ModelSpec.from_json(json.dumps(data))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5", '"x"'])
def test_not_even_an_object(text: str) -> None:
    with pytest.raises(ModelFileError, match=r"^model spec: "):
        ModelSpec.from_json(text)


def test_output_names_are_in_order_and_unique() -> None:
    assert TINY_SPEC.decode.output_names == ("boxes", "objectness", "scores")
    single = DecodeSpec("nms", (LevelSpec(1, boxes="out", scores="out"),))
    assert single.output_names == ("out",)


def _level(**changes: Any) -> LevelSpec:
    return LevelSpec(**{"stride": 8, "boxes": "b", "scores": "s", "objectness": "o", **changes})


EDGES: dict[str, tuple[Callable[[Any], object], list[Any], list[Any]]] = {
    "input.name": (lambda v: InputSpec(v, 8, 8), ["x"], [""]),
    "input.height": (lambda v: InputSpec("x", v, 8), [1, 16384], [0, -1, 16385]),
    "input.width": (lambda v: InputSpec("x", 8, v), [1, 16384], [0, -1, 16385]),
    "input.scale": (
        lambda v: InputSpec("x", 8, 8, dtype="float32", scale=v),
        [1e-9, 7.0],
        [0.0, -1.0, float("inf"), float("nan")],
    ),
    "input.mean": (
        lambda v: InputSpec("x", 8, 8, dtype="float32", mean=(0, v, 0)),
        [-3.0, 0.0, 3.0],
        [float("inf"), float("nan")],
    ),
    "input.std": (
        lambda v: InputSpec("x", 8, 8, dtype="float32", std=(1, 1, v)),
        [1e-9, 3.0],
        [0.0, -1.0, float("inf"), float("nan")],
    ),
    "input.dtype": (
        lambda v: InputSpec("x", 8, 8, **v),
        [{}, {"dtype": "float32", "scale": 2.0}, {"dtype": "float32", "mean": (1, 0, 0)}],
        [{"scale": 2.0}, {"mean": (0, 0, 1)}, {"std": (1, 2, 1)}],
    ),
    "resize.pad_bgr": (lambda v: ResizeSpec(pad_bgr=(0, v, 0)), [0, 255], [-1, 256]),
    "level.stride": (lambda v: _level(stride=v), [1, 64], [0, -8]),
    "level.anchors_px": (
        lambda v: _level(anchors_px=((4.0, 4.0), v)),
        [(0.5, 0.5)],
        [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, -1.0)],
    ),
    "level": (
        lambda v: _level(**dict(zip(("scores", "objectness"), v, strict=True))),
        [("s", None), (None, "o"), ("s", "o")],
        [(None, None)],
    ),
    "decode.levels": (lambda v: DecodeSpec("ltrb", v), [(_level(),)], [()]),
    "decode.levels of anchors": (
        lambda v: DecodeSpec("anchors", (_level(anchors_px=((1.0, 1.0),)), _level(anchors_px=v))),
        [((1.0, 1.0),)],
        [()],
    ),
    "decode.bins": (lambda v: DecodeSpec("dfl", (_level(),), bins=v), [2, 16], [1, 0]),
    "level.objectness": (
        lambda v: DecodeSpec("ltrb", (_level(), _level(objectness=v[0])), v[1]),
        [("o", "obj*cls"), (None, "cls"), ("o", "obj")],
        [(None, "obj*cls"), (None, "obj")],
    ),
    "level.scores": (
        lambda v: DecodeSpec("ltrb", (_level(), _level(scores=v[0])), v[1]),
        [("s", "obj*cls"), (None, "obj"), ("s", "cls")],
        [(None, "obj*cls"), (None, "cls")],
    ),
    "thresholds.conf": (lambda v: Thresholds(conf=v), [0.0, 1.0], [-0.01, 1.01, float("nan")]),
    "thresholds.iou": (lambda v: Thresholds(iou=v), [0.0, 1.0], [-0.01, 1.01, float("nan")]),
    "thresholds.max_det": (lambda v: Thresholds(max_det=v), [1, 10**6], [0, -1]),
    "classes": (lambda v: TINY_SPEC.replace(classes=v), [("a",), ("a", "b")], [()]),
}


@pytest.mark.parametrize("case", EDGES)
def test_each_value_up_to_its_edges(case: str) -> None:
    make, good, bad = EDGES[case]
    for value in good:
        make(value)
    for value in bad:
        with pytest.raises(ModelFileError, match=rf"model spec: {case.split(' ')[0]}: expected .*, got "):
            make(value)


def test_outputs_of_finished_boxes_need_no_scores() -> None:
    """A decoded output names itself; `score` says how it came about, not which outputs there are."""
    level = LevelSpec(1, boxes="out", scores="out")
    for kind in ("decoded", "nms"):
        assert DecodeSpec(kind, (level,), "obj*cls").output_names == ("out",)


def test_output_names_are_in_order_and_each_once() -> None:
    levels = (_level(), _level(boxes="b1", objectness=None, scores="s1"), _level(boxes="b2", scores=None))
    assert DecodeSpec("nms", levels).output_names == ("b", "o", "s", "b1", "s1", "b2")


@pytest.mark.parametrize(
    ("changes", "identity"),
    [({}, True), ({"scale": 0.5}, False), ({"mean": (0, 0, 1)}, False), ({"std": (1, 1, 2)}, False)],
)
def test_identity_of_the_input(changes: dict[str, Any], identity: bool) -> None:
    assert InputSpec("x", 4, 6, dtype="float32", **changes).is_identity is identity
    assert InputSpec("x", 4, 6).size_hw == (4, 6)


def test_defaults_are_the_published_ones() -> None:
    """Files leave fields out that have their defaults; another default would change what those files say."""
    assert dataclasses.asdict(Thresholds()) == {
        "conf": 0.25, "iou": 0.45, "max_det": 300, "multi_label": False, "class_agnostic": False,
    }  # fmt: skip
    assert dataclasses.asdict(ResizeSpec()) == {
        "mode": "letterbox", "pad_bgr": (114, 114, 114), "rounding": "round", "scale_up": True,
        "interpolation": "linear", "per_axis": False,
    }  # fmt: skip
    decode = DecodeSpec("ltrb", (LevelSpec(8, "b", "s", "o"),))
    assert (decode.score, decode.wh, decode.bins, decode.cell_offset, decode.suppression) == (
        "obj*cls", "square", 0, 0.5, "nms",
    )  # fmt: skip
    assert (decode.levels[0].anchors_px, decode.levels[0].scale_xy) == ((), 1.0)
    read = InputSpec("x", 4, 6)
    assert (read.layout, read.dtype, read.color, read.scale) == ("NHWC", "uint8", "BGR", 1.0)
    assert (read.mean, read.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_the_version_is_found_out_not_given() -> None:
    with pytest.raises(TypeError, match="spec_version"):
        ModelSpec(**{**{f.name: getattr(TINY_SPEC, f.name) for f in dataclasses.fields(TINY_SPEC)}, "spec_version": 2})


@pytest.mark.parametrize("value", [True, "0.5", None, [0.5]], ids=str)
def test_a_threshold_is_a_number(value: object) -> None:
    data = json.loads(TINY_SPEC.to_json())
    data["thresholds"]["conf"] = value
    with pytest.raises(ModelFileError, match=r"thresholds\.conf: expected a number"):
        ModelSpec.from_json(json.dumps(data))
