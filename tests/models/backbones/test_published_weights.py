"""Backbones with published weights against features that torchvision and timm computed from them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedet_models.backbones import BACKBONES, Backbone, load_imagenet
from edgedet_models.backbones.efficientnet import EfficientNet
from edgedet_models.backbones.ghostnet import GhostNet
from edgedet_models.backbones.mnasnet import MnasNet
from edgedet_models.backbones.mobilenet_v1 import MobileNetV1
from edgedet_models.backbones.mobilenet_v2 import MobileNetV2
from edgedet_models.backbones.mobilenet_v3 import MobileNetV3
from edgedet_models.backbones.shufflenet_v2 import ShuffleNetV2
from edgedet_models.backbones.squeezenet import SqueezeNet
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_runtime.errors import CheckpointError
from tests.models.family_template import fixture_folder

LIMIT = 1e-4


@dataclass(frozen=True, slots=True)
class Published:
    """A fixture, the backbone for it, and the layers whose outputs it holds (reference name to own name)."""

    fixture: str
    build: Callable[[], Backbone]
    layers: dict[str, str]


def _same(*names: str) -> dict[str, str]:
    return {f"feat_{name}": name.rpartition("_")[0] for name in names}


PUBLISHED = [
    Published(
        "backbone-mobilenet_v2-w035",
        lambda: MobileNetV2(0.35, head=True),
        _same("features.3_s4", "features.6_s8", "features.13_s16", "features.18_s32"),
    ),
    Published(
        "backbone-mobilenet_v3_small",
        lambda: MobileNetV3("small", head=True),
        _same("features.1_s4", "features.3_s8", "features.8_s16", "features.12_s32"),
    ),
    Published(
        "backbone-mnasnet0_5",
        lambda: MnasNet(0.5, head=True),
        _same("layers.8_s4", "layers.9_s8", "layers.11_s16", "layers.16_s32"),
    ),
    Published(
        "backbone-shufflenet_v2_x0_5",
        lambda: ShuffleNetV2(0.5, head=True),
        _same("maxpool_s4", "stage2_s8", "stage3_s16", "conv5_s32"),
    ),
    Published(
        "backbone-efficientnet_b0-fp16",
        lambda: EfficientNet(head=True),
        _same("features.2_s4", "features.3_s8", "features.5_s16", "features.8_s32"),
    ),
    Published(
        "backbone-timm-mobilenetv1_100-fp16",
        MobileNetV1,
        {f"feat_{i}_s{2 << i}": f"blocks.{i}" for i in range(5)},
    ),
    Published(
        "backbone-timm-ghostnet_050",
        lambda: GhostNet(0.5),
        {
            "feat_0_s2": "conv_stem",
            "feat_1_s4": "blocks.1",
            "feat_2_s8": "blocks.3",
            "feat_3_s16": "blocks.5",
            "feat_4_s32": "blocks.7",
        },
    ),
    Published(
        "backbone-squeezenet1_1",
        lambda: SqueezeNet(padding=0),
        _same("features.2_s4", "features.5_s8", "features.8_s16", "features.12_s16"),
    ),
]


def _features(backbone: nn.Module, layers: list[str], x: Tensor) -> dict[str, Tensor]:
    """Run a backbone and return the outputs of the named layers."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> None:
            found[name] = result.clone()

        return hook

    for name in layers:
        backbone.get_submodule(name).register_forward_hook(keep(name))
    with torch.no_grad():
        backbone(x)
    return found


@pytest.mark.interop
@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case.fixture)
def test_features_equal_the_reference(case: Published) -> None:
    folder = fixture_folder(case.fixture)
    reference = np.load(folder / "reference.npz")
    backbone = case.build().eval()
    load_imagenet(backbone, read_checkpoint(folder / "checkpoint.pth"))
    assert set(case.layers) == {name for name in reference.files if name.startswith("feat_")}
    found = _features(backbone, list(case.layers.values()), torch.from_numpy(reference["input"]))
    for name, layer in case.layers.items():
        expected, got = reference[name], found[layer].numpy()
        assert got.shape == expected.shape, name
        assert np.abs(got - expected).max() <= LIMIT * np.abs(expected).max(), name


@pytest.mark.interop
@pytest.mark.parametrize(
    "case", [c for c in PUBLISHED if "ghost" not in c.fixture and "squeeze" not in c.fixture], ids=lambda c: c.fixture
)
def test_a_backbone_returns_the_features_at_strides_8_16_and_32(case: Published) -> None:
    folder = fixture_folder(case.fixture)
    reference = np.load(folder / "reference.npz")
    backbone = case.build().eval()
    load_imagenet(backbone, read_checkpoint(folder / "checkpoint.pth"))
    with torch.no_grad():
        features = backbone(torch.from_numpy(reference["input"]))
    for name, feature in zip(list(case.layers)[-3:], features, strict=True):
        assert np.abs(feature.numpy() - reference[name]).max() <= LIMIT * np.abs(reference[name]).max(), name


def _published(backbone: Backbone, extra: dict[str, Tensor] | None = None) -> Checkpoint:
    tensors = {k: v for k, v in backbone.state_dict().items() if not k.startswith(backbone.added or ("-",))}
    tensors |= {name + "weight": torch.zeros(2) for name in backbone.classifier}
    return Checkpoint(Path("published.pth"), "torch-zip", "0" * 64, tensors | (extra or {}))


@pytest.mark.parametrize("name", BACKBONES)
def test_only_the_classifier_is_left_out(name: str) -> None:
    kind = BACKBONES[name]
    source = kind.build(kind.widths[0])
    target = copy.deepcopy(source)
    for tensor in target.state_dict().values():
        tensor.fill_(7)
    load_imagenet(target, _published(source))
    for key, tensor in source.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            published = not key.startswith(source.added or ("-",))
            assert torch.equal(target.state_dict()[key], tensor if published else torch.full_like(tensor, 7)), key
    with pytest.raises(CheckpointError, match=r"published\.pth.*not expected \(first more\.weight\)"):
        load_imagenet(target, _published(source, {"more.weight": torch.zeros(2)}))


def test_weights_of_another_width_are_refused_in_one_line() -> None:
    with pytest.raises(CheckpointError) as caught:
        load_imagenet(MobileNetV2(0.5), _published(MobileNetV2(0.25)))
    assert "expected shape 16x3x3x3 for MobileNetV2, got 8x3x3x3" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_tensors_is_refused() -> None:
    with pytest.raises(CheckpointError, match="expected a state dict of MobileNetV1"):
        load_imagenet(MobileNetV1(0.25), Checkpoint(Path("x.pth"), "torch-zip", "0" * 64, {"epoch": 3}))


@pytest.mark.parametrize("name", BACKBONES)
def test_strides_and_channels(name: str) -> None:
    kind = BACKBONES[name]
    backbone = kind.build(kind.widths[0]).eval()
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, 64, 96))
    expected = [(1, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, (8, 16, 32), strict=True)]
    assert [tuple(f.shape) for f in features] == expected
