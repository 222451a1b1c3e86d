"""The three output contracts give the same detections."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgedet_export.graph.conversion import set_metadata
from edgedet_export.outputs import append_decoding
from edgedet_export.pictures import probe_picture
from edgedet_export.to_onnx import to_onnx
from edgedet_runtime import Detections, Detector
from edgedet_runtime.doctor.matching import detections_differ
from edgedet_runtime.spec import BoxKind, Clip, ModelSpec, ResizeSpec
from tests.export.tiny import TinyDetector, tiny_spec


def detect(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> Detections:
    set_metadata(model, "edgedet", spec.to_json())
    onnx.save(model, str(path))
    with Detector(path, threads=1) as detector:
        return detector(probe_picture((120, 150)))


@pytest.mark.parametrize("kind", ["anchors", "points-exp", "ltrb", "dfl", "priors"])
@pytest.mark.parametrize(
    "rules", [{}, {"multi_label": True}, {"class_agnostic": True}], ids=["best", "multi", "agnostic"]
)
def test_contracts_agree(kind: BoxKind, rules: dict[str, bool], tmp_path: Path) -> None:
    spec = tiny_spec(kind)
    spec = spec.replace(thresholds=dataclasses.replace(spec.thresholds, conf=0.15, **rules))
    model = to_onnx(TinyDetector(spec))
    raw = detect(model, spec, tmp_path / "raw.onnx")
    assert len(raw) > 3, "the test must have something to compare"
    for contract in ("decoded", "nms"):
        got = detect(*append_decoding(model, spec, contract), tmp_path / f"{contract}.onnx")
        assert detections_differ(raw, got, box_px=2e-3, score=1e-5) is None
        assert (np.diff(got.scores) <= 0).all()


@pytest.mark.parametrize(("multi_label", "max_det"), [(True, 999), (True, 9), (False, 9)])
def test_one_to_one_needs_no_suppression_in_graph_or_runtime(multi_label: bool, max_det: int, tmp_path: Path) -> None:
    spec = tiny_spec("dfl")
    limits = dataclasses.replace(spec.thresholds, conf=0.15, iou=0.0, multi_label=multi_label, max_det=max_det)
    spec = spec.replace(decode=dataclasses.replace(spec.decode, suppression="none"), thresholds=limits)
    model = to_onnx(TinyDetector(spec))
    raw = detect(model, spec, tmp_path / "raw.onnx")
    suppressed = spec.replace(decode=dataclasses.replace(spec.decode, suppression="nms"))
    found = detect(model, suppressed, tmp_path / "nms.onnx")
    assert detections_differ(raw, found, box_px=2e-3, score=1e-5) is not None, "some candidates overlap"
    for contract in ("decoded", "nms"):
        appended, new = append_decoding(model, spec, contract)
        assert new.decode.suppression == "none"
        assert not [n for n in appended.graph.node if n.op_type == "NonMaxSuppression"]
        got = detect(appended, new, tmp_path / f"{contract}.onnx")
        assert detections_differ(raw, got, box_px=2e-3, score=1e-5) is None
        assert (np.diff(got.scores) <= 0).all()


def test_nms_contract_with_nothing_found(tmp_path: Path) -> None:
    spec = tiny_spec()
    spec = spec.replace(thresholds=dataclasses.replace(spec.thresholds, conf=1.0))
    model, nms_spec = append_decoding(to_onnx(TinyDetector(spec)), spec, "nms")
    assert len(detect(model, nms_spec, tmp_path / "m.onnx")) == 0


@pytest.mark.parametrize("clip", ["before-nms", "before-nms-drop-empty"])
def test_boxes_are_cut_before_suppression_in_graph_and_runtime(clip: Clip, tmp_path: Path) -> None:
    spec = tiny_spec("priors", resize=ResizeSpec("stretch"))
    spec = spec.replace(
        decode=dataclasses.replace(spec.decode, clip=clip),
        thresholds=dataclasses.replace(spec.thresholds, conf=0.15, iou=0.3, multi_label=True),
    )
    model = to_onnx(TinyDetector(spec))
    raw = detect(model, spec, tmp_path / "raw.onnx")
    uncut = spec.replace(decode=dataclasses.replace(spec.decode, clip="after-nms"))
    assert detections_differ(raw, detect(model, uncut, tmp_path / "uncut.onnx"), box_px=2e-3, score=1e-5) is not None
    for contract in ("decoded", "nms"):
        appended, new = append_decoding(model, spec, contract)
        assert new.decode.clip == clip
        got = detect(appended, new, tmp_path / f"{contract}.onnx")
        assert detections_differ(raw, got, box_px=2e-3, score=1e-5) is None


def test_peaks_are_picked_in_graph_and_runtime(tmp_path: Path) -> None:
    spec = tiny_spec("ltrb")
    limits = dataclasses.replace(spec.thresholds, conf=0.15, multi_label=True, max_det=999)
    free = dataclasses.replace(spec.decode, suppression="none")
    spec = spec.replace(decode=dataclasses.replace(free, peaks=True), thresholds=limits)
    model = to_onnx(TinyDetector(spec))
    raw = detect(model, spec, tmp_path / "raw.onnx")
    assert 0 < len(raw) < len(detect(model, spec.replace(decode=free), tmp_path / "all.onnx"))
    for contract in ("decoded", "nms"):
        got = detect(*append_decoding(model, spec, contract), tmp_path / f"{contract}.onnx")
        assert detections_differ(raw, got, box_px=2e-3, score=1e-5) is None
