"""``edgedet profile``: its figures, its comparison with older ones, and the plan that it stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime.bundle.plan import Plan, StoredPlan, read_plan
from edgedet_runtime.cpu import this_processor
from edgedet_runtime.profiling.report import ProfileReport
from tests.cli.chromium import Chromium, find_chromium
from tests.cli.colors import refused, run, run_json

QUICK = ("--runs", 6, "--threads", "1", "--cold-starts", 0, "--throughput", 0)


@pytest.fixture
def profile(bundle: Path) -> Any:
    return run_json("profile", bundle, *QUICK)


def test_figures_of_a_bundle(bundle: Path) -> None:
    options = ["--runs", 6, "--threads", "1", "--cold-starts", 1, "--cold-runs", 8, "--throughput", 0]
    document = run_json("profile", bundle, *options)
    assert document["format"] == "edgedet-profile-1"
    assert (document["name"], document["input_hw"]) == ("colors", [64, 96])
    assert document["machine"]["packages"]["numpy"]
    (plan,) = document["plans"]
    assert (plan["engine"], plan["precision"], plan["threads"]) == ("onnxruntime", "fp32", 1)
    assert plan["file"] == "model.onnx"
    assert plan["size_bytes"] == (bundle / "model.onnx").stat().st_size
    assert len(plan["samples"]["end_to_end_ms"]) == 6
    latency = plan["latency"]
    parts = sum(latency[name]["lowest"] for name in ("pre_ms", "infer_ms", "post_ms"))
    assert 0 < parts <= latency["end_to_end_ms"]["highest"]
    assert latency["end_to_end_ms"]["median"] <= latency["end_to_end_ms"]["p90"] <= latency["end_to_end_ms"]["p99"]
    cold = plan["cold_start"]
    assert cold["total_s"] == pytest.approx(cold["import_s"] + cold["load_s"] + cold["first_s"], abs=1e-3)
    assert cold["total_s"] > 0.05
    assert 20 < cold["resident_mb"] <= cold["peak_mb"] + 1
    convolutions = [layer for layer in plan["layers"] if layer["macs"]]
    assert [layer["macs"] for layer in convolutions] == [64 * 96 * 9]
    assert plan["int8_share"] == 0.0
    assert document["throughput"] == []
    assert document["recommended"] == {"engine": "onnxruntime", "precision": "fp32", "threads": 1}


def test_layers_lie_under_measured_roofs(profile: Any) -> None:
    (plan,) = profile["plans"]
    peaks, roofline = plan["peaks"], plan["roofline"]
    assert (peaks["engine"], peaks["threads"]) == ("onnxruntime", 1)
    assert peaks["gmacs_per_s"]["fp32"] > 0
    assert len(peaks["bandwidth"]["gb_per_s"]) == len(peaks["bandwidth"]["touched_bytes"]) > 1
    assert sum(roofline[name] for name in ("memory", "compute", "unknown")) == pytest.approx(1, abs=1e-3)
    for layer in plan["layers"]:
        assert layer["bound"] == "memory"  # nine MACs per pixel; no roof is so low that this would be much
        assert layer["allowed_ms"] is not None


def test_several_requests_in_flight(bundle: Path) -> None:
    quick = ["--runs", 4, "--threads", "1", "--cold-starts", 0, "--no-layers", "--throughput", 0.15]
    document = run_json("profile", bundle, *quick, "--requests", 3)
    (of,) = document["throughput"]
    assert (of["engine"], of["precision"], of["requests"]) == ("onnxruntime", "fp32", 3)
    assert of["images_per_s"] == sorted(of["windows_per_s"])[1] > 0
    assert 0 < of["request_ms"] <= of["request_p99_ms"]
    shown = run("profile", bundle, *quick)
    assert shown.exit_code == 0, shown.output
    assert "several requests in flight" in shown.stdout
    assert "what bounds the layers" not in shown.stdout


def test_state_of_the_machine_is_told(bundle: Path, profile: Any) -> None:
    machine = profile["machine"]
    assert {"governor", "quota_cpus", "quota_throttle_count", "throttle_count", "load_average"} <= machine.keys()
    assert {"other_load_cpus", "throttled", "quota_throttled"} <= profile.keys()
    shown = run("profile", bundle, *QUICK)
    for words in ("quota", "governor", "throttled:", "load of others", "what bounds the layers", "of the roofline"):
        assert words in shown.stdout


def test_human_output_and_stored_plan(bundle: Path) -> None:
    shown = run("profile", bundle, *QUICK, "--no-layers", "--save-plan")
    assert shown.exit_code == 0, shown.output
    assert "onnxruntime fp32 1 thread" in shown.stdout
    assert "recommended: onnxruntime fp32 1 thread" in shown.stdout
    assert read_plan(bundle) == StoredPlan(Plan("onnxruntime", "fp32", 1), this_processor())


def test_single_file_and_several_thread_counts(color_model: Path, photo: Path) -> None:
    document = run_json(
        "profile", color_model, "--image", photo, *QUICK, "--runs", 3, "--threads", "1,2", "--no-layers"
    )
    assert [plan["threads"] for plan in document["plans"]] == [1, 2]
    assert document["picture"] == "given, 192x128"


def test_same_speed_passes_and_half_speed_fails(bundle: Path, profile: Any, tmp_path: Path) -> None:
    """The old profile is made from the new one's samples, so that the test does not depend on the machine."""
    for factor, code in ((1000.0, 0), (0.001, 1)):
        old = json.loads(json.dumps(profile))
        samples = old["plans"][0]["samples"]
        samples["end_to_end_ms"] = [ms * factor for ms in samples["end_to_end_ms"]]
        path = tmp_path / "old.json"
        path.write_text(json.dumps(old))
        result = run("profile", bundle, *QUICK, "--no-layers", "--compare", path, "--json")
        assert result.exit_code == code, result.output
        (change,) = json.loads(result.stdout)["changes"]
        assert change["verdict"] == ("faster" if code == 0 else "slower")
        if code:
            refused(result, "expected no slower", code=1)


def test_what_else_changed_is_told(bundle: Path, profile: Any, tmp_path: Path) -> None:
    machine = {**profile["machine"], "packages": {**profile["machine"]["packages"], "onnxruntime": "1.0"}}
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"host": "board", "profile": {**profile, "machine": machine, "picture": "another"}}))
    result = run("profile", bundle, *QUICK, "--no-layers", "--compare", path)
    assert "also different: picture: another, now golden picture" in result.stderr
    assert "also different: onnxruntime: 1.0, now " in result.stderr
    assert "new / old" in result.stdout


def test_report_survives_json(bundle: Path) -> None:
    document = run_json("profile", bundle, *QUICK, "--runs", 3, "--cold-starts", 1, "--cold-runs", 4)
    report = ProfileReport.from_dict(document)
    assert ProfileReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    (entry,), (told,) = report.plans, document["plans"]
    assert list(entry.samples.end_to_end_ms) == told["samples"]["end_to_end_ms"]
    assert entry.cold_start is not None
    assert entry.peaks is not None
    assert len(entry.layers) == len(told["layers"]) > 0
    assert document["machine"]["cpu"] == report.machine.cpu


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda old: "no profile", ["expected a profile"]),
        (lambda old: {**old, "format": "edgedet-profile-99"}, ["edgedet-profile-99"]),
        (lambda old: {**old, "machine": {**old["machine"], "cpu": "Z80"}}, ["another CPU", "Z80"]),
        (lambda old: {**old, "plans": []}, ["a plan in common"]),
        (lambda old: {**old, "plans": [{"engine": "onnxruntime"}]}, ["plans[0]", "is missing"]),
        (lambda old: {**old, "name": "yolov5n"}, ["another model", "yolov5n at 96x64", "edgedet compare"]),
        (lambda old: {**old, "input_hw": [640, 640]}, ["another model", "colors at 640x640"]),
    ],
    ids=["text", "format", "cpu", "plans", "damaged", "name", "size"],
)
def test_compare_refuses(bundle: Path, profile: Any, tmp_path: Path, change: Any, words: list[str]) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(change(profile)))
    refused(run("profile", bundle, *QUICK, "--no-layers", "--compare", path), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threads", "1,x"], ["--threads", "got 'x'"]),
        (["--threads", "0"], ["--threads", "from 1 to 1024"]),
        (["--threads", "2147483648"], ["--threads", "from 1 to 1024"]),
        (["--engine", "tensorrt"], ["tensorrt"]),
        (["--engine", "openvino"], ["no file for engine openvino"]),
        (["--precision", "int8"], ["no file", "int8"]),
        (["--image", "missing.png"], ["missing.png"]),
        (["--throughput", "inf"], ["--throughput", "got 'inf'"]),
        (["--html", "no/such/page.html"], ["--html", "no folder"]),
        (["--html", "."], ["--html", "it is a folder"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refuses(bundle: Path, options: list[str], words: list[str]) -> None:
    refused(run("profile", bundle, "--runs", 1, "--cold-starts", 0, "--throughput", 0, *options), *words)


def test_plan_needs_a_bundle(color_model: Path) -> None:
    refused(run("profile", color_model, "--runs", 1, "--cold-starts", 0, "--save-plan"), "--save-plan", "bundle")


def test_page_stands_alone(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    path = tmp_path / "page.html"
    result = run("profile", bundle, *QUICK, "--throughput", 0.1, "--html", path)
    assert result.exit_code == 0, result.output
    text = path.read_text()
    assert "Layers of onnxruntime fp32 1 thread" in text
    assert text.count("<svg") == 2
    for words in ("Roofline of onnxruntime fp32 1 thread", "Several requests in flight", "What bounds the layers"):
        assert words in text
    assert "fp32 peak" in text
    for fetching in ("<script", "<link", "<img", "src=", "url(http", "@import"):
        assert fetching not in text


@pytest.mark.slow
@pytest.mark.parametrize(("width_px", "dark"), [(1280, False), (390, True)], ids=["desk", "phone"])
def test_page_in_a_real_browser(bundle: Path, tmp_path: Path, width_px: int, dark: bool) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    find_chromium()
    page = tmp_path / "page.html"
    assert run("profile", bundle, *QUICK, "--html", page).exit_code == 0
    script = """({
      narrowest: Math.min(...[...document.querySelectorAll('.wide td:first-child')].map(c => c.clientWidth)),
      smallest: Math.min(...[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)),
    })"""
    with Chromium(tmp_path / "profile") as browser:
        seen = browser.visit(page, width_px=width_px, dark=dark, script=script)
    assert seen.complaints == []
    assert seen.requests == [page.resolve().as_uri()]
    assert seen.content_px <= width_px
    assert seen.facts["smallest"] > 6, "letters can be read"
    assert seen.facts["narrowest"] > 30, "words are not broken into pieces"
