"""What every family must pass; the test file of a family supplies rows of data and little else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
from edgedet_runtime.errors import CheckpointError

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"


def fixture_folder(name: str) -> Path:
    """Return an interop fixture's folder, or skip the test where fixtures are not installed."""
    folder = FIXTURES / name
    if not folder.is_dir():
        pytest.skip(f"interop fixture {folder} is not here")
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


def assert_raw(
    outputs: Mapping[str, Tensor], expected: Mapping[str, NDArray[Any]], limit: float = 1e-4
) -> None:
    """Compare the named outputs that `expected` holds."""
    for name, array in expected.items():
        assert worst_relative(outputs[name].numpy(), array) <= limit, name


def decoded_rows(
    detector: DetectorModule, outputs: Mapping[str, Tensor]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Decode to centre, width, height (N, M, 4) in pixels and scores (N, M, classes)."""
    boxes, scores = decode(detector.spec, [outputs[n] for n in detector.spec.decode.output_names])
    centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    return torch.cat((centre, size), dim=-1).numpy(), scores.numpy()


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
    """Assert that loading ends in one line that holds `words`."""
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
    x = torch.rand(1, 3, 2 * detector.stride, 3 * detector.stride)
    with torch.no_grad():
        for got, expected in zip(loaded(x), detector.eval()(x), strict=True):
            assert torch.equal(got, expected)
    return loaded
