"""YOLOv5 and YOLOv5-SPD: sizes, official checkpoints, state dicts, what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgedet_models.checkpoint import Checkpoint, PickledObject, read_checkpoint
from edgedet_models.complexity import count
from edgedet_models.families import yolov5
from edgedet_models.layers.head import AnchorHead
from edgedet_runtime.errors import CheckpointError
from tests.models.family_template import (
    COCO,
    Damage,
    assert_raw,
    assert_refused,
    assert_round_trip,
    decoded_rows,
    fixture_folder,
    randomise,
    run,
    state_dict_checkpoint,
    worst_relative,
)

FIXTURES = ["yolov5-yolov5n", "yolov5-yolov5n-focus-v5era", "spd-yolov5n"]


@pytest.mark.parametrize(
    ("variant", "parameters", "gflops"),
    [
        ("yolov5n", 1_872_157, 4.5),
        ("yolov5s", 7_235_389, 16.5),
        ("yolov5m", 21_190_557, 49.1),
        ("yolov5l", 46_563_709, 109.3),
        ("yolov5x", 86_749_405, 205.9),
        ("yolov5n-focus", 1_882_525, 4.6),
        ("yolov5n-spd", 2_256_157, 8.9),
        ("yolov5s-spd", 8_771_389, 33.9),
        ("yolov5m-spd", 24_646_557, 88.0),
        ("yolov5l-spd", 52_707_709, 178.6),
    ],
)
def test_published_sizes(variant: str, parameters: int, gflops: float) -> None:
    with torch.device("meta"):
        detector = yolov5.VARIANTS[variant](COCO)
    cost = count(detector, (640, 640))
    assert detector.num_parameters == cost.params == parameters
    assert round(cost.gflops, 1) == gflops


@pytest.mark.parametrize(("variant", "gflops"), [("yolov5n", 4.564), ("yolov5n-focus", 4.698), ("yolov5n-spd", 8.930)])
def test_gflops_as_thop_0_1_1_counts(variant: str, gflops: float) -> None:
    with torch.device("meta"):
        cost = count(yolov5.VARIANTS[variant](COCO), (640, 640), norm_ops=4)
    assert round(cost.gflops, 3) == gflops


@pytest.mark.interop
@pytest.mark.parametrize("name", FIXTURES)
def test_official_outputs(name: str) -> None:
    folder = fixture_folder(name)
    detector = yolov5.load(read_checkpoint(folder / "checkpoint.pt"))
    reference = np.load(folder / "reference.npz")
    outputs = run(detector, reference["input"].astype(np.float32))
    for level in range(3):
        raw = reference[f"raw_{level}"].transpose(0, 1, 4, 2, 3)  # (B, A, 85, h, w)
        n, _, _, h, w = raw.shape
        parts = {"boxes": raw[:, :, :4], "objectness": raw[:, :, 4:5], "scores": raw[:, :, 5:]}
        assert_raw(outputs, {f"{part}_{level}": r.reshape(n, -1, h, w) for part, r in parts.items()})
    boxes, scores = decoded_rows(detector, outputs)
    decoded = reference["decoded"]
    assert worst_relative(boxes, decoded[..., :4]) <= 1e-4
    assert worst_relative(scores, decoded[..., 4:5] * decoded[..., 5:]) <= 1e-4


@pytest.mark.interop
@pytest.mark.parametrize(
    ("name", "variant", "classes"),
    [
        ("yolov5n_face_nc1_Model", "yolov5n", ("face",)),
        ("yolov5n_ppe_nc2_Model", "yolov5n", ("helmet", "vest")),
        ("yolov5n_duckietown_nc4_DetectionModel", "yolov5n", ("duckie", "cone", "truck", "bus")),
    ],
)
def test_checkpoints_that_people_trained(shared: Path, name: str, variant: str, classes: tuple[str, ...]) -> None:
    path = shared / "weights" / "yolov5n-custom" / f"{name}.pt"
    if not path.is_file():
        pytest.skip(f"interop: {path} is not here")
    checkpoint = read_checkpoint(path)
    recognition = yolov5.recognise(checkpoint)
    assert recognition is not None
    assert (recognition.variant, recognition.classes) == (variant, classes)
    detector = yolov5.load(checkpoint)
    assert detector.spec.decode.levels[0].anchors_px == ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0))
    assert not detector.training
    assert all(torch.isfinite(out).all() for out in detector(torch.rand(1, 3, 64, 96)))


@pytest.mark.interop
def test_state_dict_with_official_keys() -> None:
    """The same weights as a bare state dict give the same network, but for the names."""
    pickled = read_checkpoint(fixture_folder("spd-yolov5n") / "checkpoint.pt")
    bare = state_dict_checkpoint({k: v.float() for k, v in pickled.tensors().items()})
    recognition = yolov5.recognise(bare)
    assert recognition is not None
    assert recognition.variant == "yolov5n-spd"
    x = torch.rand(1, 3, 64, 96)
    for got, expected in zip(yolov5.load(bare)(x), yolov5.load(pickled)(x), strict=True):
        assert torch.allclose(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.interop
def test_names_that_do_not_fit_the_head() -> None:
    checkpoint = read_checkpoint(fixture_folder("yolov5-yolov5n") / "checkpoint.pt")
    _model(checkpoint).state["names"] = ["one", "two"]
    assert_refused(yolov5, checkpoint, "class names: expected 80, as the head has classes, got 2")


@pytest.mark.interop
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda layers: layers["3"].state.update(f=7), "layer 3: from: expected earlier layers"),
        (lambda layers: layers["12"].state.update(f=[-1]), "do not fit together"),
        (lambda layers: setattr(layers["2"], "class_path", "models.common.C3TR"), "C3TR are not supported"),
        (lambda layers: layers["0"].state["_modules"].pop("conv"), "submodule 'conv' is missing"),
        (
            lambda layers: layers["0"].state["_modules"]["conv"].state.update(stride=(10**9, 1)),
            "stride: expected sizes",
        ),
        (
            lambda layers: layers["1"].state["_modules"]["bn"].state.update(eps=torch.zeros(9, 9)),
            "eps: expected a number",
        ),
        (
            lambda layers: _parts(layers["24"], "m", "1")["_parameters"].update(weight=torch.ones(2, 64, 1, 1)),
            "m.1.weight: expected 255 channels",
        ),
        (
            lambda layers: layers["1"].state["_modules"]["bn"].state["_parameters"].update(weight=None),
            "model.1.bn.weight: expected floats",
        ),
    ],
)
def test_pickled_trees_that_contradict_themselves(change: Any, words: str) -> None:
    checkpoint = read_checkpoint(fixture_folder("yolov5-yolov5n") / "checkpoint.pt")
    change(_model(checkpoint).state["_modules"]["model"].state["_modules"])
    assert_refused(yolov5, checkpoint, words)


def _landmarks(layers: dict[str, PickledObject]) -> None:
    """Give the head ten more numbers per anchor, as YOLOv5-face has."""
    layers["24"].state["nc"] = 1
    for level in range(3):
        parameters = _parts(layers["24"], "m", str(level))["_parameters"]
        width = parameters["weight"].shape[1]
        parameters.update(weight=torch.zeros(3 * 16, width, 1, 1), bias=torch.zeros(3 * 16))


@pytest.mark.interop
def test_landmarks_in_the_head() -> None:
    checkpoint = read_checkpoint(fixture_folder("yolov5-yolov5n") / "checkpoint.pt")
    _landmarks(_model(checkpoint).state["_modules"]["model"].state["_modules"])
    assert_refused(yolov5, checkpoint, "1 classes, got 10 more numbers per anchor: landmarks, as YOLOv5-face has")


@pytest.mark.interop
@pytest.mark.parametrize("fixture", ["yolov5-yolov5n", "yolov5-yolov5n-focus-v5era"])
def test_gray_pictures(fixture: str) -> None:
    """Where channels are equal, a convolution of one channel is one of three with the sum of the weights."""
    color = yolov5.load(read_checkpoint(fixture_folder(fixture) / "checkpoint.pt"))
    checkpoint = read_checkpoint(fixture_folder(fixture) / "checkpoint.pt")
    first = _model(checkpoint).state["_modules"]["model"].state["_modules"]["0"]
    names = ("conv", "conv") if "focus" in fixture else ("conv",)
    parameters = _parts(first, *names)["_parameters"]
    weight = parameters["weight"].float()
    parameters["weight"] = weight.unflatten(1, (-1, 3)).sum(2)
    checkpoint = replace(checkpoint)
    recognition = yolov5.recognise(checkpoint)
    assert recognition is not None
    assert "for gray pictures" in recognition.why
    gray = yolov5.load(checkpoint)
    picture = torch.rand(1, 1, 64, 96).expand(-1, 3, -1, -1)
    with torch.no_grad():
        for ours, theirs in zip(gray(picture), color(picture), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def _parts(node: PickledObject, *names: str) -> dict[str, Any]:
    """Return the state of a submodule."""
    for name in names:
        node = node.state["_modules"][name]
    state: dict[str, Any] = node.state
    return state


def _model(checkpoint: Checkpoint) -> PickledObject:
    model = checkpoint.content["ema"] or checkpoint.content["model"]
    assert isinstance(model, PickledObject)
    return model


@pytest.mark.parametrize(("variant", "classes"), [("yolov5n", 3), ("yolov5n-focus", 1), ("yolov5n-spd", 2)])
def test_state_dict_round_trip(variant: str, classes: int) -> None:
    detector = yolov5.VARIANTS[variant](COCO[:classes])
    randomise(detector)
    checkpoint = state_dict_checkpoint(_official(detector))
    recognition = yolov5.recognise(checkpoint)
    assert recognition is not None
    assert (recognition.variant, len(recognition.classes)) == (variant, classes)
    loaded = yolov5.load(checkpoint)
    x = torch.rand(1, 3, 64, 96)
    for got, expected in zip(loaded(x), detector.eval()(x), strict=True):
        assert torch.equal(got, expected)


def _official(detector: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict as the official code has it: one convolution per level, and the anchors."""
    state = dict(detector.state_dict())
    head = next(name for name, m in detector.named_modules() if isinstance(m, AnchorHead))
    for level in range(3):
        for field in ("weight", "bias"):
            keys = [f"{head}.m.{level}.{part}.{field}" for part in ("boxes", "objectness", "scores")]
            parts = [state.pop(key) for key in keys]
            rows = [part.reshape(3, -1, *part.shape[1:]) for part in parts]
            state[f"{head}.m.{level}.{field}"] = torch.cat(rows, dim=1).flatten(0, 1)
    anchors = torch.tensor(yolov5.ANCHORS_PX, dtype=torch.float32)
    state[f"{head}.anchors"] = anchors / torch.tensor([8.0, 16.0, 32.0]).reshape(3, 1, 1)
    return state


def test_load_state_dict_takes_official_keys() -> None:
    detector, other = (yolov5.VARIANTS["yolov5n"](COCO[:2]) for _ in range(2))
    other.load_state_dict(_official(detector), strict=True)
    x = torch.rand(1, 3, 64, 64)
    for got, expected in zip(other.eval()(x), detector.eval()(x), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize(
    "damage",
    [
        Damage("model.9.cv1.bn.bias", "drop", "1 tensors missing (first model.9.cv1.bn.bias)"),
        Damage("model.9.cv1.bn.bias", "add", "1 tensors not expected"),
        Damage("model.4.m.1.cv1.conv.weight", "cut", "model.4.m.1.cv1.conv.weight: expected shape 32x32x1x1"),
        Damage("model.9.cv1.conv.weight", "drop", "expected a YOLOv5 model or its state dict"),
    ],
    ids=lambda d: d.action,
)
def test_spoilt_state_dicts(damage: Damage) -> None:
    tensors = _official(yolov5.VARIANTS["yolov5n"](COCO[:2]))
    assert_refused(yolov5, state_dict_checkpoint(damage.apply(tensors)), damage.words)


def test_other_files_are_not_recognised() -> None:
    other = state_dict_checkpoint({"backbone.weight": torch.ones(2, 2, 1, 1)})
    assert yolov5.recognise(other) is None
    assert yolov5.recognise(replace(other, content=[1, 2])) is None
    with pytest.raises(CheckpointError, match="expected a YOLOv5"):
        yolov5.load(other)


def test_trainable_from_scratch() -> None:
    detector = yolov5.VARIANTS["yolov5n-spd"](COCO[:3]).train()
    raw = detector(torch.rand(2, 3, 64, 64))
    assert [tuple(out.shape) for out in raw[:3]] == [(2, 12, 8, 8), (2, 3, 8, 8), (2, 9, 8, 8)]
    assert raw[1].mean().item() < -4  # objects are rare at the start
    sum(out.square().mean() for out in raw).backward()
    missing = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


def test_own_keys_round_trip() -> None:
    """A state dict that edgedet's own training saved (split head) is recognised and loaded as well."""
    detector = yolov5.VARIANTS["yolov5n"](COCO[:2])
    assert_round_trip(yolov5, detector, "yolov5n")
