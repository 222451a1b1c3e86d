"""YOLOv5n with light backbones and other blocks: size, fusing, saving, export."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedet_export.fuse import fuse
from edgedet_models import families
from edgedet_models.backbones import BACKBONES
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.complexity import count
from edgedet_models.detector import DetectorModule
from edgedet_models.families import yolov5_backbones
from edgedet_models.families.yolov5_backbones import VARIANTS, build
from edgedet_models.layers.channel_shuffle import ChannelShuffle
from edgedet_models.layers.octave import C3Octave
from edgedet_models.training.state import save_weights
from edgedet_runtime.spec import Thresholds
from tests.models.family_template import Damage, assert_refused, assert_round_trip, randomise, state_dict_checkpoint

CLASSES = ("gear", "bolt", "nut")
SIZE_HW = (64, 96)
YOLOV5N_PARAMS = 1_767_976
"""YOLOv5n's at three classes, measured with the official code; see the fixtures' README."""


def _rescale(conv: nn.Conv2d, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
    """Give a convolution's output unit spread; as initialised, signals die on their way and no error shows."""
    spread = out.std().clamp(min=1e-6)
    conv.weight /= spread
    if conv.bias is not None:
        conv.bias /= spread
    return out / spread


@cache
def _randomised(variant: str) -> DetectorModule:
    """Build a variant whose raw outputs have a spread of one, with BatchNorm statistics that show folding errors."""
    model = VARIANTS[variant](CLASSES)
    randomise(model)
    model.eval()
    hooks = [m.register_forward_hook(_rescale) for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        model(_input())
    for hook in hooks:
        hook.remove()
    return model


def _assert_close(got: Tensor, expected: Tensor) -> None:
    assert 0.5 < expected.std() < 2, "degenerate outputs show no error"
    assert (got - expected).abs().max() <= 1e-4 * max(1.0, float(expected.abs().max()))


def _input() -> Tensor:
    return torch.rand(1, 3, *SIZE_HW, generator=torch.Generator().manual_seed(3))


def test_every_backbone_and_option_of_the_issue_is_a_variant() -> None:
    assert set(VARIANTS) == {
        *(f"yolov5n-mobilenet{v}" for v in ("v1", "v2", "v3-small", "v3-large")),
        *(f"yolov5n-shufflenet{v}" for v in ("v1", "v2")),
        *(f"yolov5n-{b}" for b in ("ghostnet", "mnasnet", "squeezenet", "efficientnet-b0", "efficientnet-lite0")),
        *(f"yolov5n-{option}" for option in ("se", "cbam", "aspp", "octave")),
    }
    assert set(VARIANTS) <= set(families.variants())


PARAMETERS_80_CLASSES = {
    "yolov5n-mobilenetv1": 1_862_237,
    "yolov5n-mobilenetv2": 2_024_285,
    "yolov5n-mobilenetv3-small": 1_827_677,
    "yolov5n-mobilenetv3-large": 1_702_469,
    "yolov5n-shufflenetv1": 2_041_557,
    "yolov5n-shufflenetv2": 1_810_081,
    "yolov5n-ghostnet": 1_607_089,
    "yolov5n-mnasnet": 1_695_461,
    "yolov5n-squeezenet": 2_004_285,
    "yolov5n-efficientnet-b0": 1_934_175,
    "yolov5n-efficientnet-lite0": 1_771_645,
    "yolov5n-se": 1_884_453,
    "yolov5n-cbam": 1_884_325,
    "yolov5n-aspp": 2_044_573,
    "yolov5n-octave": 1_873_245,
}
"""As built when latency and accuracy were measured (`bench_backbones.py`): another number is another network."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_size_is_about_yolov5ns_and_does_not_move(variant: str) -> None:
    assert abs(_randomised(variant).num_parameters / YOLOV5N_PARAMS - 1) < 0.15
    coco = VARIANTS[variant](tuple(f"class{i}" for i in range(80)))
    assert coco.num_parameters == PARAMETERS_80_CLASSES[variant]


@pytest.mark.parametrize("name", [n for n, kind in BACKBONES.items() if len(kind.widths) > 1])
def test_the_widths_beside_the_chosen_one_are_further_from_yolov5n(name: str) -> None:
    kind = BACKBONES[name]
    at = kind.widths.index(kind.width)
    sizes = {}
    with torch.device("meta"):
        for width in kind.widths[max(at - 1, 0) : at + 2]:
            sizes[width] = build(name, CLASSES, width=width).num_parameters
    assert min(sizes, key=lambda width: abs(sizes[width] - YOLOV5N_PARAMS)) == kind.width


def test_the_cost_of_yolov5n_with_mobilenetv1() -> None:
    """Counted by hand for the stem: 3x3x3x16 weights at 320x320 places, and two operations of its BatchNorm each."""
    model = _randomised("yolov5n-mobilenetv1")
    backbone = model.get_submodule("model.0")
    stem = nn.Sequential(backbone.get_submodule("conv_stem"), backbone.get_submodule("bn1"))
    assert count(stem, (640, 640)).macs == (27 * 16 + 2 * 16) * 320 * 320
    assert 4.0 < count(model, (640, 640)).gflops < 5.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_batchnorm_is_left_after_fusing(variant: str) -> None:
    model, x = _randomised(variant), _input()
    fused, report = fuse(model, x)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert all(not p.declined for p in report.passes)
    with torch.no_grad():
        for got, expected in zip(fused(x), model(x), strict=True):
            _assert_close(got, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_state_dict_is_recognised_and_loads(variant: str) -> None:
    model = _randomised(variant)
    loaded = assert_round_trip(yolov5_backbones, model, variant)
    assert loaded.spec == model.spec.replace(classes=("class0", "class1", "class2"))
    found = families.recognise(state_dict_checkpoint(model.state_dict()))
    assert [r.family for r in found] == [yolov5_backbones.FAMILY]


def test_trained_weights_carry_names_thresholds_and_size(tmp_path: Path) -> None:
    model = _randomised("yolov5n-mobilenetv3-small")
    size = dataclasses.replace(model.spec.input, height=320, width=416)
    spec = model.spec.replace(thresholds=Thresholds(conf=0.4, iou=0.6), input=size)
    path = tmp_path / "weights.safetensors"
    save_weights(path, model, spec)
    loaded = families.load(read_checkpoint(path))
    assert loaded.spec == spec
    with torch.no_grad():
        for got, expected in zip(loaded(_input()), model(_input()), strict=True):
            assert torch.equal(got, expected)


def test_another_width_is_read_off_the_shapes() -> None:
    model = build("shufflenetv2", CLASSES, width=0.5)
    assert_round_trip(yolov5_backbones, model.eval(), "yolov5n-shufflenetv2-w0.5")


@pytest.mark.parametrize(
    "damage",
    [
        Damage("model.0.features.3.block.0.0.weight", "drop", "model.0.features.3.block.0.0.weight"),
        Damage("model.0.features.3.block.0.0.weight", "add", "model.0.features.3.block.0.0.weight.more"),
        Damage("model.0.features.3.block.0.0.weight", "shorten", "model.0.features.3.block.0.0.weight"),
        Damage("model.19.m.0.boxes.weight", "shorten", "model.19.m.0.boxes.weight"),
        Damage("model.4.cv1.conv.weight", "shorten", "model.4.cv1.conv.weight"),
    ],
)
def test_damaged_files_are_refused(damage: Damage) -> None:
    tensors = _randomised("yolov5n-mobilenetv3-small").state_dict()
    assert_refused(yolov5_backbones, state_dict_checkpoint(damage.apply(tensors)), damage.words)


def test_a_foreign_state_dict_is_not_taken_for_one() -> None:
    assert yolov5_backbones.recognise(state_dict_checkpoint({"model.0.conv.weight": torch.zeros(8, 3, 3, 3)})) is None


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["yolov5n-mobilenetv3-small", "yolov5n-shufflenetv1", "yolov5n-shufflenetv2"])
def test_the_onnx_model_computes_the_same_with_plain_static_operators(variant: str) -> None:
    _assert_exports(variant)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["yolov5n-cbam", "yolov5n-octave", "yolov5n-squeezenet"])
def test_the_onnx_model_of_options_and_ceiled_pools_computes_the_same(variant: str) -> None:
    _assert_exports(variant)


def _assert_exports(variant: str) -> None:
    import onnxruntime

    from edgedet_export.to_onnx import to_onnx

    fused, _ = fuse(_randomised(variant), _input())
    fused.spec = fused.spec.replace(input=dataclasses.replace(fused.spec.input, height=SIZE_HW[0], width=SIZE_HW[1]))
    proto = to_onnx(fused)
    kinds = {node.op_type for node in proto.graph.node}
    assert all(node.domain == "" for node in proto.graph.node)
    assert not kinds & {"BatchNormalization", "Shape", "If", "Loop", "Gather", "Expand"}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {fused.spec.input.name: _input().numpy()})
    with torch.no_grad():
        for got, expected in zip(outputs, fused(_input()), strict=True):
            _assert_close(torch.from_numpy(np.asarray(got)), expected)


def test_shuffling_reads_the_channels_group_by_group() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert ChannelShuffle(2)(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_octaves_exchange_what_they_know() -> None:
    torch.manual_seed(0)
    stage = C3Octave(8, 16, 1, add=True).eval()
    x = torch.rand(1, 8, 8, 12)
    with torch.no_grad():
        before = stage(x)
        for part in ("low_high", "high_low"):
            weight = stage.get_submodule(f"cells.0.narrow.{part}.0").get_parameter("weight")
            kept = weight.clone()
            weight.zero_()
            assert not torch.allclose(stage(x), before)
            weight.copy_(kept)
    assert before.shape == (1, 16, 8, 12)
