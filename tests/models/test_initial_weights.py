"""What a training run may start from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgedet_models.backbones.backbone import Backbone
from edgedet_models.detector import DetectorModule
from edgedet_models.families import build
from edgedet_models.training.initial_weights import load_initial_weights
from edgedet_models.training.state import save_weights
from edgedet_runtime.errors import CheckpointError

VARIANT = "yolov5n-mobilenetv2"


def network(seed: int, variant: str = VARIANT) -> DetectorModule:
    torch.manual_seed(seed)
    return build(variant, ("code",))


def backbone_of(model: DetectorModule) -> Backbone:
    return next(m for m in model.modules() if isinstance(m, Backbone))


def test_weights_of_a_run(tmp_path: Path) -> None:
    source, target = network(0), network(1)
    save_weights(tmp_path / "weights.safetensors", source, source.spec)
    load_initial_weights(target, tmp_path / "weights.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_published_weights_go_into_the_backbone_alone(tmp_path: Path) -> None:
    source, target = network(0), network(1)
    head = [p.clone() for p in target.parameters()][-1]
    published = backbone_of(source).state_dict() | {"classifier.1.weight": torch.zeros(1000, 8)}
    torch.save(published, tmp_path / "mobilenet_v2.pth")
    load_initial_weights(target, tmp_path / "mobilenet_v2.pth")
    pairs = zip(backbone_of(source).parameters(), backbone_of(target).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(head, list(target.parameters())[-1])


@pytest.mark.parametrize("other", ["yolov5n-mnasnet", "yolov5n"])
def test_weights_of_another_network_are_refused_in_one_line(tmp_path: Path, other: str) -> None:
    source, target = network(0, other), network(1)
    save_weights(tmp_path / "weights.safetensors", source, source.spec)
    with pytest.raises(CheckpointError, match=r"does not fit") as caught:
        load_initial_weights(target, tmp_path / "weights.safetensors")
    assert "\n" not in str(caught.value)
