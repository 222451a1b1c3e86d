"""Modules of the user's own whose forward reads values or is fixed to one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from edgedet_export.config import ExportConfig
from edgedet_export.pipeline import export
from edgedet_models.complexity import count
from edgedet_runtime.errors import InputError
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec

SPEC = ModelSpec(
    "custom",
    "own",
    InputSpec("images", 64, 96, layout="NCHW", dtype="float32", color="RGB", scale=1 / 255),
    ResizeSpec(),
    DecodeSpec("ltrb", (LevelSpec(8, "b", "c"),), score="cls"),
    ("p", "q"),
)


class Plain(nn.Module):
    """Boxes and scores at stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8)
        self.boxes, self.scores = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 2, 1)
        self.register_buffer("factor", torch.tensor(2.0))

    def features(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.stem(x))
        return out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f = self.features(x)
        return self.boxes(f), self.scores(f)


class ReadsBuffer(Plain):
    """Reads a number out of a buffer."""

    def features(self, x: Tensor) -> Tensor:
        assert isinstance(self.factor, Tensor)
        return super().features(x) * self.factor.item()


class ReadsValue(Plain):
    """Reads a number that depends on the picture, but decides nothing here."""

    def features(self, x: Tensor) -> Tensor:
        f = super().features(x)
        return f * (1 + int(f.abs().max().item() >= 0))


class Fixed(Plain):
    """Reshapes to the numbers of one size."""

    def features(self, x: Tensor) -> Tensor:
        return super().features(x).reshape(1, 8, 96).reshape(1, 8, 8, 12)


@pytest.mark.parametrize("kind", [ReadsBuffer, ReadsValue, Fixed])
def test_exported_at_its_own_size(kind: type[Plain], tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = kind().eval()
    config = ExportConfig(out=tmp_path / "out", formats=("onnx",), input="float32")
    report = export(module, config, spec=SPEC)
    assert report.manifest.complexity is not None
    assert report.manifest.complexity.macs == 96 * (3 * 64 * 8 + 8 * 6 + 2 * 8)
    images = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    got = ort.InferenceSession(str(tmp_path / "out/model.onnx")).run(None, {"images": images})
    with torch.no_grad():
        expected = module(torch.from_numpy(images))
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


def test_another_size_ends_in_one_line(tmp_path: Path) -> None:
    config = ExportConfig(out=tmp_path / "out", imgsz=(128, 128))
    with pytest.raises(
        InputError, match=r"expected one that runs on float32 \(1, 3, 128, 128\), got RuntimeError"
    ) as e:
        export(Fixed(), config, spec=SPEC)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "out").exists()


def test_counting_runs_modules_that_read_values() -> None:
    assert count(ReadsValue(), (64, 96)).macs == count(Plain(), (64, 96)).macs
