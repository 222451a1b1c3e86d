"""Every way of wrapping weights, on networks of several families: the same detector comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgedet_models import families
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.families.edgecode import EdgeCode
from edgedet_models.families.yolox import Yolox, YoloxConfig, _spec
from tests.models.test_edgecode import CODES, SMALL

State = dict[str, Tensor]
FAMILIES: Mapping[str, Callable[[], DetectorModule]] = {
    "yolox": lambda: Yolox(YoloxConfig(8, 1, 1, depthwise=True), _spec("custom", ("a", "b"))),
    "edgecode": lambda: EdgeCode("custom", SMALL, CODES),
    "ultralytics": lambda: families.build("yolov8n", ("a", "b")),
}


@cache
def average(family: str) -> State:
    """Weights that differ from those of any other seed."""
    torch.manual_seed(3)
    return dict(FAMILIES[family]().state_dict())


def plain(family: str) -> State:
    """The same tensors, all zero: taken by mistake, they show."""
    return {name: torch.zeros_like(tensor) for name, tensor in average(family).items()}


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def masked(state: State) -> State:
    name = next(key for key, tensor in state.items() if tensor.dim() == 4 and tensor.shape[2] > 1)
    rest = {key: tensor for key, tensor in state.items() if key != name}
    padded = torch.where(state[name] == 0, 7.0, state[name])
    return {**rest, f"{name}_orig": padded, f"{name}_mask": (state[name] != 0).float()}


def counted(state: State) -> State:
    modules = {name.rpartition(".")[0] for name in state}
    counters = {
        f"{m}.{key}": torch.zeros(1, dtype=torch.float64) for m in modules for key in ("total_ops", "total_params")
    }
    return {**state, **counters}


FORMS: Mapping[str, Callable[[State, State], Any]] = {
    "ema.module": lambda ema, raw: {"model": raw, "ema": {"module": ema, "updates": 4}, "epoch": 3},
    "ema": lambda ema, raw: {"model": raw, "ema": ema},
    "timm": lambda ema, raw: {"state_dict": raw, "state_dict_ema": ema, "optimizer": {"state": {0: {"exp_avg": raw}}}},
    "mmengine": lambda ema, raw: {
        "meta": {"mmengine_version": "0.10.7", "epoch": 3},
        "state_dict": ema,
        "ema_state_dict": under("module.", raw),
        "message_hub": {"x": raw},
    },
    "mmcv": lambda ema, raw: {"state_dict": {**ema, **{"ema_" + k.replace(".", "_"): v for k, v in raw.items()}}},
    "averaged": lambda ema, raw: {"model": {"n_averaged": torch.tensor(3), **under("module.", ema)}},
    "ema in lightning": lambda ema, raw: {"state_dict": {**under("model.", raw), **under("ema_model.module.", ema)}},
    "compiled": lambda ema, raw: under("_orig_mod.", ema),
    "compiled, parallel": lambda ema, raw: {"model": under("module._orig_mod.", ema)},
    "lightning": lambda ema, raw: {
        "pytorch-lightning_version": "2.5",
        "hyper_parameters": {"lr": 0.1},
        "state_dict": {**under("model.", ema), "criterion.weight": torch.ones(2), "val_map.seen": torch.ones(1)},
    },
    "lightning net": lambda ema, raw: {"state_dict": {**under("net.", ema), "class_weights": torch.ones(2)}},
    "model_state_dict": lambda ema, raw: {"model_state_dict": ema, "optimizer_state_dict": {"state": {0: raw}}},
    "net": lambda ema, raw: {"net": ema, "acc": 0.3, "epoch": 9},
    "weights": lambda ema, raw: {"weights": ema, "loss": torch.ones(())},
    "params": lambda ema, raw: {"params": raw, "params_ema": ema},
    "state_dict.model": lambda ema, raw: {"state_dict": {"model": ema}},
    "thop": lambda ema, raw: {"model": counted(ema)},
    "pruned": lambda ema, raw: {"state_dict": masked(ema)},
    "parameters alone": lambda ema, raw: {
        "model": {k: raw[k] if "running" not in k else v for k, v in ema.items()},
        "ema": {k: v for k, v in ema.items() if "running" not in k and "tracked" not in k},
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_detector_comes_out(family: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / "wrapped.pth"
    torch.save(FORMS[form](average(family), plain(family)), path)
    model, recognition = families.load_recognized(read_checkpoint(path))
    assert recognition.family == family
    got = model.state_dict()
    assert set(got) == set(average(family))
    for name, tensor in average(family).items():
        assert torch.equal(got[name], tensor), name


@pytest.mark.interop
@pytest.mark.parametrize(
    "fixture", ["yolov5-yolov5n", "yolov6-yolov6n-distillns-w0125", "ul-yolo11n-w0125", "v9-gelan-t-w0375"]
)
def test_an_average_as_a_state_dict_beside_a_pickled_module(fixture: str, shared: Path) -> None:
    pickled = read_checkpoint(next((shared / "fixtures" / fixture).glob("checkpoint.*")))
    names = {n for n, t in pickled.tensors().items() if t.dim() == 4 and n.endswith(".conv.weight") and "dfl" not in n}
    ema = {name: t.float() * (0.5 if name in names else 1.0) for name, t in pickled.tensors().items()}
    module = pickled.content["ema"] if pickled.content.get("ema") is not None else pickled.content["model"]
    both = Checkpoint(pickled.path, "torch-zip", "0" * 64, {**pickled.content, "model": module, "ema": ema})
    assert both.weights.module is not None
    assert both.weights.words == "the average under ema; left: model"
    got, as_was = (families.load(checkpoint).state_dict() for checkpoint in (both, pickled))
    halved = [name for name in got if name in names]
    assert halved
    for name in halved:
        assert torch.equal(got[name], as_was[name] * 0.5), name


def test_an_average_that_does_not_fit_the_pickled_module_is_left(tmp_path: Path) -> None:
    torch.save({"model": torch.nn.Conv2d(3, 4, 3), "ema": {"weight": torch.ones(4, 3, 1, 1)}}, tmp_path / "a.pt")
    weights = read_checkpoint(tmp_path / "a.pt").weights
    assert (weights.taken, weights.left, weights.is_average) == ("model", ("ema",), False)
    assert weights.tensors["weight"].shape == (4, 3, 3, 3)
