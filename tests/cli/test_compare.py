"""``edgedet compare``: one table, one document, one page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.cli.colours import refused, run, run_json, seal, solid, write_bundle

QUICK = ("--runs", 4, "--threads", "1")


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Return three bundles whose manifests tell of different costs."""
    folders = []
    for number, gflops in enumerate((1.0, 2.0, 4.0)):
        folder = write_bundle(tmp_path / f"model<{number}>")
        seal(folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["complexity"] = {"params": 1000 * (number + 1), "gflops": gflops, "memory_access_bytes": 5}
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
    (correlation,) = document["correlations"]
    assert correlation["models"] == 3
    assert -1.0 <= correlation["r"] <= 1.0


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


class Page(HTMLParser):
    """Collects what a page would fetch or run, and its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.rows = 0
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.rows += tag == "tr"
        self.fetched += [tag] if tag in ("script", "link", "img", "iframe") else []
        self.fetched += [v for k, v in attrs if k in ("src", "href", "xlink:href") and not str(v).startswith("#")]


def test_page_stands_alone_and_escapes_names(three: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    path = tmp_path / "page.html"
    result = run("compare", *three, *QUICK, "--html", path)
    assert result.exit_code == 0, result.output
    text = path.read_text()
    page = Page()
    page.feed(text)
    assert page.fetched == []
    assert page.rows == 4
    assert "model<0>" not in text
    assert text.count("model&lt;0&gt;") >= 3
    assert re.findall(r"url\((?!#)", text) == []
    assert "prefers-color-scheme" in text or "color-scheme: light dark" in text
    refused(run("compare", *three[:1], *QUICK, "--html", tmp_path / "no" / "page.html"), "--html")


def test_page_with_accuracy(three: list[Path]) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    from edgedet.comparison import compare_models
    from edgedet.comparison_page import render_page
    from edgedet_runtime.profiling.session import ProfileConfig

    made = compare_models(three[:2], ProfileConfig(runs=2, threads=(1,)))
    scored = tuple(replace(entry, ap=0.4, ap50=0.6, ap_drop=0.1) for entry in made.contenders)
    text = render_page(replace(made, contenders=scored, data="set.json"))
    assert "Accuracy against latency" in text
    assert "0.400" in text


def test_refuses(three: list[Path]) -> None:
    refused(run("compare", three[0], three[0], *QUICK), "each once")
    refused(run("compare", three[0], "missing.onnx", *QUICK), "missing.onnx")
    refused(run("compare", three[0], *QUICK, "--data", "missing.json"), "missing.json")
