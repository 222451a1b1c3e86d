"""YOLOv9's and YOLOv10's parallel convolutions become one, with the rest of their networks left alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgedet_export.fuse import FoldBatchNorm, MergeBranches, fuse, merge_block
from edgedet_models.complexity import count
from edgedet_models.families import ultralytics, yolov9
from edgedet_models.layers.parallel import ParallelConv, ParallelDepthwise
from tests.export.fuse.blocks import randomise


@pytest.mark.parametrize("identity", [False, True])
def test_parallel_convolutions(identity: bool) -> None:
    block = ParallelConv(6, 6)
    block.bn = nn.BatchNorm2d(6) if identity else None
    randomise(block)
    fused, report = fuse(nn.Sequential(block), torch.randn(1, 6, 8, 10), passes=[MergeBranches()])
    assert [change.path for change in report.passes[0].changed] == ["0"]
    assert [type(m) for m in fused.modules() if not list(m.children())] == [nn.Conv2d, nn.SiLU]
    x = torch.randn(2, 6, 7, 9)
    torch.testing.assert_close(fused(x), block(x), rtol=1e-4, atol=1e-4)


def test_depthwise_pair() -> None:
    block = ParallelDepthwise(5)
    randomise(block)
    merged = merge_block(block)
    convs = [m for m in merged.modules() if isinstance(m, nn.Conv2d)]
    assert [(conv.kernel_size, conv.groups) for conv in convs] == [((7, 7), 5)]
    x = torch.randn(2, 5, 9, 11)
    torch.testing.assert_close(merged(x), block(x), rtol=1e-4, atol=1e-4)


FUSED = {
    "yolov8n": 3_151_904,
    "yolov8n-p2": 3_348_240,
    "yolov5nu": 2_649_200,
    "yolov3-tinyu": 12_168_784,
    "yolo11n": 2_616_248,
    "yolo12n": 2_590_824,
    "yolov9t": 2_094_000,
    "yolov10n": 2_299_264,
    "yolo26n": 2_408_932,
    "gelan-t": 2_407_632,
}
"""Parameters that the official code counts after fusing, at 80 classes."""


FUSED_GFLOPS = {"yolov8n": 8.7, "yolo11n": 6.5, "yolov10n": 6.7, "yolo26n": 5.4}
"""GFLOPs at 640 px of the official tables."""


@pytest.mark.slow
@pytest.mark.parametrize("variant", FUSED)
def test_fused_networks_have_the_official_parameters(variant: str) -> None:
    """Every branch is merged and every BatchNorm folded, in attention blocks too; each proven in float64."""
    family = yolov9 if variant.startswith("gelan") else ultralytics
    model = family.VARIANTS[variant](tuple(f"class{i}" for i in range(80))).eval()
    model.choose_head(None)
    randomise(model)
    fused, report = fuse(model, model.dummy_input((64, 64)), passes=[MergeBranches(), FoldBatchNorm()])
    assert not [d for p in report.passes for d in p.declined]
    constant = 0 if model.spec.decode.kind == "ltrb" else 16
    assert fused.num_parameters + constant == FUSED[variant]
    if variant in FUSED_GFLOPS:
        assert count(fused, (640, 640)).gflops == pytest.approx(FUSED_GFLOPS[variant], abs=0.0501)
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for got, expected in zip(fused(x), model(x), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
