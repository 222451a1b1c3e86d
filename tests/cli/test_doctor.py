"""``edgedet doctor``: a healthy bundle, and each way in which one can be ill."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from edgedet_runtime.bundle.plan import PLAN_FILE, Plan, save_plan
from edgedet_runtime.choices import EngineName
from edgedet_runtime.cpu import available_threads, this_processor
from edgedet_runtime.detections import Detections
from edgedet_runtime.doctor.matching import difference
from edgedet_runtime.doctor.resize_check import exact_bilinear
from tests.cli.colors import refused, run, run_json, seal, solid


def findings(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {finding["check"]: finding for finding in report["findings"]}


def ill(*arguments: object) -> dict[str, dict[str, str]]:
    """Run the doctor on a bundle that must not pass, and return its findings."""
    import json

    result = run("doctor", *arguments, "--json")
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    assert report["verdict"].startswith("unfit: ")
    return findings(report)


def change_golden(bundle: Path, **changes: Any) -> None:
    with np.load(bundle / "golden.npz") as arrays:
        data: dict[str, Any] = {name: arrays[name] for name in arrays.files}
    for name, value in changes.items():
        data[name if name in data else f"model.onnx|{name}"] = value
    np.savez_compressed(bundle / "golden.npz", **data)
    seal(bundle)


def test_healthy(bundle: Path) -> None:
    report = run_json("doctor", bundle)
    assert report["verdict"].startswith("fit")
    assert report["exit_code"] == 0
    seen = findings(report)
    assert {f["status"] for f in seen.values()} == {"ok"}
    assert seen["files"]["detail"].startswith("2 files")
    assert "colors, 3 classes, 96x64 px" in seen["spec"]["detail"]
    assert seen["golden model.onnx on onnxruntime"]["detail"].startswith("2 objects, boxes within 0 px")
    assert "fp32" in seen["precision of model.onnx on onnxruntime"]["detail"]
    shown = run("doctor", bundle)
    assert shown.exit_code == 0
    assert shown.stdout.strip().splitlines()[-1] == report["verdict"]


def test_stored_plan(bundle: Path) -> None:
    plan, here = Plan("onnxruntime", "fp32", 1), this_processor()
    for stored, processor, status, words in (
        (plan, None, "ok", "onnxruntime fp32 1 thread"),
        (plan, here, "ok", f"onnxruntime fp32 1 thread, measured on {here.cpu}"),
        (plan, replace(here, cpu="Z80", architecture="z80"), "warning", "measured on Z80"),
        (
            replace(plan, engine=cast(EngineName, "tensorrt")),
            here,
            "warning",
            "expected one of onnxruntime, openvino, opencv, got 'tensorrt'",
        ),
    ):
        save_plan(stored, bundle, measured_on=processor)
        report = run_json("doctor", bundle)
        assert report["exit_code"] == 0
        found = findings(report)["plan"]
        assert (found["status"], words in found["detail"]) == (status, True), found
    (bundle / PLAN_FILE).write_text("{}")
    assert findings(run_json("doctor", bundle))["plan"]["status"] == "warning"


def test_changed_byte(bundle: Path) -> None:
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(content)
    assert "expected sha256" in ill(bundle)["files"]["detail"]


def test_missing_file(bundle: Path) -> None:
    (bundle / "golden.npz").unlink()
    assert "golden.npz: is missing" in ill(bundle)["files"]["detail"]


def test_color_order_is_diagnosed(bundle: Path) -> None:
    with np.load(bundle / "golden.npz") as arrays:
        swapped = arrays["image_bgr"][..., ::-1].copy()
    change_golden(bundle, image_bgr=swapped)
    seen = ill(bundle)["golden model.onnx on onnxruntime"]
    assert seen["status"] == "failure"
    assert "color order" in seen["detail"]


def test_other_network_is_diagnosed(bundle: Path) -> None:
    change_golden(bundle, boxes_xyxy=np.array([[80, 40, 90, 50], [80, 40, 90, 50]], np.float32))
    assert "another network" in ill(bundle)["golden model.onnx on onnxruntime"]["detail"]


def test_lower_precision_is_a_warning(bundle: Path) -> None:
    with np.load(bundle / "golden.npz") as arrays:
        scores = arrays["model.onnx|scores"] - np.float32(0.03)
    change_golden(bundle, scores=scores)
    report = run_json("doctor", bundle)
    assert report["verdict"] == "fit, with 1 warning"
    seen = findings(report)["golden model.onnx on onnxruntime"]
    assert seen["status"] == "warning"
    assert "precision" in seen["detail"]


def test_golden_vectors_without_objects_prove_little(bundle: Path) -> None:
    change_golden(bundle, image_bgr=solid((0, 0, 0)), boxes_xyxy=np.zeros((0, 4)), scores=[], class_ids=[])
    seen = findings(run_json("doctor", bundle))["golden model.onnx on onnxruntime"]
    assert seen["status"] == "warning"
    assert "proves little" in seen["detail"]


def test_no_golden_vectors_for_a_file(bundle: Path) -> None:
    np.savez_compressed(bundle / "golden.npz", image_bgr=solid((0, 0, 0)))
    seal(bundle)
    assert "no golden vectors" in ill(bundle)["golden model.onnx"]["detail"]


def test_engine_that_the_bundle_has_no_file_for(bundle: Path) -> None:
    pytest.importorskip("openvino")
    assert "no file for openvino" in ill(bundle, "--engine", "openvino")["engine"]["detail"]


def test_too_many_threads_are_a_warning(bundle: Path) -> None:
    wish = available_threads() + 1
    seen = findings(run_json("doctor", bundle, "--threads", wish))["threads"]
    assert seen["status"] == "warning"
    assert f"{wish} asked for" in seen["detail"]


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: shutil.rmtree(folder), ["expected the folder of a bundle"]),
        (lambda folder: (folder / "manifest.json").unlink(), ["manifest.json"]),
        (lambda folder: (folder / "manifest.json").write_text('{"files": []}'), ["expected model files"]),
    ],
    ids=["no folder", "no manifest", "no models"],
)
def test_bad_input_is_exit_2(bundle: Path, break_it: Any, words: list[str]) -> None:
    break_it(bundle)
    refused(run("doctor", bundle), *words)


def test_golden_of_objects_is_refused_unread(bundle: Path) -> None:
    """An .npz may hold pickles; the doctor must not open one."""
    np.savez(bundle / "golden.npz", image_bgr=np.array([{"a": print}], dtype=object))
    seal(bundle)
    refused(run("doctor", bundle), "golden vectors")


@pytest.mark.parametrize("conf", [float("nan"), 7.0, -1.0])
def test_golden_threshold_that_is_none(conf: float, bundle: Path) -> None:
    change_golden(bundle, conf=np.float64(conf))
    refused(run("doctor", bundle), "golden.npz: expected thresholds from 0 to 1, got")


def test_golden_that_unfolds_is_refused_unread(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedet_runtime.bundle.golden.MOST_BYTES", 1 << 20)
    change_golden(bundle, image_bgr=np.zeros((1000, 1000, 3), np.uint8))
    refused(
        run("doctor", bundle), "expected golden vectors as export writes them", "bytes once unpacked, more than 1048576"
    )


def test_unknown_engine(bundle: Path) -> None:
    refused(run("doctor", bundle, "--engine", "tensorrt"), "tensorrt")


def _detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    data = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        data[:, :4].astype(np.float32), data[:, 4].astype(np.float32), data[:, 5].astype(np.int64), ("a", "b")
    )


def test_difference_of_detections() -> None:
    a = _detections((0, 0, 10, 10, 0.9, 0), (20, 20, 40, 40, 0.8, 1))
    assert difference(a, a).within(box_px=0, score=0)
    moved = _detections((20, 20, 40, 41, 0.75, 1), (0, 0, 10, 10, 0.9, 0))
    seen = difference(a, moved)
    assert (seen.missing, seen.extra, seen.box_px) == (0, 0, 1.0)
    assert seen.score == pytest.approx(0.05)
    other_class = _detections((0, 0, 10, 10, 0.9, 1))
    assert (difference(a, other_class).missing, difference(a, other_class).extra) == (2, 1)
    empty = _detections()
    assert difference(empty, empty).within(box_px=0, score=0)
    assert difference(empty, a).extra == 2
    assert difference(a, empty).missing == 2


def test_exact_bilinear_of_known_values() -> None:
    ramp = np.array([[[0], [100]]], np.uint8)
    assert exact_bilinear(ramp, (1, 4))[0, :, 0].tolist() == [0.0, 25.0, 75.0, 100.0]
    assert exact_bilinear(ramp, (2, 2))[:, :, 0].tolist() == [[0.0, 100.0], [0.0, 100.0]]
    curve = np.array([[[0], [10], [40], [90]]], np.uint8)
    assert exact_bilinear(curve, (1, 8))[0, :, 0].tolist() == [0.0, 2.5, 7.5, 17.5, 32.5, 52.5, 77.5, 90.0]
    assert exact_bilinear(curve, (1, 2))[0, :, 0].tolist() == [5.0, 65.0]
    assert exact_bilinear(curve.transpose(1, 0, 2), (2, 1))[:, 0, 0].tolist() == [5.0, 65.0]
