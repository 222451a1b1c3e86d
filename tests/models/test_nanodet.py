"""NanoDet: published sizes and keys, sizes read off shapes, Lightning's files, strictness, official outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgedet_models import families
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.families import nanodet
from edgedet_models.nanodet.network import NanoDet, NanoDetSize
from edgedet_runtime.preprocess import Preprocessor
from tests.models.family_template import (
    COCO,
    Damage,
    assert_refused,
    fixture_folder,
    randomise,
    state_dict_checkpoint,
)

PLUS = NanoDetSize(8, (12, 16, 20), (2, 3, 2), 12, 4, plus=True, kernel=5)
SMALL_M = NanoDetSize(8, (12, 16, 20), (2, 1, 2), 12, 3, plus=False, kernel=3, bins=5)


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [
        ("nanodet-m-0.5x", 271_056),
        ("nanodet-m", 950_036),
        ("nanodet-m-1.5x", 2_065_392),
        ("nanodet-plus-m", 1_197_924),
        ("nanodet-plus-m-1.5x", 2_477_792),
    ],
)
def test_parameter_count(variant: str, parameters: int) -> None:
    """Official tables have 0.28, 0.95, 2.08, 1.17 and 2.44 million; those of m count a branch that never runs."""
    with torch.device("meta"):
        assert nanodet.VARIANTS[variant](COCO).num_parameters == parameters


@pytest.mark.interop
@pytest.mark.parametrize("variant", ["nanodet-m", "nanodet-m-1.5x", "nanodet-plus-m", "nanodet-plus-m-1.5x"])
def test_keys_and_shapes_are_the_official_ones(variant: str, shared: Path) -> None:
    official = json.loads((shared / f"facts/keys/{variant}.json").read_text())["keys"]
    with torch.device("meta"):
        own = {name: list(t.shape) for name, t in nanodet.VARIANTS[variant](COCO).state_dict().items()}
    assert own == {name: shape for name, (shape, _) in official.items() if not name.startswith(nanodet.UNUSED)}


def saved(detector: NanoDet, bins: int) -> dict[str, torch.Tensor]:
    """Return a state dict with the parts that only training uses, as the official code saves it."""
    more = {
        "head.distribution_project.project": torch.arange(float(bins)),
        "head.gfl_reg.0.weight": torch.zeros(32, 12, 1, 1),
        "aux_fpn.reduce_layers.0.conv.weight": torch.zeros(12, 12, 1, 1),
        "aux_head.gfl_cls.weight": torch.zeros(36, 12, 3, 3),
    }
    return dict(detector.state_dict()) | more


@pytest.mark.parametrize("size", [PLUS, SMALL_M, replace(PLUS, levels=3, blocks=2, convs=1)])
@pytest.mark.parametrize("classes", [1, 3])
def test_size_is_read_off_the_shapes(size: NanoDetSize, classes: int) -> None:
    detector = NanoDet("custom", size, COCO[:classes])
    randomise(detector)
    checkpoint = state_dict_checkpoint(saved(detector, size.bins))
    loaded = families.load(checkpoint)
    assert isinstance(loaded, NanoDet)
    assert loaded.spec.decode == detector.spec.decode
    assert len(loaded.spec.classes) == classes
    picture = torch.rand(1, 3, 96, 64)
    with torch.no_grad():
        for got, expected in zip(loaded(picture), detector.eval()(picture), strict=True):
            assert torch.equal(got, expected)


def test_lightning_files_have_an_average_that_is_taken() -> None:
    plain, average = NanoDet("custom", PLUS, COCO[:2]), NanoDet("custom", PLUS, COCO[:2])
    randomise(average, seed=1)
    state = {f"model.{name}": t for name, t in saved(plain, 8).items()}
    state |= {f"avg_model.{name}": t for name, t in saved(average, 8).items()}
    content: Mapping[str, Any] = {"epoch": 3, "state_dict": state, "optimizer_states": [], "callbacks": {}}
    loaded = families.load(Checkpoint(Path("model_last.ckpt"), "torch-zip", "0" * 64, content))
    for name, tensor in average.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    "damage",
    [
        Damage("fpn.reduce_layers.1.bn.bias", "drop", "1 tensors missing (first fpn.reduce_layers.1.bn.bias)"),
        Damage("head.gfl_cls.2.bias", "cut", "head.gfl_cls.2.bias: expected shape 34 "),
        Damage("backbone.conv1.1.bias", "add", "1 tensors not expected"),
        Damage("head.distribution_project.project", "drop", "expected a NanoDet state dict"),
    ],
    ids=lambda d: d.key,
)
def test_damaged_state_dict_is_refused_in_one_line(damage: Damage) -> None:
    detector = NanoDet("custom", PLUS, COCO[:2])
    assert_refused(nanodet, state_dict_checkpoint(damage.apply(saved(detector, 8))), damage.words)


def test_plus_measures_from_the_corner_of_a_cell_and_m_from_its_middle() -> None:
    assert NanoDet("custom", PLUS, COCO[:1]).spec.decode.cell_offset == 0.0
    assert NanoDet("custom", SMALL_M, COCO[:1]).spec.decode.cell_offset == 0.5


@pytest.mark.interop
def test_official_pictures_and_outputs() -> None:
    folder = fixture_folder("nanodet-plus-m-nc4")
    detector = nanodet.load(read_checkpoint(folder / "checkpoint.pth"))
    assert detector.num_parameters == json.loads((folder / "meta.json").read_text())["params_deploy"]
    reference, pictures = np.load(folder / "reference.npz"), np.load(folder / "preproc.npz")
    spec = detector.spec.with_size(160, 192)
    preprocess = Preprocessor(spec.input, spec.resize)
    for i in range(2):
        tensor, _ = preprocess(pictures[f"image{i}_bgr"])
        np.testing.assert_allclose(tensor[0], reference["input"][i], atol=1e-6)
    with torch.no_grad():
        raw = detector(torch.from_numpy(reference["input"]))
    rows = [torch.cat((s, b), dim=1).flatten(2).transpose(1, 2) for b, s in zip(raw[::2], raw[1::2], strict=True)]
    np.testing.assert_allclose(torch.cat(rows, dim=1).numpy(), reference["raw_head"], atol=1e-4)
