"""Which weights are taken from a checkpoint, however they are wrapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

from edgedet_models import families
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.families.yolox import Yolox, YoloxConfig, _spec
from edgedet_runtime.errors import CheckpointError


class Network(nn.Module):
    """A convolution and a normalization."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        nn.init.constant_(self.stem.weight, value)


AVERAGE: dict[str, Tensor] = dict(Network(2.0).state_dict())
PLAIN: dict[str, Tensor] = dict(Network(1.0).state_dict())


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def found(content: Any) -> Checkpoint:
    return Checkpoint(Path("made.pth"), "torch-zip", "0" * 64, content)


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        ({"model": PLAIN, "ema": {"module": AVERAGE, "updates": 3}}, "ema.module"),
        ({"model": PLAIN, "ema": AVERAGE}, "ema"),
        ({"state_dict": PLAIN, "state_dict_ema": AVERAGE, "arch": "x"}, "state_dict_ema"),
        ({"model": PLAIN, "ema_model": AVERAGE, "optimizer": {"state": {"exp_avg": torch.ones(3)}}}, "ema_model"),
        (
            {"state_dict": {**prefixed("model.", PLAIN), **prefixed("avg_model.", AVERAGE)}},
            "state_dict.avg_model",
        ),
        (
            {
                "meta": {"mmengine_version": "0.10.7"},
                "state_dict": AVERAGE,
                "ema_state_dict": prefixed("module.", PLAIN),
            },
            "state_dict",
        ),
    ],
)
def test_the_average_is_taken(content: dict[str, Any], taken: str) -> None:
    weights = found(content).weights
    assert weights.taken == taken
    assert set(weights.tensors) == set(AVERAGE)
    assert float(weights.tensors["stem.weight"].mean()) == 2.0
    assert len(weights.left) == 1
    assert taken in weights.words


@pytest.mark.parametrize("key", ["model_state_dict", "net", "weights", "params", "detector_of_mine"])
def test_containers(key: str) -> None:
    assert set(found({key: PLAIN, "epoch": 3}).tensors()) == set(PLAIN)


def test_nested_container() -> None:
    assert set(found({"state_dict": {"model": PLAIN}}).tensors()) == set(PLAIN)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.", "model._orig_mod."])
def test_prefixes_and_counters(prefix: str) -> None:
    extras = {
        "n_averaged": torch.tensor(3),
        f"{prefix}total_ops": torch.zeros(1),
        f"{prefix}stem.total_params": torch.zeros(1),
    }
    assert set(found({"state_dict": {**prefixed(prefix, PLAIN), **extras}}).tensors()) == set(PLAIN)


def test_a_numbered_list_of_layers_keeps_its_own_prefix() -> None:
    state = {"model.0.conv.weight": torch.ones(4, 3, 3, 3), "model.1.conv.weight": torch.ones(4, 4, 3, 3)}
    for prefix in ("", "model.", "module.model."):
        assert set(found(prefixed(prefix, state)).tensors()) == set(state)


def test_pruning_masks_are_applied(tmp_path: Path) -> None:
    model = Network(3.0)
    prune.l1_unstructured(model.stem, "weight", amount=50)
    expected = model.stem.weight.detach()
    assert int((expected == 0).sum()) == 50
    for content in ({"model": model.state_dict()}, {"model": model}):
        path = tmp_path / "pruned.pt"
        torch.save(content, path)
        tensors = read_checkpoint(path).tensors()
        assert set(tensors) == set(PLAIN)
        assert torch.equal(tensors["stem.weight"], expected)


def test_a_pickled_averaged_model_is_unwrapped(tmp_path: Path) -> None:
    torch.save({"model": AveragedModel(Network(2.0))}, tmp_path / "swa.pt")
    assert set(read_checkpoint(tmp_path / "swa.pt").tensors()) == set(AVERAGE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_a_fault_of_the_file(value: float) -> None:
    state = Yolox(YoloxConfig(8, 1, 1, depthwise=True), _spec("custom", ("a", "b"))).state_dict()
    state["head.cls_preds.0.weight"][0, :3] = value
    with pytest.raises(CheckpointError, match=r"head\.cls_preds\.0\.weight: .* 3 of 64 that are NaN or infinite"):
        families.load(found({"model": state}))


def test_masked_weights_named_again_and_again_are_charged(tmp_path: Path) -> None:
    """Each product takes memory of its own, so a small file could name one pair of tensors a thousand times."""
    layer = nn.Linear(1000, 1000, bias=False)
    prune.identity(layer, "weight")
    model = nn.Sequential(*(nn.Identity() for _ in range(60)))
    for child in model:
        child._parameters, child._buffers = layer._parameters, layer._buffers
    torch.save({"model": model}, tmp_path / "repeated.pt")  # 8 MB, and 60 products of 4 MB with as many masks
    with pytest.raises(CheckpointError, match="far more than its size allows"):
        read_checkpoint(tmp_path / "repeated.pt")
    torch.save({"model": model[:30]}, tmp_path / "fewer.pt")
    assert len(read_checkpoint(tmp_path / "fewer.pt").tensors()) == 30


def test_containers_named_in_each_other_are_looked_at_once() -> None:
    value: dict[str, Any] = {"w": torch.ones(2)}
    for _ in range(3):
        value = {f"k{i}": value for i in range(2000)}
    assert set(found(value).tensors()) == {"w"}


def test_weights_are_found_once() -> None:
    checkpoint = found({"model": PLAIN})
    assert checkpoint.weights is checkpoint.weights
    checkpoint.tensors().clear()
    assert set(checkpoint.tensors()) == set(PLAIN)
