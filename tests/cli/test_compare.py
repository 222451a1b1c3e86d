"""``edgedet compare``: one table, one document, one page."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from edgedet.comparison.contenders import display_names
from edgedet.comparison.correlation import correlate
from edgedet_runtime.bundle.plan import Plan
from tests.cli.colors import refused, run, run_json, seal, solid, write_bundle

QUICK = ("--runs", 4, "--threads", "1")


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Return three bundles whose manifests tell of different costs."""
    folders = []
    for number, gflops in enumerate((1.0, 2.0, 4.0)):
        folder = write_bundle(tmp_path / f"model<{number}>")
        seal(folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["complexity"] = {"params": 1000 * (number + 1), "macs": 7, "gflops": gflops, "memory_access_bytes": 5}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        folders.append(folder)
    return folders


def test_figures(three: list[Path]) -> None:
    document = run_json("compare", *three, *QUICK)
    entries = document["contenders"]
    assert [entry["model"] for entry in entries] == [str(folder) for folder in three]
    assert [entry["params"] for entry in entries] == [1000, 2000, 3000]
    assert [entry["gflops"] for entry in entries] == [1.0, 2.0, 4.0]
    assert all(entry["latency"]["count"] == 4 and entry["latency"]["median"] > 0 for entry in entries)
    assert all(entry["size_bytes"] == (three[0] / "model.onnx").stat().st_size for entry in entries)
    fastest = min(entries, key=lambda entry: entry["latency"]["median"])
    assert [entry for entry in entries if entry["best"]] == [fastest]
    assert [(c["cost"], c["models"]) for c in document["correlations"]] == [("gflops", 3), ("params", 3)]
    assert all(-1.0 <= c[kind] <= 1.0 for c in document["correlations"] for kind in ("pearson", "spearman"))
    assert entries[0]["ratio_to_first"] is None
    for entry in entries[1:]:
        ratio = entry["ratio_to_first"]
        assert ratio["estimate"] == pytest.approx(entry["latency"]["median"] / entries[0]["latency"]["median"])
        assert ratio["low"] <= ratio["estimate"] <= ratio["high"]
    assert all(0 < entry["infer_ms"] < entry["latency"]["highest"] for entry in entries)
    assert all(entry["layers"] == [] for entry in entries)


def test_layers(three: list[Path]) -> None:
    entries = run_json("compare", *three[:2], *QUICK, "--layers")["contenders"]
    assert all("identity" in {layer["name"].split("/")[-1] for layer in e["layers"]} or e["layers"] for e in entries)
    assert all(layer["time_ms"] >= 0 for entry in entries for layer in entry["layers"])


@pytest.mark.parametrize(
    ("points", "pearson", "spearman"),
    [
        ([(1, 2), (2, 4), (3, 6)], 1.0, 1.0),
        ([(1, 9), (2, 4), (3, 1)], -0.98974, -1.0),
        ([(1, 1), (2, 3), (3, 2), (4, 4)], 0.8, 0.8),
        ([(1, 1), (1, 2), (2, 3), (9, 100)], 0.99415, 0.94868),  # a tie: its ranks are 0.5 and 0.5
    ],
)
def test_correlation(points: list[tuple[float, float]], pearson: float, spearman: float) -> None:
    found = correlate(Plan("onnxruntime", "fp32", 1), "gflops", points)
    assert found is not None
    assert found.pearson == pytest.approx(pearson, abs=1e-4)
    assert found.spearman == pytest.approx(spearman, abs=1e-4)


@pytest.mark.parametrize("points", [[(1, 2), (2, 3)], [(1, 2), (1, 3), (1, 4)], [(1, 2), (2, 2), (3, 2)]])
def test_no_correlation(points: list[tuple[float, float]]) -> None:
    assert correlate(Plan("onnxruntime", "fp32", 1), "gflops", points) is None


def test_names_are_the_shortest_that_differ() -> None:
    assert display_names(["a/x", "b/x", "c/y"]) == {"a/x": "a/x", "b/x": "b/x", "c/y": "y"}


def coco(folder: Path) -> Path:
    """Write a set of two pictures: in the green one, the green box is labelled where the detector sees it."""
    for name, bgr in (("green", (0, 255, 0)), ("red", (0, 0, 255))):
        cv2.imwrite(str(folder / f"{name}.png"), solid(bgr))
    data = {
        "images": [
            {"id": 1, "file_name": "green.png", "width": 96, "height": 64},
            {"id": 2, "file_name": "red.png", "width": 96, "height": 64},
        ],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(("blue", "green", "red"))],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "bbox": [32, 0, 24, 24], "area": 576, "iscrowd": 0},
            {"id": 2, "image_id": 2, "category_id": 3, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0},
        ],
    }
    path = folder / "set.json"
    path.write_text(json.dumps(data))
    return path


def test_accuracy_in_compare_and_eval(three: list[Path], tmp_path: Path) -> None:
    """Green is found exactly, red is labelled elsewhere: AP 1 and 0, mean 0.5."""
    pytest.importorskip("pycocotools")
    data = coco(tmp_path)
    entries = run_json("compare", *three[:2], *QUICK, "--data", data)["contenders"]
    assert [entry["ap"] for entry in entries] == [pytest.approx(0.5, abs=1e-6)] * 2
    for entry in entries:  # green is right and red, which scores as high, is wrong: one of two both ways
        assert entry["ap50"] == pytest.approx(0.5, abs=1e-6)
        assert (entry["precision"], entry["recall"], entry["f1"]) == (0.5, 0.5, 0.5)
        assert entry["ap_drop"] is None, "there is no INT8"
    shown = run("compare", *three[:2], *QUICK, "--data", data)
    assert all(word in shown.stdout for word in ("AP50", "precision", "recall", "F1", "0.500"))
    document = run_json("eval", three[0], "--data", data)
    assert document["ap"] == pytest.approx(0.5, abs=1e-6)
    assert document["per_class"] == {"blue": None, "green": pytest.approx(1.0), "red": pytest.approx(0.0)}
    assert {"ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100"} <= set(document)
    shown = run("eval", three[0], "--data", data)
    assert "0.500" in shown.stdout
    assert "green" in shown.stdout


@pytest.mark.parametrize("content", ["", "[]", '{"images": 3}', '{"images": [], "categories": [], "annotations": []}'])
def test_eval_refuses_bad_data(three: list[Path], tmp_path: Path, content: str) -> None:
    pytest.importorskip("pycocotools")
    path = tmp_path / "bad.json"
    path.write_text(content)
    refused(run("eval", three[0], "--data", path), "bad.json")


def test_part_of_a_set_and_pictures_elsewhere(three: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    pictures, labels = tmp_path / "pictures", tmp_path / "labels"
    pictures.mkdir()
    labels.mkdir()
    data = coco(pictures).rename(labels / "set.json")
    refused(run("compare", three[0], *QUICK, "--data", data), "set.json", "--images")
    there = ("--data", data, "--images", pictures)
    entries = run_json("compare", three[0], *QUICK, *there, "--classes", "green")["contenders"]
    assert [entry["ap"] for entry in entries] == [pytest.approx(1.0)]
    assert run_json("eval", three[0], *there, "--classes", "Green,red")["ap"] == pytest.approx(0.5)
    refused(run("eval", three[0], *there, "--classes", "cat"), "names of the data set", "cat")
    refused(run("compare", three[0], *QUICK, "--classes", "green"), "--classes", "--data")


def test_classes_that_a_model_does_not_know_are_refused_before_it_is_timed(three: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    data = coco(tmp_path)
    data.write_text(data.read_text().replace('"blue"', '"cat"'))
    refused(run("compare", *three, "--runs", 100_000, "--data", data), str(three[0]), "none is called cat", "--classes")


def test_refuses(three: list[Path]) -> None:
    refused(run("compare", three[0], three[0], *QUICK), "each once")
    refused(run("compare", three[0], "missing.onnx", *QUICK), "missing.onnx")
    refused(run("compare", three[0], *QUICK, "--data", "missing.json"), "missing.json")
