"""``edgedet detect``: what it finds, how it says so, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest

from edgedet.commands import default_model
from edgedet_runtime.bundle.plan import Plan, save_plan
from tests.cli.colors import INPUT_HW, refused, run, run_json, solid, write_bundle

NUMBER = {"type": "number"}
SCHEMA = {
    "type": "object",
    "required": ["model", "engine", "images"],
    "additionalProperties": False,
    "properties": {
        "model": {"type": "string"},
        "engine": {"type": "string"},
        "images": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "width", "height", "detections", "time_ms"],
                "additionalProperties": False,
                "properties": {
                    "path": {"type": "string"},
                    "frame": {"type": "integer"},
                    "width": {"type": "integer"},
                    "height": {"type": "integer"},
                    "detections": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["class_id", "class_name", "score", "box_xyxy"],
                            "additionalProperties": False,
                            "properties": {
                                "class_id": {"type": "integer"},
                                "class_name": {"type": "string"},
                                "score": {"type": "number", "minimum": 0, "maximum": 1},
                                "box_xyxy": {"type": "array", "items": NUMBER, "minItems": 4, "maxItems": 4},
                            },
                        },
                    },
                    "time_ms": {
                        "type": "object",
                        "required": ["pre", "infer", "post"],
                        "additionalProperties": False,
                        "properties": {"pre": NUMBER, "infer": NUMBER, "post": NUMBER},
                    },
                },
            },
        },
    },
}


def test_json_of_one_picture(color_model: Path, photo: Path) -> None:
    document = run_json("detect", color_model, photo)
    jsonschema.validate(document, SCHEMA)
    assert (document["model"], document["engine"]) == (str(color_model), "onnxruntime")
    (image,) = document["images"]
    assert (image["path"], image["width"], image["height"]) == (str(photo), 192, 128)
    red, green = image["detections"]
    assert (red["class_name"], red["class_id"], red["score"]) == ("red", 2, pytest.approx(1.0, abs=1e-4))
    assert red["box_xyxy"] == pytest.approx([128, 64, 176, 112], abs=1e-3)
    assert (green["class_name"], green["score"]) == ("green", pytest.approx(128 / 255, abs=1e-4))


def test_bundle_and_thresholds(bundle: Path, photo: Path) -> None:
    document = run_json("detect", bundle, photo, "--conf", "0.6")
    assert [d["class_name"] for d in document["images"][0]["detections"]] == ["red"]
    assert document["model"] == str(bundle / "model.onnx")
    assert [d["class_name"] for d in run_json("detect", bundle, photo, "--conf", "0")["images"][0]["detections"]] == [
        "red",
        "green",
        "blue",
    ]
    only = run_json("detect", bundle, photo, "--conf", "0", "--classes", "blue,1", "--max-det", "1")
    assert [d["class_name"] for d in only["images"][0]["detections"]] == ["green"]


def test_stored_plan(bundle: Path, photo: Path) -> None:
    without = run("detect", bundle, photo, "--plan", "auto")
    assert without.exit_code == 0, without.output
    assert "no plan is stored" in without.stderr
    path = save_plan(Plan("opencv", "fp32", 1), bundle)
    refused(run("detect", bundle, photo, "--plan", "auto"), str(path), "no file for engine opencv")
    save_plan(Plan("onnxruntime", "fp32", 1), bundle)
    result = run("detect", bundle, photo, "--plan", "auto")
    assert (result.exit_code, result.stderr) == (0, "")
    refused(run("detect", bundle, photo, "--plan", "best"), "--plan", "expected auto", "best")


def test_several_sources_in_order(color_model: Path, tmp_path: Path, photo: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("b.jpg", "a.png"):
        cv2.imwrite(str(folder / name), solid((255, 0, 0)))
    (folder / "notes.txt").write_text("no picture")
    document = run_json("detect", color_model, folder, photo, f"{folder}/*.jpg")
    names = [Path(image["path"]).name for image in document["images"]]
    assert names == ["a.png", "b.jpg", "photo.png", "b.jpg"]
    assert [image["detections"][0]["class_name"] for image in document["images"]] == ["blue", "blue", "red", "blue"]


def test_human_output(color_model: Path, photo: Path) -> None:
    result = run("detect", color_model, photo)
    assert result.exit_code == 0
    assert f"{photo} 192x128: 1 red, 1 green" in result.stdout
    assert "1.000" in result.stdout
    black = photo.with_name("black.png")
    cv2.imwrite(str(black), solid((0, 0, 0)))
    assert "nothing found" in run("detect", color_model, black).stdout


def test_save_draws_and_never_overwrites(color_model: Path, tmp_path: Path, photo: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photo, other / photo.name)
    out = tmp_path / "out" / "deep"
    assert run("detect", color_model, photo, other / photo.name, "--save", out).exit_code == 0
    assert sorted(p.name for p in out.iterdir()) == ["photo-2.png", "photo.png"]
    drawn = cv2.imread(str(out / "photo.png"))
    assert drawn is not None
    original = cv2.imread(str(photo))
    assert original is not None
    assert drawn.shape == original.shape
    assert (drawn != original).any()
    refused(run("detect", color_model, photo, "--save", tmp_path), "would be overwritten")
    assert np.array_equal(np.asarray(cv2.imread(str(photo))), original)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    size = (INPUT_HW[1], INPUT_HW[0])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, size)
    for bgr in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        writer.write(solid(bgr))
    writer.release()
    return path


def test_video(color_model: Path, video: Path, tmp_path: Path) -> None:
    document = run_json("detect", color_model, video, "--save", tmp_path / "out")
    jsonschema.validate(document, SCHEMA)
    assert [image["frame"] for image in document["images"]] == [0, 1, 2]
    assert [image["detections"][0]["class_name"] for image in document["images"]] == ["blue", "green", "red"]
    written = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert written.get(cv2.CAP_PROP_FPS) == 10
    assert len(run_json("detect", color_model, video, "--max-frames", 2)["images"]) == 2


def test_default_model_is_what_export_writes(in_tmp: Path, photo: Path) -> None:
    refused(run("detect", photo), "not a model", "edgedet export --int8")
    write_bundle(in_tmp / default_model.default_bundle())
    document = run_json("detect", photo)
    assert document["model"] == str(default_model.default_bundle() / "model.onnx")
    assert len(document["images"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{model}"], ["SOURCE"]),
        (["{model}", "missing.jpg"], ["missing.jpg", "does not exist"]),
        (["{model}", "no/*.jpg"], ["no/*.jpg", "matches no image"]),
        (["missing.onnx", "{photo}"], ["missing.onnx", "does not exist"]),
        (["weights.pt", "{photo}"], ["training checkpoint", "edgedet export weights.pt"]),
        (["{model}", "{photo}", "--engine", "tensorrt"], ["engine", "tensorrt"]),
        (["{model}", "{photo}", "--precision", "fp16"], ["precision", "fp16"]),
        (["{model}", "{photo}", "--precision", "int8"], ["is fp32, asked for was int8"]),
        (["{model}", "{photo}", "--classes", "purple"], ["classes", "purple"]),
        (["{model}", "{photo}", "--classes", ","], ["--classes", "at least one"]),
        (["{model}", "97"], ["camera:97", "gave no frame"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refuses(arguments: list[str], words: list[str], color_model: Path, photo: Path, in_tmp: Path) -> None:
    filled = [a.format(model=color_model, photo=photo) for a in arguments]
    refused(run("detect", *filled), *words)


def test_refuses_precision_that_the_bundle_has_not(bundle: Path, photo: Path) -> None:
    refused(run("detect", bundle, photo, "--precision", "int8"), "has no file", "int8", "model.onnx")
    refused(run("detect", bundle, photo, "--engine", "openvino"), "has no file", "openvino")


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 cut short", b"GIF89a no", b"plain text"])
def test_broken_picture(color_model: Path, tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(content)
    result = run("detect", color_model, bad, "--json")
    refused(result, "bad.jpg")
    assert result.stdout == ""


@pytest.mark.parametrize("content", [b"", b"not onnx", b"\x08\x07" * 50, bytes(range(256))])
def test_broken_model(photo: Path, tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(content)
    refused(run("detect", bad, photo), "bad.onnx")


def test_foreign_onnx_is_sent_to_export(photo: Path, tmp_path: Path, color_model: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(color_model)
    del model.metadata_props[:]
    path = tmp_path / "foreign.onnx"
    onnx.save(model, path)
    refused(run("detect", path, photo), "carries no edgedet spec", "edgedet export")


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"files": 3}', '{"files": [{"path": "../x"}]}'])
def test_hostile_manifest(bundle: Path, photo: Path, manifest: str) -> None:
    (bundle / "manifest.json").write_text(manifest)
    refused(run("detect", bundle, photo), "manifest.json")


def test_odd_pictures(color_model: Path, tmp_path: Path) -> None:
    """One pixel, a very long strip, grey, and with alpha."""
    pictures = {
        "dot.png": np.zeros((1, 1, 3), np.uint8),
        "strip.png": np.zeros((1, 3000, 3), np.uint8),
        "grey.png": np.full((50, 60), 255, np.uint8),
        "alpha.png": np.full((50, 60, 4), 255, np.uint8),
    }
    for name, picture in pictures.items():
        cv2.imwrite(str(tmp_path / name), picture)
    document = run_json("detect", color_model, *(tmp_path / name for name in pictures))
    jsonschema.validate(document, SCHEMA)
    sizes = [(image["height"], image["width"]) for image in document["images"]]
    assert sizes == [(1, 1), (1, 3000), (50, 60), (50, 60)]
    for image in document["images"]:
        for found in image["detections"]:
            x0, y0, x1, y1 = found["box_xyxy"]
            assert 0 <= x0 <= x1 <= image["width"]
            assert 0 <= y0 <= y1 <= image["height"]
    assert json.loads(json.dumps(document)) == document
