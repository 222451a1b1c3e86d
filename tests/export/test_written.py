"""Every written file is compared with what was judged; damage is found and named, rounding is not taken for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgedet_export import last_rungs, pipeline
from edgedet_export.config import ExportConfig
from edgedet_export.graph.conversion import set_metadata
from edgedet_export.last_rungs import LastRungs, check_files
from edgedet_export.pictures import probe_picture
from edgedet_export.pipeline import ExportReport, export
from edgedet_export.quantize.targets import get_target
from edgedet_export.to_onnx import to_onnx
from edgedet_export.written import Judge, Judged, Written, check_file
from edgedet_runtime import Detections, Detector
from edgedet_runtime.bundle.golden import read_golden, write_golden
from edgedet_runtime.bundle.rungs import Noise
from edgedet_runtime.doctor.matching import detections_differ
from edgedet_runtime.engines import EngineName
from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.spec import ModelSpec
from tests.export.damage import WAYS, damage_ir, damage_onnx
from tests.export.tiny import CLASSES, TinyDetector, tiny_spec


def found(*scores: float) -> Detections:
    boxes = np.arange(4 * len(scores), dtype=np.float32).reshape(-1, 4) * 10
    return Detections(boxes, np.array(scores, np.float32), np.zeros(len(scores), np.int64), CLASSES)


@pytest.mark.parametrize(
    ("got", "unsure", "differs"),
    [
        (found(0.9, 0.5, 0.3), (), False),
        (found(0.9, 0.502, 0.3), (), True),
        (found(0.9, 0.5), (), True),
        (found(0.9, 0.5), (0.25,), True),
        (found(0.9, 0.5), (0.25, 0.3005), False),
        (found(0.9, 0.5, 0.3, 0.25), (0.25,), False),
        (found(0.9, 0.5, 0.3, 0.26), (0.25,), True),
    ],
)
def test_table(got: Detections, unsure: tuple[float, ...], differs: bool) -> None:
    phrase = detections_differ(found(0.9, 0.5, 0.3), got, box_px=0.1, score=1e-3, unsure=unsure)
    assert (phrase is not None) == differs


def saturated(max_det: int) -> ModelSpec:
    spec = tiny_spec("dfl")
    limits = dataclasses.replace(spec.thresholds, max_det=max_det, iou=1.0)
    return spec.replace(thresholds=limits)


def write(folder: Path, name: str, spec: ModelSpec, shift: float = 0.0) -> Path:
    """Write a network whose every score is 1; `shift` moves its boxes' logits."""
    model = TinyDetector(spec)
    with torch.no_grad():
        for head in model.heads:
            head[-1].bias.fill_(100.0)  # type: ignore[index]
            head[0].bias[0] += shift  # type: ignore[index]
    proto = to_onnx(model)
    set_metadata(proto, "edgedet", spec.to_json())
    onnx.save(proto, str(folder / name))
    return folder / name


@pytest.mark.parametrize("max_det", [7, 999])
def test_which_of_many_equals_come_before_the_cut_is_no_difference(max_det: int, tmp_path: Path) -> None:
    """The same network with its levels named in another order breaks ties the other way."""
    spec = saturated(max_det)
    reference = onnx.load(str(write(tmp_path, "reference.onnx", spec)))
    turned = spec.replace(decode=dataclasses.replace(spec.decode, levels=spec.decode.levels[::-1]))
    proto = onnx.load(str(tmp_path / "reference.onnx"))
    set_metadata(proto, "edgedet", turned.to_json())
    onnx.save(proto, str(tmp_path / "other.onnx"))
    judged = Judged.of("simplified", reference, spec, "onnxruntime")
    judge = Judge(judged, [probe_picture((64, 96))])
    written = Written("other.onnx", "fp32", "onnxruntime", judged)
    assert check_file(tmp_path, written, judge, Noise()).rung.passed


def test_a_moved_box_is_found(tmp_path: Path) -> None:
    spec = saturated(999)
    reference = onnx.load(str(write(tmp_path, "reference.onnx", spec)))
    write(tmp_path, "other.onnx", spec, shift=0.5)
    judged = Judged.of("simplified", reference, spec, "onnxruntime")
    judge = Judge(judged, [probe_picture((64, 96))])
    rung = check_file(tmp_path, Written("other.onnx", "fp32", "onnxruntime", judged), judge, Noise()).rung
    with pytest.raises(CheckFailedError, match=r"parity simplified → other.onnx on onnxruntime: .*detections lost"):
        rung.require()


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("classes", lambda spec: spec.replace(classes=spec.classes[::-1])),
        ("thresholds", lambda spec: spec.replace(thresholds=dataclasses.replace(spec.thresholds, iou=0.9))),
        ("input", lambda spec: spec.replace(input=dataclasses.replace(spec.input, color="BGR"))),
        ("decode", lambda spec: spec.replace(decode=dataclasses.replace(spec.decode, cell_offset=0.0))),
    ],
)
def test_another_contract_in_the_file_is_found(
    field: str, other: Callable[[ModelSpec], ModelSpec], tmp_path: Path
) -> None:
    spec = tiny_spec("dfl")
    proto = onnx.load(str(write(tmp_path, "reference.onnx", spec)))
    judged = Judged.of("simplified", proto, spec, "onnxruntime")
    judge = Judge(judged, [probe_picture((64, 96))])
    set_metadata(proto, "edgedet", other(spec).to_json())
    onnx.save(proto, str(tmp_path / "other.onnx"))
    with pytest.raises(CheckFailedError, match=rf"→ other.onnx on onnxruntime: .*another {field} in the file"):
        check_file(tmp_path, Written("other.onnx", "fp32", "onnxruntime", judged), judge, Noise())


class Layered(TinyDetector):
    """Has two convolutions of one shape, so that two tensors can be swapped without an engine noticing."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            same_size = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.SiLU())
            self.levels[1] = nn.Sequential(same_size, self._block(16, 16))
        self.eval()


@pytest.mark.parametrize("outputs", ["decoded", "nms"])
@pytest.mark.parametrize(
    ("path", "engine", "writer", "damage"),
    [
        ("model.onnx", "onnxruntime", pipeline.write_onnx, damage_onnx),
        ("openvino/model.xml", "openvino", pipeline.write_ir, damage_ir),
    ],
)
def test_a_file_that_detects_nothing_is_compared_at_its_raw_heads(
    path: str, engine: EngineName, writer: Any, damage: Any, outputs: Literal["decoded", "nms"], tmp_path: Path
) -> None:
    """Above its threshold there is nothing to lose or to gain."""
    spec = tiny_spec("dfl")
    spec = spec.replace(thresholds=dataclasses.replace(spec.thresholds, conf=0.9999))
    proto = to_onnx(Layered(spec))
    judged = Judged.of("simplified", proto, spec, "onnxruntime")
    judge = Judge(judged, [probe_picture((64, 96))])
    writer(tmp_path / path, proto, spec, ExportConfig(outputs=outputs))
    written = Written(path, "fp32", engine, judged)
    whole = check_file(tmp_path, written, judge, Noise()).rung
    assert whole.passed
    assert [o.name for o in whole.outputs] == list(spec.decode.output_names)
    damage(tmp_path / path, "channels reversed")
    damaged = check_file(tmp_path, written, judge, Noise()).rung
    assert not damaged.passed
    if outputs == "nms":
        assert (damaged.lost, damaged.gained) == (0, 0)


def test_opencv_is_not_offered_a_file_that_suppresses(tmp_path: Path) -> None:
    """Where no box is left, cv2.dnn would end the process."""
    spec = tiny_spec("dfl")
    spec = spec.replace(thresholds=dataclasses.replace(spec.thresholds, conf=0.9999))
    report = export(TinyDetector(spec), ExportConfig(out=tmp_path / "bundle", outputs="nms", formats=("onnx",)))
    assert report.manifest.models[0].engines == ("onnxruntime",)
    assert any("is not offered to opencv" in note and "suppresses boxes" in note for note in report.manifest.notes)
    assert str(tmp_path) not in report.manifest.to_json(), "the place of the folder in the making is nobody's affair"


def exported(folder: Path, outputs: Literal["raw", "decoded", "nms"] = "raw") -> ExportReport:
    config = ExportConfig(out=folder / "bundle", int8=True, max_drop=100.0, max_float=1.0, outputs=outputs)
    return export(Layered(tiny_spec()), config)


@pytest.mark.slow
@pytest.mark.parametrize("outputs", ["raw", "decoded", "nms"])
def test_every_file_is_a_rung(outputs: Literal["raw", "decoded", "nms"], tmp_path: Path) -> None:
    report = exported(tmp_path, outputs)
    rungs = {rung["stage"]: rung for rung in report.manifest.to_dict()["parity"]}
    files = {
        f"{file['path']} on {engine}": file
        for file in report.manifest.to_dict()["files"]
        if file.get("precision")
        for engine in file["engines"]
    }
    assert {"model.onnx on onnxruntime", "openvino/model.xml on openvino"} <= set(files)
    assert {"model.int8.onnx on onnxruntime", "openvino/model.int8.xml on openvino"} <= set(files)
    assert set(files) <= set(rungs)
    for stage, file in files.items():
        rung = rungs[stage]
        assert rung["passed"]
        assert rung["images"] > 1
        engine = stage.partition(" on ")[2]
        assert rung["against"] == ("simplified" if file["precision"] == "fp32" else f"INT8 as judged on {engine}")
        if outputs == "raw" or engine != "opencv":
            assert [o["name"] for o in rung["outputs"]] == list(tiny_spec().decode.output_names)


FILES = [
    ("model.onnx", damage_onnx),
    ("model.int8.onnx", damage_onnx),
    ("openvino/model.xml", damage_ir),
    ("openvino/model.int8.xml", damage_ir),
]


@pytest.mark.slow
@pytest.mark.parametrize("outputs", ["raw", "decoded", "nms"])
@pytest.mark.parametrize(("file", "damage"), FILES)
def test_a_damaged_file_fails_the_export_and_is_named(
    file: str,
    damage: Callable[[Path, str], None],
    outputs: Literal["raw", "decoded", "nms"],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each way of damage to each file, on the disk, between the writing and the check."""
    found: dict[str, str] = {}

    def check_all_ways(folder: Path, files: Sequence[Written], *more: Any, **options: Any) -> LastRungs:
        whole = {p: p.read_bytes() for p in (folder / file).parent.iterdir() if p.is_file()}
        for way in WAYS:
            damage(folder / file, way)
            assert any(p.read_bytes() != content for p, content in whole.items()), way
            try:
                check_files(folder, files, *more, **options)
            except CheckFailedError as e:
                found[way] = str(e)
            for path, content in whole.items():
                path.write_bytes(content)
        return check_files(folder, files, *more, **options)

    monkeypatch.setattr(pipeline, "check_files", check_all_ways)
    exported(tmp_path, outputs)
    assert set(found) == set(WAYS)
    assert all(f"→ {file} on " in message and "nothing was written" in message for message in found.values()), found


@pytest.mark.slow
def test_damage_by_the_writer_leaves_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pipeline.write_ir

    def write_damaged(path: Path, *arguments: Any) -> None:
        real(path, *arguments)
        damage_ir(path, "channels reversed")

    monkeypatch.setattr(pipeline, "write_ir", write_damaged)
    with pytest.raises(CheckFailedError, match=r"parity simplified → openvino/model.xml on openvino"):
        export(TinyDetector(tiny_spec()), ExportConfig(out=tmp_path / "bundle"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_writer_that_changes_the_judged_model_itself_is_found(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was judged was kept before the writer had it, so damage in place cannot reach both."""
    kind: Any = type(get_target(cast(EngineName, engine)))
    real = kind.write

    def reverse_then_write(target: Any, path: Path, model: onnx.ModelProto, spec: ModelSpec) -> None:
        weights = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
        weights[1].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights[1])[::-1].copy(), weights[1].name))
        real(target, path, model, spec)

    monkeypatch.setattr(kind, "write", reverse_then_write)
    with pytest.raises(CheckFailedError, match=rf"parity INT8 as judged on {engine} → .* on {engine}: .*nothing was"):
        exported(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_golden_vectors_come_from_the_judged_network(tmp_path: Path) -> None:
    report = exported(tmp_path)
    golden = read_golden(report.bundle, CLASSES)
    assert set(golden.expected) == {f["path"] for f in report.manifest.to_dict()["files"] if f.get("precision")}
    conf, expected = golden.expected["openvino/model.xml"]
    with Detector(report.bundle / "model.onnx", threads=1, conf=conf) as detector:
        assert detections_differ(expected, detector(golden.image_bgr), box_px=1e-4, score=1e-6) is None
    assert len(expected) > 5


@pytest.mark.slow
def test_golden_vectors_that_a_file_does_not_give_fail_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_other(folder: Path, image: Any, expected: dict[str, tuple[float, Detections]]) -> None:
        moved = {
            path: (conf, Detections(d.boxes_xyxy + 2, d.scores, d.class_ids, d.names))
            for path, (conf, d) in expected.items()
        }
        write_golden(folder, image, moved)

    monkeypatch.setattr(last_rungs, "write_golden", write_other)
    with pytest.raises(CheckFailedError, match=r"parity golden.npz → model.onnx on onnxruntime: expected the golden"):
        export(TinyDetector(tiny_spec()), ExportConfig(out=tmp_path / "bundle", formats=("onnx",)))
    assert list(tmp_path.iterdir()) == []
