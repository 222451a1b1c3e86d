"""YOLOv9 and GELAN: sizes, official files, auxiliary branches, and the line to the other families."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgedet_models import families
from edgedet_models.checkpoint import Checkpoint, read_checkpoint
from edgedet_models.complexity import count
from edgedet_models.families import ultralytics, yolov5, yolov9
from tests.models import distance_networks as net
from tests.models.family_template import (
    COCO,
    assert_detections,
    assert_raw,
    assert_refused,
    assert_round_trip,
    decoded_rows,
    fixture_folder,
    run,
    state_dict_checkpoint,
    worst_relative,
)
from tests.models.test_ultralytics import DFL_CONSTANT, compare, network, save
from tests.models.yaml_networks import Model


@pytest.mark.parametrize(
    ("variant", "parameters", "gflops"), [("gelan-t", 2_442_640, 10.1), ("gelan-c", 25_498_752, 103.5)]
)
def test_published_sizes(variant: str, parameters: int, gflops: float) -> None:
    with torch.device("meta"):
        detector = yolov9.VARIANTS[variant](COCO)
    assert detector.num_parameters + DFL_CONSTANT == parameters
    assert round(count(detector, (640, 640), norm_ops=4).gflops, 1) == gflops


@pytest.mark.interop
@pytest.mark.parametrize("name", ["v9-gelan-t-w0375", "v9-yolov9-c-train-w00625"])
def test_official_outputs(name: str) -> None:
    folder = fixture_folder(name)
    checkpoint = read_checkpoint(folder / "checkpoint.pt")
    detector = families.load(checkpoint)
    assert (detector.spec.family, detector.spec.licence) == ("yolov9", "GPL-3.0")
    assert (detector.spec.thresholds.iou, detector.spec.thresholds.max_det) == (0.45, 1000)
    reference = np.load(folder / "reference.npz")
    outputs = run(detector, reference["input"])
    for level in range(3):
        assert_raw(outputs, {f"{ours}_{level}": reference[f"raw_{theirs}_{level}"] for ours, theirs in PARTS})
    boxes, scores = decoded_rows(detector, outputs)
    assert worst_relative(boxes, reference["decoded"][:, :4].transpose(0, 2, 1)) <= 1e-4
    assert worst_relative(scores, reference["decoded"][:, 4:].transpose(0, 2, 1)) <= 1e-4
    assert_detections(folder, detector, outputs)


PARTS = (("boxes", "box"), ("scores", "cls"))


@pytest.mark.interop
def test_the_auxiliary_branch_and_what_feeds_it_are_left_out() -> None:
    checkpoint = read_checkpoint(fixture_folder("v9-yolov9-c-train-w00625") / "checkpoint.pt")
    recognition = yolov9.recognise(checkpoint)
    assert recognition is not None
    assert "auxiliary branch left out" in recognition.why
    all_of_it = sum(t.numel() for t in checkpoint.tensors().values())
    assert yolov9.load(checkpoint).num_parameters < 0.6 * all_of_it


def with_auxiliary() -> Model:
    """The main branch of `network`, and three cells that feed the auxiliary half of the head only."""
    main = network()
    layers = [(layer.f, layer) for layer in list(main.model)[:-1]]
    auxiliary = [(source, net.Conv(channels, 4, 3)) for source, channels in ((2, 8), (3, 16), (4, 16))]
    head = net.DualDDetect(2, (4, 4, 4, 8, 16, 16), (8, 16, 32))
    return Model([*layers, *auxiliary, ([5, 6, 7, 2, 3, 4], head)], {0: "cat", 1: "dog"})


def official(checkpoint: Checkpoint) -> Checkpoint:
    """Give the model the class path that YOLOv9 shares with YOLOv5."""
    checkpoint.content["model"].class_path = "models.yolo.DetectionModel"
    return replace(checkpoint)


def test_main_head_of_the_training_form(tmp_path: Path) -> None:
    model = with_auxiliary()
    detector = families.load(official(save(model, tmp_path / "best.pt")))
    compare(model, detector)
    plain = yolov9.load(official(save(network(), tmp_path / "plain.pt")))
    assert detector.num_parameters == plain.num_parameters


def test_families_of_the_same_module_paths_are_told_apart(tmp_path: Path) -> None:
    checkpoint = official(save(network(), tmp_path / "best.pt"))
    assert [found.family for found in families.recognise(checkpoint)] == ["yolov9"]
    assert yolov5.recognise(checkpoint) is None
    assert ultralytics.recognise(checkpoint) is None
    checkpoint.content["model"].class_path = "ultralytics.nn.tasks.DetectionModel"
    assert [found.family for found in families.recognise(replace(checkpoint))] == ["ultralytics"]


def test_state_dict_round_trip() -> None:
    detector = yolov9.VARIANTS["gelan-t"](COCO[:3])
    loaded = assert_round_trip(yolov9, detector, "gelan-t")
    assert (loaded.spec.licence, loaded.spec.thresholds.iou) == ("GPL-3.0", 0.45)
    assert ultralytics.recognise(state_dict_checkpoint(detector.state_dict())) is None


def test_levels_that_do_not_fit_the_head(tmp_path: Path) -> None:
    checkpoint = official(save(with_auxiliary(), tmp_path / "best.pt"))
    layers = checkpoint.content["model"].state["_modules"]["model"].state["_modules"]
    layers["8"].state["f"] = [7, 2, 3, 4]
    assert_refused(yolov9, checkpoint, "head: expected inputs for 3 levels, got 4")
