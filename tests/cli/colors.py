"""A detector that is known by heart: it sees colors.

Three fixed boxes, one per channel; a box's score is the mean of its channel over the letterboxed picture, 0..1. So the
detections of any picture can be told without a network, swapped channels show, and no training is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner, Result

from edgedet.cli import app
from edgedet_runtime import Detector, ModelSpec
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ResizeSpec, Thresholds

INPUT_HW = (64, 96)
CLASSES = ("blue", "green", "red")
BOXES = ((0.0, 0.0, 24.0, 24.0), (32.0, 0.0, 56.0, 24.0), (64.0, 32.0, 88.0, 56.0))


def spec() -> ModelSpec:
    """Return the contract of the color detector."""
    return ModelSpec(
        family="custom",
        variant="colors",
        input=InputSpec("images", *INPUT_HW),
        resize=ResizeSpec(),
        decode=DecodeSpec("decoded", (LevelSpec(32, "found", "found"),), score="cls"),
        classes=CLASSES,
        thresholds=Thresholds(conf=0.3),
        licence="Apache-2.0",
        tool_version="0",
    )


def write_color_model(path: Path) -> Path:
    """Write the detector as ONNX: 1x1 convolution, mean over the picture, fixed boxes beside it."""
    onnx = pytest.importorskip("onnx", reason="the model is made with the onnx package")
    from onnx import TensorProto, helper, numpy_helper

    identity = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1) / 255
    boxes = np.array(BOXES, np.float32)[None]
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "weights"], ["scaled"], name="identity"),
        helper.make_node("GlobalAveragePool", ["scaled"], ["means"]),
        helper.make_node("Reshape", ["means", "row"], ["row_means"]),
        helper.make_node("Mul", ["row_means", "eye"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["found"], axis=2),
    ]
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, *INPUT_HW, 3])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, [1, 3, 7])],
        [
            numpy_helper.from_array(identity, "weights"),
            numpy_helper.from_array(boxes, "boxes"),
            numpy_helper.from_array(np.eye(3, dtype=np.float32)[None], "eye"),
            numpy_helper.from_array(np.array([1, 3, 1], np.int64), "row"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"edgedet": spec().to_json()})
    onnx.save(model, path)
    return path


def solid(bgr: tuple[int, int, int], size_hw: tuple[int, int] = INPUT_HW) -> npt.NDArray[np.uint8]:
    """Return a picture of one color."""
    return np.full((*size_hw, 3), bgr, np.uint8)


def write_bundle(folder: Path) -> Path:
    """Write a bundle around the color detector, as export does: manifest with hashes, golden vectors."""
    folder.mkdir(parents=True)
    write_color_model(folder / "model.onnx")
    image = solid((30, 90, 230))
    with Detector(folder / "model.onnx", engine="onnxruntime", threads=1, conf=0.2) as detector:
        found = detector(image)
    key = "model.onnx"
    arrays: dict[str, Any] = {
        "image_bgr": image,
        f"{key}|conf": np.float64(0.2),
        f"{key}|boxes_xyxy": found.boxes_xyxy,
        f"{key}|scores": found.scores,
        f"{key}|class_ids": found.class_ids,
    }
    np.savez_compressed(folder / "golden.npz", **arrays)
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    """Write the manifest for the files as they are now."""
    entries = []
    for name, facts in (("model.onnx", {"precision": "fp32", "engines": ["onnxruntime"]}), ("golden.npz", {})):
        content = (folder / name).read_bytes()
        entries.append({"path": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), **facts})
    (folder / "manifest.json").write_text(json.dumps({"files": entries, "recommended": {"onnxruntime": "fp32"}}))


def run(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def run_json(*arguments: object) -> Any:
    """Run a command with ``--json``, which must succeed, and return its document."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def shell(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(str(root / part) for part in (".", "export", "models", "runtime"))
    return subprocess.run(
        [sys.executable, "-m", "edgedet", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        timeout=600,
        check=False,
    )


def refused(result: Result, *words: str, code: int = 2) -> None:
    """Assert that a command was refused in one line that says certain things."""
    assert result.exit_code == code, result.output
    lines: Sequence[str] = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
