"""``edgedet compare --zoo``: variants are built untrained, kept, and measured like any other model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.colors import refused, run

pytest.importorskip("torch", reason="the zoo is built with the extra export")

from edgedet.comparison.zoo import is_built, match_variants
from edgedet_runtime.errors import InputError

SMALL = ("yolov5n-squeezenet", "yolov5n-mobilenetv3-small")


def test_patterns_keep_their_order_and_name_each_variant_once() -> None:
    assert match_variants(["yolov5n", "yolov5n-mobilenetv3-*", "yolov5n*-small"]) == [
        "yolov5n",
        "yolov5n-mobilenetv3-small",
        "yolov5n-mobilenetv3-large",
    ]
    assert "yolov5n" not in match_variants(["yolov5n-*"])
    assert {"yolov5n-ghostnet", "yolov5n-efficientnet-b0", "yolov5n-aspp"} <= set(match_variants(["yolov5n-*"]))
    with pytest.raises(InputError, match="yolov99"):
        match_variants(["yolov5n", "yolov99*"])


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    refused(run("compare"), "--zoo")
    refused(run("compare", "--zoo", "nothing*"), "nothing*", "yolov5n")
    refused(run("compare", "a", "--size", 320), "--zoo")
    refused(run("compare", "--zoo", "yolov5n", "--data", "coco.json"), "untrained")
    refused(run("compare", "--zoo", "yolov5n", "--size", 100, "--out", tmp_path), "yolov5n", "multiples", "32")
    refused(run("compare", "a", "--samples", "b"), "--html")


@pytest.mark.slow
def test_builds_keeps_and_measures(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    options = ("--zoo", ",".join(SMALL), "--size", 96, "--out", tmp_path, "--runs", 2, "--threads", 1)
    first = run("compare", *options, "--json")
    assert first.exit_code == 0, first.output
    assert first.stderr.count("built in") == 2
    document = json.loads(first.stdout)
    entries = document["contenders"]
    plans = [(engine, precision) for engine in ("onnxruntime", "openvino") for precision in ("fp32", "int8")]
    assert [(e["name"], e["plan"]["engine"], e["plan"]["precision"]) for e in entries] == [
        (name, *plan) for name in SMALL for plan in plans
    ]
    assert all(e["trained"] is False and e["input_hw"] == [96, 96] and e["ap"] is None for e in entries)
    assert all(e["gflops"] > 0 and e["memory_access_bytes"] > 0 and e["params"] > 1e6 for e in entries)
    by_plan = {(e["name"], e["plan"]["engine"], e["plan"]["precision"]): e for e in entries}
    for name in SMALL:
        for engine in ("onnxruntime", "openvino"):
            fp32, int8 = by_plan[name, engine, "fp32"], by_plan[name, engine, "int8"]
            assert int8["size_bytes"] < 0.6 * fp32["size_bytes"]
            assert fp32["speed_up"] is None
            assert int8["speed_up"] == pytest.approx(fp32["latency"]["median"] / int8["latency"]["median"])
    assert all((e["ratio_to_first"] is None) == (e["name"] == SMALL[0]) for e in entries)

    kept = tmp_path / "96x96" / SMALL[0]
    written = (kept / "manifest.json").stat().st_mtime_ns
    second = run("compare", *options)
    assert second.exit_code == 0, second.output
    assert second.stderr.count("is there already") == 2
    assert (kept / "manifest.json").stat().st_mtime_ns == written
    assert "latency only, untrained" in second.stdout
    assert all(name in second.stdout for name in ("parameters", "GFLOPs", "memory access MB", "speed-up", "of first"))
    manifest = json.loads((kept / "manifest.json").read_text())
    assert manifest["quantization"]["openvino"]["searched"] is False
    assert manifest["recommended"] == {"onnxruntime": "fp32", "openvino": "fp32"}, "nobody judged the INT8 files"

    assert is_built(kept, SMALL[0], (96, 96))
    assert not is_built(kept, SMALL[1], (96, 96))
    assert not is_built(kept, SMALL[0], (96, 128))
    assert not is_built(tmp_path, SMALL[0], (96, 96))
    (kept / "model.int8.onnx").unlink()
    assert not is_built(kept, SMALL[0], (96, 96)), "a file is gone"
