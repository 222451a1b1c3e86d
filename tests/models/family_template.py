"""What every family must pass; the test file of a family supplies rows of data and little else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.decode import decode
from edgedet_models.detector import DetectorModule
from edgedet_runtime.decode import decode_outputs
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.nms import nms
from edgedet_runtime.preprocess import Preprocessor
from edgedet_runtime.spec import ModelSpec
from tests.shared_folder import shared_folder

COCO = tuple(f"class{i}" for i in range(80))
"""As many classes as published sizes are told for."""


def fixture_folder(name: str) -> Path:
    """Return an interop fixture's folder, or skip the test where fixtures are not installed."""
    folder = shared_folder() / "fixtures" / name
    if not folder.is_dir():
        pytest.skip(f"interop: {folder} is not here (EDGEDET_SHARED names another folder)")
    return folder


def state_dict_checkpoint(tensors: Mapping[str, Tensor]) -> Checkpoint:
    """Wrap a state dict as the official training code of YOLOX and DAMO-YOLO saves it."""
    return Checkpoint(Path("made.pth"), "torch-zip", "0" * 64, {"model": dict(tensors)})


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Give BatchNorm layers statistics and gains that make folding errors visible."""
    torch.manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.uniform_(layer.bias, -0.2, 0.2)
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 1.5)


def worst_relative(got: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return max |got - expected| / max(1, |expected|), the measure that the fixtures use."""
    assert got.shape == expected.shape
    difference = np.abs(got.astype(np.float64) - expected) / np.maximum(1.0, np.abs(expected))
    return float(difference.max())


def run(detector: DetectorModule, pictures: NDArray[Any]) -> dict[str, Tensor]:
    """Run the network and name its outputs."""
    with torch.no_grad():
        raw = detector(torch.from_numpy(pictures))
    return dict(zip(detector.spec.decode.output_names, raw, strict=True))


def assert_raw(outputs: Mapping[str, Tensor], expected: Mapping[str, NDArray[Any]], limit: float = 1e-4) -> None:
    """Compare the named outputs that `expected` holds."""
    for name, array in expected.items():
        assert worst_relative(outputs[name].numpy(), array) <= limit, name


def worst_level(spec: ModelSpec, folder: Path) -> float:
    """Return how far the preprocessed pictures of a fixture lie from the official input, in steps of a byte."""
    pictures, official = np.load(folder / "preproc.npz"), np.load(folder / "reference.npz")["input"]
    preprocess = Preprocessor(spec.input, spec.resize)
    step = np.reshape(spec.input.std, (3, 1, 1)) * 255
    inputs = [preprocess(picture_bgr(pictures, i))[0][0].copy() for i in range(2)]
    return max(float((np.abs(ours - theirs) * step).max()) for ours, theirs in zip(inputs, official, strict=True))


def decoded_rows(detector: DetectorModule, outputs: Mapping[str, Tensor]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Decode to centre, width, height (N, M, 4) in pixels and scores (N, M, classes)."""
    boxes, scores = decode(detector.spec, [outputs[n] for n in detector.spec.decode.output_names])
    centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    return torch.cat((centre, size), dim=-1).numpy(), scores.numpy()


def assert_detections(folder: Path, detector: DetectorModule, outputs: Mapping[str, Tensor]) -> None:
    """Compare with the official pictures and boxes of a fixture, from the picture on.

    The preprocessing must give the reference input exactly; the boxes must be the official ones to 0.05 px and 1e-3
    in score, none missing, none extra, but for candidates within 1e-3 of the threshold.

    Args:
        folder: The fixture.
        detector: Loaded from it.
        outputs: Its raw outputs for the reference input.
    """
    pictures, official = np.load(folder / "preproc.npz"), np.load(folder / "nms.npz")
    inputs = np.load(folder / "reference.npz")["input"]
    told = json.loads((folder / "meta.json").read_text())["thresholds"]
    conf, iou = told.get("conf", told.get("score")), told.get("iou", told.get("nms"))
    height, width = inputs.shape[2:]
    spec = detector.spec.replace(input=replace(detector.spec.input, height=height, width=width))
    preprocess = Preprocessor(spec.input, spec.resize)
    for i in range(len(inputs)):
        tensor, _ = preprocess(picture_bgr(pictures, i))
        assert np.array_equal(tensor[0], inputs[i])
        raw = [outputs[name][i : i + 1].numpy() for name in spec.decode.output_names]
        found = decode_outputs(raw, spec.decode, conf=conf - 1e-3, multi_label=spec.thresholds.multi_label)
        found = found.take(nms(found.boxes_xyxy, found.scores, found.class_ids, iou=iou, max_det=500))
        ours = np.column_stack((found.boxes_xyxy / 0.05, found.scores / 1e-3, found.class_ids * 1e6))
        parts = (official[f"boxes_{i}"] / 0.05, official[f"scores_{i}"] / 1e-3, official[f"classes_{i}"] * 1e6)
        theirs = np.column_stack(parts)
        apart = np.abs(ours[:, None] - theirs[None]).max(axis=2)
        clear_ours, clear_theirs = (np.abs(rows[:, 4] * 1e-3 - conf) > 1e-3 for rows in (ours, theirs))
        assert (apart.min(axis=0)[clear_theirs] <= 1).all(), "an official box is missing"
        assert (apart.min(axis=1)[clear_ours] <= 1).all(), "a box is not among the official ones"


def picture_bgr(pictures: Mapping[str, NDArray[Any]], i: int) -> NDArray[np.uint8]:
    """Return the i-th picture of a fixture, uint8 (h, w, 3) BGR, whichever way the fixture holds it."""
    if f"image{i}_bgr" in pictures:
        return np.ascontiguousarray(pictures[f"image{i}_bgr"])
    rgb = pictures[f"image{i}_rgb"] if f"image{i}_rgb" in pictures else pictures["images_rgb"][i]
    return np.ascontiguousarray(rgb[..., ::-1])


@dataclass(frozen=True, slots=True)
class Damage:
    """A way to spoil a state dict, and the words that the error must hold."""

    key: str
    action: str
    words: str

    def apply(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a spoilt copy."""
        spoilt = dict(tensors)
        if self.action == "drop":
            del spoilt[self.key]
        elif self.action == "add":
            spoilt[self.key + ".more"] = torch.zeros(3)
        else:
            spoilt[self.key] = spoilt[self.key][1:]
        return spoilt


def assert_refused(family: ModuleType, checkpoint: Checkpoint, words: str) -> None:
    """Assert that loading ends in one line that holds `words`.

    The checkpoint is read anew first: a test may have changed its content.
    """
    checkpoint = replace(checkpoint)
    with pytest.raises(CheckpointError) as caught:
        family.load(checkpoint)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def assert_round_trip(family: ModuleType, detector: DetectorModule, variant: str) -> DetectorModule:
    """Save, recognise and load a detector; its outputs must be the same bit by bit."""
    checkpoint = state_dict_checkpoint(detector.state_dict())
    recognition = family.recognise(checkpoint)
    assert recognition is not None
    assert recognition.variant == variant
    assert len(recognition.classes) == len(detector.spec.classes)
    loaded: DetectorModule = family.load(checkpoint)
    height, width = detector.small_input().shape[2:]
    x = torch.rand(1, 3, height, width + detector.stride)
    with torch.no_grad():
        for got, expected in zip(loaded(x), detector.eval()(x), strict=True):
            assert torch.equal(got, expected)
    assert_other_ranks_are_refused(family, detector.state_dict())
    return loaded


def assert_other_ranks_are_refused(family: ModuleType, tensors: Mapping[str, Tensor]) -> None:
    """Assert that a tensor of another rank than its name promises, or without content, is an error in words.

    Of the weights and biases some sixteen are tried, the first and last ones among them, each with one of four shapes.
    """
    shapes = cycle([(), (0,), (3,), (1, 1, 1, 1, 1)])
    names = [name for name in tensors if name.endswith(("weight", "bias", "project")) and ".bn" not in name]
    middle = names[6:-6]
    for name in [*names[:6], *middle[:: len(middle) // 4 + 1], *names[6:][-6:]]:
        checkpoint = state_dict_checkpoint({**tensors, name: torch.ones(next(shapes))})
        try:
            if family.recognise(checkpoint) is not None:
                family.load(checkpoint)
        except CheckpointError:
            continue
