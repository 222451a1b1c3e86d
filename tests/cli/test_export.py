"""``edgedet export``, and what the other commands make of its bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgedet.commands.default_model import BUILTIN
from tests.cli.colors import refused, run, run_json, shell, solid

pytest.importorskip("torch")

SIZE = ("--imgsz", 96, 128)


def test_name_of_the_builtin_model() -> None:
    from edgedet_models import families
    from edgedet_models.builtin import builtin_checkpoint

    assert builtin_checkpoint().stem == BUILTIN
    assert BUILTIN in families.variants()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Export an untrained network at a small size, once, in a process of its own: libraries in C print as they like.

    INT8 is let off its accuracy here, since random weights have none to keep.
    """
    out = tmp_path_factory.mktemp("export") / "bundle"
    options = ("--out", str(out), "--names", ",".join("abcdefgh"), "--int8", "--max-drop", "100", "--json")
    done = shell("export", "yolov5n", *map(str, SIZE), *options)
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


@pytest.mark.slow
def test_report_of_an_export(exported: tuple[Path, Any]) -> None:
    out, report = exported
    assert report["bundle"] == str(out)
    assert report["trained"] is False
    assert any("untrained" in note and "seed 0" in note for note in report["notes"])
    files = {f"{f['path']} on {engine}" for f in report["files"] for engine in f.get("engines", ())}
    stages = [rung["stage"] for rung in report["parity"]]
    assert stages[:3] == ["fused", "onnx", "simplified"]
    assert set(stages[3:]) == files, "one rung per file and engine"
    assert all(rung["passed"] for rung in report["parity"])
    models = {file["path"]: file for file in report["files"] if file.get("engines")}
    runs_in = {path: file["engines"] for path, file in models.items()}
    assert runs_in == {
        "model.onnx": ["onnxruntime", "opencv"],
        "openvino/model.xml": ["openvino"],
        "model.int8.onnx": ["onnxruntime"],
        "openvino/model.int8.xml": ["openvino"],
    }
    assert all((out / file["path"]).stat().st_size == file["bytes"] for file in report["files"])
    assert models["model.int8.onnx"]["bytes"] < 0.5 * models["model.onnx"]["bytes"]
    for engine in ("onnxruntime", "openvino"):
        assert report["quantization"][engine]["executed"]["macs"] > 0.5
    assert set(report["latency_ms"]) == {
        "model.onnx on onnxruntime",
        "model.int8.onnx on onnxruntime",
        "openvino/model.xml on openvino",
        "openvino/model.int8.xml on openvino",
    }
    assert min(report["latency_ms"].values()) > 0


@pytest.mark.slow
def test_the_bundle_is_fit_and_runs(exported: tuple[Path, Any], tmp_path: Path) -> None:
    out, _ = exported
    doctor = run_json("doctor", out)
    assert doctor["verdict"].startswith("fit")
    seen = {finding["check"] for finding in doctor["findings"]}
    assert {"golden model.onnx on onnxruntime", "golden openvino/model.int8.xml on openvino"} <= seen
    found = run_json("inspect", out)
    assert (found["variant"], found["classes"]) == ("yolov5n", list("abcdefgh"))
    assert (found["input"]["height"], found["input"]["width"]) == (96, 128)
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), solid((10, 200, 30), (60, 100)))
    lists = []
    for engine in ("onnxruntime", "openvino"):
        options = ("--engine", engine, "--precision", "fp32", "--conf", "0", "--max-det", 5)
        document = run_json("detect", out, photo, *options)
        assert document["engine"] == engine
        lists.append(document["images"][0]["detections"])
    assert len(lists[0]) == len(lists[1])
    for one, other in zip(*lists, strict=True):
        assert one["class_id"] == other["class_id"]
        assert one["box_xyxy"] == pytest.approx(other["box_xyxy"], abs=0.05)


@pytest.mark.slow
def test_seed_makes_the_same_network_again(exported: tuple[Path, Any], tmp_path: Path) -> None:
    _, first = exported
    options = ("--names", ",".join("abcdefgh"), "--format", "onnx")
    again = run_json("export", "yolov5n", *SIZE, "--out", tmp_path / "again", *options)
    one, other = (next(f["sha256"] for f in r["files"] if f["path"] == "model.onnx") for r in (first, again))
    assert one == other


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.pt"], ["missing.pt"]),
        (["yolov5n", "--imgsz", "100", "128"], ["--imgsz", "multiples", "32", "128 128"]),
        (["yolov5n", "--imgsz", "0", "128"], ["--imgsz"]),
        (["yolov5n", "--format", "tensorrt"], ["--format", "tensorrt"]),
        (["yolov5n", "--format", ","], ["--format"]),
        (["yolov5n", "--data", "x.json"], ["--data", "--int8"]),
        (["yolov5n", "--calib", "missing"], ["missing"]),
        (["yolov5n", "--max-float", "3"], ["--max-float"]),
        (["yolov5n", "--out", "occupied"], ["occupied", "no edgedet bundle"]),
        (["text.onnx"], ["text.onnx"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refuses(arguments: list[str], words: list[str], in_tmp: Path) -> None:
    (in_tmp / "occupied").mkdir()
    (in_tmp / "occupied" / "thesis.txt").write_text("three years of work")
    (in_tmp / "text.onnx").write_text("text")
    refused(run("export", *arguments, *(() if "--imgsz" in arguments else SIZE)), *words)
    assert (in_tmp / "occupied" / "thesis.txt").read_text() == "three years of work"
    assert sorted(p.name for p in in_tmp.iterdir()) in (["occupied", "text.onnx"], ["build", "occupied", "text.onnx"])
    assert not list(in_tmp.glob("build/*"))


@pytest.mark.slow
@pytest.mark.interop
def test_official_boxes_through_the_command_line(shared: Path, tmp_path: Path) -> None:
    """Checkpoint to boxes with two commands gives what the official code gave: 0.05 px, 1e-3 in score.

    Boxes go from input to image pixels as the official ``scale_boxes`` takes them: by the unrounded padding.
    """
    fixture = shared / "fixtures" / "yolov5-yolov5n"
    meta = json.loads((fixture / "meta.json").read_text())
    with np.load(fixture / "nms.npz") as file:
        expected = {key: file[key] for key in file.files}
    with np.load(fixture / "preproc.npz") as file:
        arrays = {key: file[key] for key in file.files}
    bundle = tmp_path / "bundle"
    run_json("export", fixture / "checkpoint.pt", "--imgsz", 160, 192, "--out", bundle)
    conf, iou = meta["thresholds"]["conf"], meta["thresholds"]["iou"]
    for number in range(2):
        image = arrays[f"image{number}_bgr"]
        photo = tmp_path / f"{number}.png"
        cv2.imwrite(str(photo), image)
        height, width = image.shape[:2]
        gain = min(160 / height, 192 / width)
        pad = np.array([192 - width * gain, 160 - height * gain] * 2) / 2
        boxes = ((expected[f"boxes_{number}"] - pad) / gain).clip(0, [width, height, width, height])
        for engine in ("onnxruntime", "openvino"):
            document = run_json(
                "detect", bundle, photo, "--engine", engine, "--precision", "fp32", "--conf", conf, "--iou", iou
            )
            found = document["images"][0]["detections"]
            assert_same(found, boxes, expected[f"scores_{number}"], expected[f"classes_{number}"], conf)


def assert_same(found: list[Any], boxes: Any, scores: Any, classes: Any, conf: float) -> None:
    """Match each detection; those within 1e-3 of the threshold may be missing or extra."""
    left = list(found)
    for box, score, class_id in zip(boxes, scores, classes, strict=True):
        near = [
            d
            for d in left
            if d["class_id"] == class_id
            and abs(d["score"] - score) <= 1e-3
            and np.abs(np.array(d["box_xyxy"]) - box).max() <= 0.05
        ]
        if near:
            left.remove(near[0])
        else:
            assert abs(score - conf) <= 1e-3, f"missing: class {class_id}, {score}, {box}"
    assert all(abs(d["score"] - conf) <= 1e-3 for d in left), f"extra: {left}"
