"""A network from a file gets the name of the published one that it is, by kinds, widths and depths of its layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_models.families import ultralytics
from edgedet_models.ultralytics.network import DistanceDetector
from edgedet_models.ultralytics.rows import Row
from edgedet_models.ultralytics.variants import LAYOUTS, name_variant


def node(module: nn.Module, kind: str | None = None) -> ModuleNode:
    """Return a module as a file would hold it; only its top needs the official class name here."""
    children = {name: node(child) for name, child in module.named_children()}
    class_path = f"ultralytics.nn.modules.block.{kind or type(module).__name__}"
    return ModuleNode(class_path, {}, dict(module.named_parameters(recurse=False)), {}, children)


def layers_of(variant: str, classes: int = 3) -> list[ModuleNode]:
    with torch.device("meta"):
        detector = ultralytics.VARIANTS[variant](tuple(f"class{i}" for i in range(classes)))
    assert isinstance(detector, DistanceDetector)
    rows = LAYOUTS[variant]().rows
    return [node(layer, _official(row)) for layer, row in zip(list(detector.model)[:-1], rows, strict=True)]


def _official(row: Row) -> str:
    return "Sequential" if row.kind == "Bottleneck" and row.repeats > 1 else row.kind


@pytest.mark.parametrize("variant", LAYOUTS)
def test_every_published_network_gets_its_name(variant: str) -> None:
    assert name_variant(layers_of(variant), LAYOUTS[variant]().bins) == variant


def test_other_widths_depths_and_layers_have_no_name() -> None:
    layers = layers_of("yolov8n")
    wider = layers_of("yolov8s")
    assert name_variant([*layers[:3], wider[3], *layers[4:]], 16) == "custom"
    assert name_variant(layers[:-1], 16) == "custom"
    deeper = layers_of("yolov8l")
    assert name_variant([*layers[:2], node(nn.Identity(), "C2f"), *layers[3:]], 16) == "custom"
    assert name_variant([deeper[0], *layers[1:]], 16) == "custom"
    cells = layers[4].children["m"]
    shallow = {**layers[4].children, "m": ModuleNode("x.ModuleList", {}, {}, {}, {"0": cells.children["0"]})}
    changed = ModuleNode(layers[4].class_path, {}, {}, {}, shallow)
    assert name_variant(layers, 8) == "custom"
    assert name_variant([*layers[:4], changed, *layers[5:]], 16) == "custom"
