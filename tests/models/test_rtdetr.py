"""Ultralytics' RT-DETR: published sizes, and a checkpoint against the official code's outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import edgedet_models
from edgedet_models.checkpoint.content import Checkpoint, ModuleNode
from edgedet_models.complexity import count
from edgedet_models.layer_list.network import LayerListDetector
from edgedet_models.training.loop import build_to_train
from edgedet_models.ultralytics.pickled_queries import PickledQueries
from edgedet_models.ultralytics.query_head import QueryHeadNode
from edgedet_models.ultralytics.rtdetr import name_rtdetr
from edgedet_runtime.errors import CheckpointError, InputError

NAME = "ul-rtdetr-l-small"
CLASSES = tuple(f"class{i}" for i in range(80))
TRAINING_ONLY = 80 * 256 + 5 * (80 * 256 + 80)
"""Vectors of the denoising task, and class heads of decoder layers before the last."""
OFFICIAL = {"rtdetr-l": 32_970_476, "rtdetr-x": 67_468_108 - 256}
"""Parameters of the official code; those of x were published by a version with an 81st vector of the denoising task."""


@pytest.mark.parametrize("variant", OFFICIAL)
def test_published_sizes(variant: str) -> None:
    with torch.device("meta"):
        model = edgedet_models.build(variant, CLASSES)
    assert model.num_parameters + TRAINING_ONLY == OFFICIAL[variant]
    if variant == "rtdetr-l":
        assert round(count(model, (640, 640)).gflops, 1) == 108.3


def test_names_of_published_networks() -> None:
    with torch.device("meta"):
        model = edgedet_models.build("rtdetr-resnet101", CLASSES)
    assert isinstance(model, LayerListDetector)
    layers = [layer.state_dict() for layer in model.model[:-1]]
    assert name_rtdetr(layers, 6, 300) == "rtdetr-resnet101"
    assert name_rtdetr(layers, 3, 300) == name_rtdetr(layers[1:], 6, 300) == "custom"


@pytest.mark.parametrize("size_hw", [(64, 64), (96, 160)])
def test_an_untrained_network_gives_queries(size_hw: tuple[int, int]) -> None:
    model = edgedet_models.build("rtdetr-resnet50", ("a", "b"))
    h, w = size_hw
    with torch.no_grad():
        boxes, scores = model(torch.rand(1, 3, *size_hw))
    cells = sum((h // s) * (w // s) for s in (8, 16, 32))
    assert (boxes.shape, scores.shape) == ((1, min(300, cells), 4), (1, min(300, cells), 2))
    assert 0 <= float(boxes.min()) <= float(boxes.max()) <= 1


def test_training_takes_no_sets_of_queries() -> None:
    with torch.device("meta"), pytest.raises(InputError, match="rtdetr-l, which predicts a set of queries"):
        build_to_train("rtdetr-l", CLASSES)


@pytest.fixture
def checkpoint(shared: Path) -> Checkpoint:
    return edgedet_models.read_checkpoint(shared / "fixtures" / NAME / "checkpoint.pt")


@pytest.mark.interop
def test_the_official_outputs(checkpoint: Checkpoint) -> None:
    model, recognition = edgedet_models.families.load_recognized(checkpoint)
    with np.load(checkpoint.path.with_name("reference.npz")) as file, torch.no_grad():
        boxes, scores = model(torch.from_numpy(file["input"]))
        np.testing.assert_allclose(boxes, file["decoded_boxes"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(scores, file["raw_logits"], rtol=0, atol=1e-4)
    dropped = 20 * 64 + 2 * (20 * 64 + 20)
    assert model.num_parameters + dropped == 749_724
    assert (recognition.family, recognition.variant, len(recognition.classes)) == ("ultralytics", "custom", 20)
    assert "300 queries, 3 decoder layers, written by version 8.4.190" in recognition.why
    spec = model.spec
    assert (spec.resize.mode, spec.input.color, spec.input.size_hw) == ("stretch", "RGB", (192, 192))
    assert (spec.licence, spec.thresholds.conf, spec.thresholds.multi_label) == ("AGPL-3.0", 0.25, True)


def changed(node: ModuleNode, path: str, change: Callable[[ModuleNode], ModuleNode]) -> ModuleNode:
    """Return a tree in which the node at a dotted path is another one."""
    if not path:
        return change(node)
    first, _, rest = path.partition(".")
    children = {**node.children, first: changed(node.children[first], rest, change)}
    return dataclasses.replace(node, children=children)


def with_attributes(**attributes: Any) -> Callable[[ModuleNode], ModuleNode]:
    return lambda node: dataclasses.replace(node, attributes={**node.attributes, **attributes})


def without_child(name: str) -> Callable[[ModuleNode], ModuleNode]:
    return lambda node: dataclasses.replace(node, children={k: v for k, v in node.children.items() if k != name})


def rebuild(checkpoint: Checkpoint, path: str, change: Callable[[ModuleNode], ModuleNode]) -> LayerListDetector:
    found = PickledQueries.find(checkpoint)
    assert found is not None
    head = path.removeprefix("model.28").removeprefix(".") if path.startswith("model.28") else None
    layers = list(found.layers)
    if head is not None:
        layers[28] = changed(layers[28], head, change)
    else:
        index, _, rest = path.removeprefix("model.").partition(".")
        layers[int(index)] = changed(layers[int(index)], rest, change)
    again = dataclasses.replace(found, layers=tuple(layers), head=QueryHeadNode.read(layers[28]))
    return again.build(family="ultralytics", variant="custom", licence="AGPL-3.0")


@pytest.mark.interop
def test_a_decoder_layer_that_only_trained_is_left_out(checkpoint: Checkpoint) -> None:
    model = rebuild(checkpoint, "model.28.decoder", with_attributes(eval_idx=1))
    assert not any(".refine.layers.2." in name for name in model.state_dict())
    with np.load(checkpoint.path.with_name("reference.npz")) as file, torch.no_grad():
        boxes, _ = model(torch.from_numpy(file["input"]))
        assert float(np.abs(boxes.numpy() - file["decoded_boxes"]).max()) > 1e-3


@pytest.mark.interop
def test_boxes_of_cells_are_the_files_own_at_their_size(checkpoint: Checkpoint) -> None:
    kept = rebuild(checkpoint, "model.28", with_attributes())
    exact = rebuild(checkpoint, "model.28", with_attributes(shapes=[[24, 24], [12, 12], [3, 12]]))
    x = torch.rand(1, 3, 192, 192)
    with torch.no_grad():
        apart = (kept(x)[0] - exact(x)[0]).abs().max()
    assert 1e-5 < float(apart) < 5e-3


DAMAGE: dict[str, tuple[str, Callable[[ModuleNode], ModuleNode], str]] = {
    "no decoder": ("model.28", without_child("decoder"), "expected a part 'decoder'"),
    "no class head": ("model.28", without_child("enc_score_head"), "expected a part 'enc_score_head'"),
    "queries": ("model.28", with_attributes(num_queries=-1), "num_queries: expected a whole number 1 to"),
    "classes": ("model.28", with_attributes(nc=80), "expected 80 classes, as the file says, got 20"),
    "layer": ("model.28.decoder", with_attributes(eval_idx=7), "eval_idx: expected a whole number -3 to 2"),
    "heads": ("model.11.ma", with_attributes(num_heads=7), "with 7 heads"),
    "points": ("model.28.decoder.layers.0.cross_attn", with_attributes(n_points=5), "do not fit together"),
    "levels": (
        "model.28.decoder.layers.0.cross_attn",
        with_attributes(n_levels=10**6),
        "n_levels: expected",
    ),
    "residual": ("model.28.enc_bbox_head", with_attributes(residual=True), "expected plain linear layers"),
    "order": ("model.11", with_attributes(normalize_before=None), "normalize_before: expected True or False"),
}


@pytest.mark.interop
@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(case: str, checkpoint: Checkpoint) -> None:
    path, change, words = DAMAGE[case]
    with pytest.raises(CheckpointError, match=words):
        rebuild(checkpoint, path, change)
