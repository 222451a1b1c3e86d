"""The registry: a file is recognized once, by each family or only by the one that was named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from edgedet_export.config import ExportConfig
from edgedet_export.sources import load_source
from edgedet_models import families
from edgedet_models.families import FAMILIES, get_family
from edgedet_runtime.errors import ArgumentError, CheckpointError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often the registry asks each family."""
    count: Counter[str] = Counter()
    find = families.get_family

    class Asked:
        def __init__(self, name: str) -> None:
            self.name, self.family = name, find(name)

        def __getattr__(self, name: str) -> object:
            if name == "recognise":
                count[self.name] += 1
            return getattr(self.family, name)

    monkeypatch.setattr(families, "get_family", Asked)
    return count


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "own.pt"
    torch.save(families.build("yolox-nano", ("cat", "dog")).state_dict(), path)
    return path


def test_an_export_asks_each_family_once(weights: Path, asked: Counter[str]) -> None:
    source = load_source(weights, ExportConfig())
    assert asked == dict.fromkeys(FAMILIES, 1)
    assert source.spec.family == "yolox"
    assert get_family("yolox").recognise is not None
    assert any(source.notes)


def test_a_named_family_is_the_only_one_asked(weights: Path, asked: Counter[str]) -> None:
    assert load_source(weights, ExportConfig(family="yolox")).spec.variant == "yolox-nano"
    assert asked == {"yolox": 1}
    with pytest.raises(CheckpointError):
        load_source(weights, ExportConfig(family="yolov7"))


def test_several_families_ask_for_a_name(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedet_models.checkpoint import read_checkpoint

    twice = [families.Recognition(name, "x", ("a",), "fits") for name in ("yolov5", "yolox")]
    monkeypatch.setattr(families, "recognise", lambda _checkpoint: twice)
    with pytest.raises(ArgumentError, match=r"^family: expected one of yolov5, yolox, since .* fits them all"):
        families.load(read_checkpoint(weights))
