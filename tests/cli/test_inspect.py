"""``edgedet inspect`` and ``edgedet models``."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.cli.colors import refused, run, run_json


def test_bundle(bundle: Path) -> None:
    found = run_json("inspect", bundle)
    assert (found["kind"], found["variant"], found["classes"]) == ("bundle", "colors", ["blue", "green", "red"])
    assert [file["path"] for file in found["files"]] == ["model.onnx", "golden.npz"]
    assert found["recommended"] == {"onnxruntime": "fp32"}
    assert "colors" in run("inspect", bundle).stdout


def test_model_file(color_model: Path) -> None:
    found = run_json("inspect", color_model)
    assert (found["kind"], found["family"], found["licence"]) == ("ONNX model", "custom", "Apache-2.0")
    assert (found["input"]["height"], found["input"]["width"]) == (64, 96)
    assert found["thresholds"]["conf"] == 0.3


def test_foreign_onnx(color_model: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(color_model)
    del model.metadata_props[:]
    model.metadata_props.add(key="license", value="MIT License (a link)")
    path = tmp_path / "foreign.onnx"
    onnx.save(model, path)
    found = run_json("inspect", path)
    assert found["spec"].startswith("none")
    assert "GlobalAveragePool" in found["operators"]
    assert found["quantised"] is False
    assert found["licence"] == "MIT"


class Bomb:
    """Unpickling this makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("command", ["inspect", "export"])
def test_a_pickle_that_would_act_is_refused_and_does_not(tmp_path: Path, protocol: int, command: str) -> None:
    pytest.importorskip("torch")
    target = tmp_path / "ran"
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps({"model": Bomb(target)}, protocol=protocol))
    refused(run(command, path), "weights.pt")
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x80\x02.", b"text", b"\x00" * 4096])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    refused(run("inspect", path), "weights.pt")


def test_nothing_there(tmp_path: Path) -> None:
    refused(run("inspect", tmp_path / "no.pt"), "no.pt", "nothing there")
    refused(run("inspect", tmp_path), "manifest.json")


@pytest.mark.interop
def test_real_checkpoint(shared: Path) -> None:
    found = run_json("inspect", shared / "weights/yolov5n-custom/yolov5n_ppe_nc2_Model.pt")
    assert (found["family"], found["variant"], found["classes"]) == ("yolov5", "yolov5n", ["helmet", "vest"])
    assert "GPL" in found["licence"]
    assert found["dtypes"] == ["float16", "int64"]


def test_models() -> None:
    pytest.importorskip("torch")
    found = {entry["name"]: entry for entry in run_json("models", "yolov5[ns]")}
    assert list(found) == ["yolov5n", "yolov5s"]
    assert found["yolov5n"]["family"] == "yolov5"
    assert found["yolov5n"]["params"] == 1_872_157
    assert found["yolov5s"]["params"] == 7_235_389
    assert found["yolov5s"]["gflops"] == pytest.approx(16.5, abs=0.05)
    assert "1,872,157" in run("models", "yolov5n").stdout
    refused(run("models", "resnet*"), "resnet*", "yolov5n")
    assert all(entry["memory_access_bytes"] > 4 * entry["params"] for entry in found.values())


def test_options_of_sensitivity_go_with_it(color_model: Path) -> None:
    refused(run("inspect", color_model, "--engine", "openvino"), "go with --sensitivity")


@pytest.mark.slow
def test_sensitivity(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from edgedet_export.config import ExportConfig
    from edgedet_export.pipeline import export
    from tests.export.tiny import TinyDetector, tiny_spec

    bundle = tmp_path / "bundle"
    export(TinyDetector(tiny_spec()), ExportConfig(out=bundle, formats=("onnx",)))
    picture = tmp_path / "layers.png"
    found = run_json("inspect", bundle, "--sensitivity", "--picture", picture)
    effects = [layer["effect"] for layer in found["layers"]]
    assert len(effects) == 8, "four convolutions of the body and four of the heads"
    assert effects == sorted(effects, reverse=True)
    assert effects[0] > 0
    assert picture.stat().st_size > 1000
    refused(run("inspect", bundle, "--sensitivity", "--engine", "opencv"), "expected onnxruntime or openvino")


@pytest.mark.parametrize("command", ["inspect", "export"])
@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
    ],
)
def test_files_given_in_place_of_a_model(tmp_path: Path, command: str, suffix: str, data: bytes, words: str) -> None:
    pytest.importorskip("torch")
    path = tmp_path / f"model{suffix}"
    path.write_bytes(data)
    refused(run(command, path, *(["--out", tmp_path / "out"] if command == "export" else [])), words)


def test_a_zip_cut_short(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "last.pt"
    torch.save({"model": {"weight": torch.ones(9, 9)}}, path)
    path.write_bytes(path.read_bytes()[:700])
    refused(run("inspect", path), "a zip file cut short: 700 bytes")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from edgedet_models.families.yolox import Yolox, YoloxConfig, _spec

    state = Yolox(YoloxConfig(8, 1, 1, depthwise=True), _spec("custom", ("a", "b"))).state_dict()
    state["head.cls_preds.0.weight"][1, :3] = float("nan")
    path = tmp_path / "diverged.pth"
    torch.save({"model": {"x": torch.ones(1)}, "ema": {"module": state}, "license": "MIT License (a link)"}, path)
    found = run_json("inspect", path)
    assert found["licence"] == "MIT"
    assert found["weights"] == "the average under ema.module; left: model"
    assert found["damaged"] == [{"tensor": "head.cls_preds.0.weight", "NaN or infinite": 3, "of": 64}]
    refused(run("export", path, "--out", tmp_path / "out"), "head.cls_preds.0.weight")
