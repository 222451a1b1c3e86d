"""Foreign ONNX files of every form that is supported: recognised, cut, equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgedet_export.foreign import ForeignModel, SpecOverrides, read_foreign
from edgedet_export.graph.edits import NewTensors, by_name, set_input
from edgedet_export.graph.values import constant
from edgedet_export.onnx_passes import PassRecord
from edgedet_models.decode import decode
from edgedet_runtime.errors import CheckFailedError, InputError, ModelFileError
from edgedet_runtime.spec import ModelSpec

Export = Callable[..., Path]
Build = Callable[..., nn.Module]
Anchors = tuple[tuple[tuple[float, float], ...], ...]
SIZE_HW = (64, 96)


def raw_outputs(foreign: ForeignModel, images: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    onnx.checker.check_model(foreign.model, full_check=True)
    session = ort.InferenceSession(foreign.model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert tuple(o.name for o in session.get_outputs()) == foreign.spec.decode.output_names
    outputs: list[np.ndarray[Any, Any]] = session.run(None, {"images": images})
    return outputs


def dense(foreign: ForeignModel, images: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Decode the cut network's outputs: boxes xyxy (M, 4), scores (M, classes)."""
    boxes, scores = decode(foreign.spec, [torch.from_numpy(o) for o in raw_outputs(foreign, images)])
    return boxes[0].numpy(), scores[0].numpy()


def picture(size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random((1, 3, *size_hw), np.float32)


def corners(xywh: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.concatenate([xywh[:, :2] - xywh[:, 2:] / 2, xywh[:, :2] + xywh[:, 2:] / 2], 1)


@pytest.mark.parametrize(
    "tail",
    [
        "decoded",
        pytest.param("v7-split", marks=pytest.mark.slow),
        pytest.param("corners", marks=pytest.mark.slow),
        pytest.param("normalised", marks=pytest.mark.slow),
        pytest.param("product", marks=pytest.mark.slow),
        pytest.param("cells-first", marks=pytest.mark.slow),
        pytest.param("coarse-first", marks=pytest.mark.slow),
        pytest.param("transposed", marks=pytest.mark.slow),
        pytest.param("two-outputs", marks=pytest.mark.slow),
        "with-raw",
    ],
)
def test_decoded_anchor_files_tell_everything(
    export: Export, anchor_detector: Build, anchors_px: Anchors, tail: str
) -> None:
    module = anchor_detector(tail)
    foreign = read_foreign(export(module))
    spec = foreign.spec
    assert spec.family == "yolov5"
    assert spec.decode.kind == "anchors"
    assert [level.stride for level in spec.decode.levels] == [8, 16, 32]
    for level, expected in zip(spec.decode.levels, anchors_px, strict=True):
        np.testing.assert_allclose(level.anchors_px, expected, rtol=1e-5)
        assert level.scale_xy == 2.0
    assert spec.classes == tuple(f"class{i}" for i in range(5))
    assert (spec.input.color, spec.input.scale, spec.input.dtype) == ("RGB", 1 / 255, "float32")
    assert foreign.difference.boxes_px < 1e-2

    plain = anchor_detector("decoded")
    plain.load_state_dict(module.state_dict())
    with torch.no_grad():
        rows = plain(torch.from_numpy(picture()))[0].numpy()
    boxes, scores = dense(foreign, picture())
    np.testing.assert_allclose(boxes, corners(rows[:, :4]), atol=1e-3)
    np.testing.assert_allclose(scores, rows[:, 4:5] * rows[:, 5:], atol=1e-5)


@pytest.mark.parametrize(
    "tail", ["raw-5d", *(pytest.param(t, marks=pytest.mark.slow) for t in ("raw-4d", "raw-5d-sigmoid"))]
)
def test_raw_anchor_files_need_family_and_anchors(
    export: Export, anchor_detector: Build, anchors_px: Anchors, tail: str
) -> None:
    path = export(anchor_detector(tail))
    with pytest.raises(ModelFileError, match=r"`family` .*yolov5 or yolov7"):
        read_foreign(path)
    foreign = read_foreign(path, family="yolov5")
    assert foreign.spec.decode.levels[0].anchors_px[0] == (10.0, 13.0)
    assert any("standard" in note for note in foreign.notes)
    given = tuple(tuple((w + 1, h) for w, h in level) for level in anchors_px)
    foreign = read_foreign(path, family="yolov7", overrides=SpecOverrides(anchors_px=given))
    assert foreign.spec.decode.levels[2].anchors_px == given[2]
    assert foreign.spec.family == "yolov7"


@pytest.mark.parametrize("classes", [1, 4, 80])
def test_joint_convolution_is_split_exactly(export: Export, anchor_detector: Build, classes: int) -> None:
    module = anchor_detector("raw-4d", classes)
    foreign = read_foreign(export(module), family="yolov5")
    with torch.no_grad():
        joint = [t.numpy().reshape(3, 5 + classes, *t.shape[2:]) for t in module(torch.from_numpy(picture()))]
    got = dict(zip(foreign.spec.decode.output_names, raw_outputs(foreign, picture()), strict=True))
    for i, t in enumerate(joint):
        h, w = t.shape[2:]
        np.testing.assert_allclose(got[f"boxes_{i}"][0], t[:, :4].reshape(12, h, w), atol=1e-5)
        np.testing.assert_allclose(got[f"objectness_{i}"][0], t[:, 4].reshape(3, h, w), atol=1e-5)
        np.testing.assert_allclose(got[f"scores_{i}"][0], t[:, 5:].reshape(3 * classes, h, w), atol=1e-5)
    if classes == 80:
        assert foreign.spec.classes[0] == "person"


def test_implicit_layers_are_folded(export: Export, anchor_detector: Build) -> None:
    module = anchor_detector("decoded", implicit=True)
    foreign = read_foreign(export(module), family="yolov7")
    assert foreign.spec.family == "yolov7"
    assert "folded into convolutions: 3 Mul" in foreign.notes
    assert "folded into convolutions: 3 Add" in foreign.notes
    with torch.no_grad():
        rows = module(torch.from_numpy(picture()))[0].numpy()
    boxes, _ = dense(foreign, picture())
    np.testing.assert_allclose(boxes, corners(rows[:, :4]), atol=1e-3)


def test_yolov7_with_one_class_scores_by_objectness(export: Export, anchor_detector: Build) -> None:
    foreign = read_foreign(export(anchor_detector("decoded", 1)), family="yolov7")
    assert foreign.spec.decode.score == "obj"
    assert foreign.spec.decode.output_names == tuple(f"{k}_{i}" for i in range(3) for k in ("boxes", "objectness"))


@pytest.mark.parametrize(
    ("tail", "classes"),
    [
        ("flat", 1),
        ("decoded", 4),
        *(pytest.param(t, c, marks=pytest.mark.slow) for t in ("levels", "raw-levels") for c in (1, 4, 5)),
        *(pytest.param(t, 5, marks=pytest.mark.slow) for t in ("flat", "decoded")),
    ],
)
def test_yolox_forms(export: Export, point_detector: Build, tail: str, classes: int) -> None:
    module = point_detector(tail, classes)
    foreign = read_foreign(export(module), family=None if tail == "decoded" else "yolox")
    spec = foreign.spec
    assert (spec.family, spec.decode.kind, spec.decode.score) == ("yolox", "points-exp", "obj*cls")
    assert (spec.input.color, spec.input.scale, spec.resize.mode) == ("BGR", 1.0, "letterbox-topleft")
    plain = point_detector("decoded", classes)
    plain.load_state_dict(module.state_dict())
    with torch.no_grad():
        rows = plain(torch.from_numpy(picture()))[0].numpy()
    boxes, scores = dense(foreign, picture())
    np.testing.assert_allclose(boxes, corners(rows[:, :4]), atol=1e-3)
    np.testing.assert_allclose(scores, rows[:, 4:5] * rows[:, 5:], atol=1e-5)


@pytest.mark.parametrize(("bins", "kind"), [(1, "ltrb"), (9, "dfl")])
@pytest.mark.parametrize("tail", ["v6", "v8"])
def test_sides_with_and_without_distribution(
    export: Export, point_detector: Build, tail: str, bins: int, kind: str
) -> None:
    module = point_detector(tail, 5, bins, objectness=False)
    foreign = read_foreign(export(module))
    spec = foreign.spec
    assert (spec.decode.kind, spec.decode.score, spec.decode.cell_offset) == (kind, "cls", 0.5)
    assert spec.decode.bins == (bins if bins > 1 else 0)
    assert spec.family == ("yolov6" if tail != "v8" else "yolov8" if bins > 1 else "ultralytics")
    assert spec.licence == "unknown"
    with torch.no_grad():
        rows = module(torch.from_numpy(picture()))[0].numpy()
    rows = rows.T if tail == "v8" else rows
    boxes, scores = dense(foreign, picture())
    np.testing.assert_allclose(boxes, corners(rows[:, :4]), atol=1e-3)
    np.testing.assert_allclose(scores, rows[:, -5:], atol=1e-5)


@pytest.mark.parametrize("opset", [11, 18, *(pytest.param(v, marks=pytest.mark.slow) for v in (13, 17))])
def test_opsets(export: Export, anchor_detector: Build, opset: int) -> None:
    foreign = read_foreign(export(anchor_detector("decoded"), opset=opset))
    assert foreign.model.opset_import[0].version == max(17, opset)


def test_open_dimensions(export: Export, anchor_detector: Build) -> None:
    module = anchor_detector("decoded")
    path = export(module, dynamic_axes={"in": {0: "batch", 2: "h", 3: "w"}})
    with pytest.raises(ModelFileError, match="`imgsz`"):
        read_foreign(path)
    foreign = read_foreign(path, imgsz=(96, 64))
    assert foreign.spec.input.size_hw == (96, 64)
    shape = foreign.model.graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [1, 3, 96, 64]
    with torch.no_grad():
        rows = module(torch.from_numpy(picture((96, 64))))[0].numpy()
    boxes, _ = dense(foreign, picture((96, 64)))
    np.testing.assert_allclose(boxes, corners(rows[:, :4]), atol=1e-3)


def test_fixed_size_is_brought_to_another(export: Export, point_detector: Build) -> None:
    module = point_detector("flat")
    foreign = read_foreign(export(module), family="yolox", imgsz=(128, 160))
    assert foreign.spec.input.size_hw == (128, 160)
    plain = point_detector("decoded")
    plain.load_state_dict(module.state_dict())
    with torch.no_grad():
        rows = plain(torch.from_numpy(picture((128, 160))))[0].numpy()
    boxes, _ = dense(foreign, picture((128, 160)))
    np.testing.assert_allclose(boxes, corners(rows[:, :4]), atol=1e-3)
    with pytest.raises(InputError, match="multiples of 32"):
        read_foreign(export(module), family="yolox", imgsz=(100, 100))


def test_half_precision(export: Export, point_detector: Build) -> None:
    foreign = read_foreign(export(point_detector("flat"), half=True), family="yolox")
    types = {t.data_type for t in foreign.model.graph.initializer}
    assert onnx.TensorProto.FLOAT16 not in types
    assert "precision: fp16 converted to fp32" in foreign.notes
    raw_outputs(foreign, picture())


def test_external_data(export: Export, point_detector: Build, tmp_path: Path) -> None:
    model = onnx.load(str(export(point_detector("flat"))))
    folder = tmp_path / "big"
    folder.mkdir()
    onnx.save(model, str(folder / "m.onnx"), save_as_external_data=True, location="m.data", size_threshold=0)
    assert read_foreign(folder / "m.onnx", family="yolox").spec.family == "yolox"
    (folder / "m.data").unlink()
    with pytest.raises(ModelFileError) as info:
        read_foreign(folder / "m.onnx", family="yolox")
    assert "\n" not in str(info.value)


def test_channels_last_uint8_input(export: Export, point_detector: Build) -> None:
    class Camera(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> Any:
            return self.inner(x.permute(0, 3, 1, 2).float())

    module = Camera(point_detector("flat"))
    path = export(nn.Identity())
    example = torch.zeros(1, *SIZE_HW, 3, dtype=torch.uint8)
    torch.onnx.export(module.eval(), (example,), str(path), opset_version=13, dynamo=False, input_names=["x"])
    foreign = read_foreign(path, family="yolox")
    assert [n.op_type for n in foreign.model.graph.node[:1]] == ["Conv"]
    raw_outputs(foreign, picture())


def test_scaling_in_the_graph_is_noticed(export: Export, anchor_detector: Build) -> None:
    class Scaled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> Any:
            return self.inner(x / 255.0)

    foreign = read_foreign(export(Scaled(anchor_detector("decoded"))))
    assert foreign.spec.input.scale == 1.0


def test_metadata_names_and_task(export: Export, anchor_detector: Build, tmp_path: Path) -> None:
    model = onnx.load(str(export(anchor_detector("decoded", 2))))
    onnx.helper.set_model_props(model, {"names": "{1: 'vest', 0: 'helmet'}"})
    assert read_foreign(model).spec.classes == ("helmet", "vest")
    assert read_foreign(model, classes=["a", "b"]).spec.classes == ("a", "b")
    with pytest.raises(InputError, match="expected 2 names"):
        read_foreign(model, classes=["a"])
    onnx.helper.set_model_props(model, {"names": "__import__('os').system('touch pwned')"})
    assert read_foreign(model).spec.classes == ("class0", "class1")
    onnx.helper.set_model_props(model, {"task": "segment"})
    with pytest.raises(ModelFileError, match="segment"):
        read_foreign(model)


def test_spec_is_in_the_file_and_overrides_hold(export: Export, point_detector: Build) -> None:
    overrides = SpecOverrides(color="RGB", scale=1 / 255, mean=(0.5, 0.5, 0.5), variant="mine", licence="MIT")
    foreign = read_foreign(export(point_detector("flat")), family="yolox", overrides=overrides)
    stored = next(e.value for e in foreign.model.metadata_props if e.key == "edgedet")
    assert ModelSpec.from_json(stored) == foreign.spec
    assert (foreign.spec.input.color, foreign.spec.variant, foreign.spec.licence) == ("RGB", "mine", "MIT")
    assert foreign.spec.input.mean == (0.5, 0.5, 0.5)


def test_wrong_family_says_what_it_is(export: Export, anchor_detector: Build, point_detector: Build) -> None:
    with pytest.raises(ModelFileError, match="which is yolov5's"):
        read_foreign(export(anchor_detector("decoded")), family="yolox")
    with pytest.raises(ModelFileError, match="`family`"):
        read_foreign(export(point_detector("flat")), family="yolov5")
    with pytest.raises(InputError, match="expected one of"):
        read_foreign(export(point_detector("flat")), family="ssd")


def test_a_lie_in_the_cut_is_found(export: Export, point_detector: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedet_export.foreign import importer
    from edgedet_export.foreign.cut import CutAtHeads

    class Dishonest(CutAtHeads):
        def rewrite(self, model: ir.Model, record: PassRecord) -> None:
            super().rewrite(model, record)
            conv = by_name(model.graph)["boxes_1"].producer()
            assert conv is not None
            weight = np.array(constant(conv.inputs[1]))
            weight[2] *= 1.05
            set_input(conv, 1, NewTensors(model.graph).constant("lie", weight))

    monkeypatch.setattr(importer, "CutAtHeads", Dishonest)
    with pytest.raises(CheckFailedError, match="boxes at stride 16"):
        read_foreign(export(point_detector("decoded")))


@pytest.mark.parametrize("declared", [True, False])
def test_ir_version_3(export: Export, point_detector: Build, tmp_path: Path, declared: bool) -> None:
    """The first version declares each weight as an input too."""
    model = onnx.load(export(point_detector("flat-decoded", bins=1)))
    model.ir_version = 3
    if declared:
        for weight in model.graph.initializer:
            info = onnx.helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
            model.graph.input.append(info)
    path = tmp_path / "ir3.onnx"
    onnx.save(model, path)
    foreign = read_foreign(path)
    assert foreign.model.ir_version >= 8
    raw_outputs(foreign, picture())


@pytest.mark.parametrize(
    ("names", "expected", "note"),
    [
        ("{'helmet': 0, 'vest': 1, 'a': 2, 'b': 3, 'c': 4}", ("helmet", "vest", "a", "b", "c"), ""),
        ('["x", "y", "z", "v", "w"]', ("x", "y", "z", "v", "w"), ""),
        ("['x', 'y', 'z', 'v']", tuple(f"class{i}" for i in range(5)), "the file stores 4 names for the 5 classes"),
        ("", tuple(f"class{i}" for i in range(5)), "the file stores no names"),
    ],
)
def test_names_and_license_of_the_metadata(
    export: Export, anchor_detector: Build, tmp_path: Path, names: str, expected: tuple[str, ...], note: str
) -> None:
    model = onnx.load(export(anchor_detector("decoded")))
    for key, value in {"names": names, "license": "MIT License (a link)"}.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, tmp_path / "named.onnx")
    foreign = read_foreign(tmp_path / "named.onnx")
    assert foreign.spec.classes == expected
    assert foreign.spec.licence == "MIT"
    assert note in " ".join(foreign.notes)


def test_79_names_for_80_classes_are_not_replaced_by_those_of_coco(
    export: Export, anchor_detector: Build, tmp_path: Path
) -> None:
    model = onnx.load(export(anchor_detector("decoded", classes=80)))
    model.metadata_props.add(key="names", value=str({i: f"n{i}" for i in range(79)}))
    onnx.save(model, tmp_path / "named.onnx")
    foreign = read_foreign(tmp_path / "named.onnx")
    assert foreign.spec.classes[79] == "class79"
    assert "the file stores 79 names for the 80 classes of its head" in " ".join(foreign.notes)


def test_what_ultralytics_exporter_writes(export: Export, point_detector: Build, tmp_path: Path) -> None:
    """Plain distances are YOLO26's, not YOLOv6's; name, license and size are the metadata's."""
    module = point_detector("v8", bins=1, objectness=False)
    model = onnx.load(export(module, dynamic_axes={"in": {0: "n", 2: "h", 3: "w"}}))
    said = {
        "description": "Ultralytics YOLO26n model trained on site.yaml",
        "author": "Ultralytics",
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "task": "detect",
        "imgsz": "[64, 96]",
        "names": "{0: 'a', 1: 'b', 2: 'c', 3: 'd', 4: 'e'}",
    }
    for key, value in said.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, tmp_path / "yolo26n.onnx")
    foreign = read_foreign(tmp_path / "yolo26n.onnx")
    spec = foreign.spec
    assert (spec.family, spec.variant, spec.licence) == ("ultralytics", "yolo26n", "AGPL-3.0")
    assert (spec.decode.kind, spec.classes, spec.thresholds.iou) == ("ltrb", tuple("abcde"), 0.7)
    assert spec.input.size_hw == (64, 96)
    assert "size: 64×96, as the metadata say, since the input is open" in foreign.notes
    assert read_foreign(tmp_path / "yolo26n.onnx", imgsz=(96, 64)).spec.input.size_hw == (96, 64)


@pytest.mark.parametrize("tail", ["decoded", "corners"])
def test_gray_pictures(export: Export, anchor_detector: Build, tail: str) -> None:
    """A file with one channel takes RGB, weighted as OpenCV weights it."""
    module = anchor_detector(tail)
    trunk = module.get_submodule("trunk")
    trunk.stem = nn.Conv2d(1, 8, 8, 8)

    path = export(module, channels=1)
    foreign = read_foreign(path)
    assert foreign.spec.input.color == "RGB"
    assert any("takes gray ones" in note for note in foreign.notes)
    weights = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)
    with torch.no_grad():
        rows = module(torch.from_numpy((picture() * weights).sum(1, keepdims=True)))[0].numpy()
    boxes, _ = dense(foreign, picture())
    np.testing.assert_allclose(boxes, rows[:, :4] if tail == "corners" else corners(rows[:, :4]), atol=1e-3)
