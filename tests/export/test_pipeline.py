"""export(): the user's own module becomes a bundle that runs; whatever fails leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedet_export import pipeline
from edgedet_export.config import ExportConfig
from edgedet_export.fuse import PASSES, PassReport, fuse
from edgedet_export.pictures import probe_picture
from edgedet_export.pipeline import export
from edgedet_runtime import Detector
from edgedet_runtime.bundle.manifest import verify_bundle
from edgedet_runtime.errors import CheckFailedError, InputError
from tests.export.tiny import TinyDetector, tiny_spec

pytestmark = pytest.mark.slow


class OwnModule(nn.Module):
    """What a user might have: returns a dict, knows nothing of edgedet."""

    def __init__(self) -> None:
        super().__init__()
        self.net = TinyDetector(tiny_spec())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(tiny_spec().decode.output_names, self.net(x), strict=True))


def test_own_module_becomes_a_bundle(tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    report = export(
        OwnModule(),
        ExportConfig(out=tmp_path / "bundle"),
        spec=tiny_spec(),
        progress=lambda done, total, text: steps.append((done, total, text)),
    )
    assert [rung["stage"] for rung in report.manifest.to_dict()["parity"]] == [
        *("fused", "onnx", "simplified"),
        *("model.onnx on onnxruntime", "model.onnx on opencv", "openvino/model.xml on openvino"),
    ]
    assert all(rung["passed"] for rung in report.manifest.to_dict()["parity"])
    assert verify_bundle(report.bundle) == []
    assert json.loads((report.bundle / "manifest.json").read_text()) == report.manifest.to_dict()
    assert not list(report.bundle.rglob(".*")), "nothing hidden is left"
    assert [done for done, _, _ in steps] == sorted(done for done, _, _ in steps)
    assert all(done < total for done, total, _ in steps)
    found = {}
    for engine in ("onnxruntime", "openvino", "opencv"):
        with Detector(report.bundle, engine=engine, threads=1) as detector:
            found[engine] = detector(probe_picture())
    assert len(found["onnxruntime"]) > 0
    for other in ("openvino", "opencv"):
        np.testing.assert_array_equal(found[other].class_ids, found["onnxruntime"].class_ids)
        np.testing.assert_allclose(found[other].boxes_xyxy, found["onnxruntime"].boxes_xyxy, atol=0.05)


def test_float32_input_and_onnx_only(tmp_path: Path) -> None:
    config = ExportConfig(out=tmp_path / "b", input="float32", formats=("onnx",))
    report = export(TinyDetector(tiny_spec("anchors")), config)
    assert report.manifest.to_dict()["spec"]["input"]["dtype"] == "float32"
    assert [f["path"] for f in report.manifest.to_dict()["files"]] == ["model.onnx", "golden.npz"]


class _Damage:
    """A pass that claims to fuse and shifts a bias instead."""

    name = "damage"

    def run(self, model: nn.Module, example: Tensor) -> PassReport:
        conv = next(m for m in model.modules() if isinstance(m, nn.Conv2d) and m.bias is not None)
        assert conv.bias is not None
        with torch.no_grad():
            conv.bias.add_(0.05)
        return PassReport(self.name)


def test_a_wrong_fuse_is_found_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "fuse", lambda m, x: fuse(m, x, passes=[*PASSES, _Damage()]))
    with pytest.raises(CheckFailedError, match=r"parity torch → fused: .*nothing was written"):
        export(TinyDetector(tiny_spec()), ExportConfig(out=tmp_path / "b"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"imgsz": (60, 96)},
            "expected multiples of the model's largest stride 16, got 60 96; the next sizes are 64 96",
        ),
        ({"classes": ("a", "b")}, "expected 3 names, as the model has, got 2"),
        ({"calib": Path("/nowhere")}, "which does not exist"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, config: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        export(TinyDetector(tiny_spec()), ExportConfig(out=tmp_path / "b", **config))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_module_without_spec_is_refused() -> None:
    with pytest.raises(InputError, match="needs a ModelSpec"):
        export(OwnModule(), ExportConfig())


def test_module_with_other_outputs_is_refused(tmp_path: Path) -> None:
    class Fewer(OwnModule):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return dict(list(super().forward(x).items())[:3])

    with pytest.raises(InputError, match="module: expected the outputs"):
        export(Fewer(), ExportConfig(out=tmp_path / "b"), spec=tiny_spec())


def test_a_module_and_its_spec_are_enough(tmp_path: Path, in_tmp: Path) -> None:
    """What the messages advise: export(module, spec); with options after it, before it, or by name."""
    import edgedet

    report = edgedet.export(OwnModule(), tiny_spec())
    assert report.bundle == Path("build", tiny_spec().variant)
    config = ExportConfig(out=tmp_path / "b", formats=("onnx",))
    assert edgedet.export(OwnModule(), tiny_spec(), config).bundle == tmp_path / "b"
    assert edgedet.export(OwnModule(), config, spec=tiny_spec()).bundle == tmp_path / "b"
    assert edgedet.export(OwnModule(), spec=tiny_spec(), config=config).bundle == tmp_path / "b"


def test_what_is_neither_options_nor_spec_is_refused() -> None:
    import edgedet

    for wrong in ([tiny_spec(), tiny_spec()], [ExportConfig(), ExportConfig()], [{"out": "b"}]):
        with pytest.raises(InputError, match=r"export\(module, spec\)"):
            edgedet.export(OwnModule(), *wrong)
