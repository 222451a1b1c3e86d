"""Ultralytics' files: sizes, blocks, heads, forms of files, other tasks, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgedet_models import families
from edgedet_models.checkpoint import Checkpoint, PickledObject, read_checkpoint
from edgedet_models.complexity import count
from edgedet_models.decode import decode
from edgedet_models.detector import DetectorModule, HeadName
from edgedet_models.families import ultralytics
from edgedet_models.ultralytics.network import DistanceDetector
from edgedet_models.ultralytics.rtdetr import RTDETR_BUILDERS
from edgedet_runtime.errors import CheckpointError, InputError
from tests.models import distance_networks as net
from tests.models.family_template import (
    COCO,
    Damage,
    assert_detections,
    assert_raw,
    assert_refused,
    assert_round_trip,
    fixture_folder,
    randomise,
    run,
    state_dict_checkpoint,
)
from tests.models.yaml_networks import Concat, Model
from tests.runtime.official_fixtures import DISTANCE_FIXTURES

DFL_CONSTANT = 16
"""The official counts include the numbers 0 to 15 of the bins, which are no parameter here."""

SIZES: dict[str, tuple[int, float]] = {
    "yolov8n": (3_157_200, 8.9),
    "yolov8s": (11_166_560, 28.8),
    "yolov8n-p2": (3_354_144, 17.4),
    "yolov8n-p6": (4_984_352, 8.8),
    "yolov5nu": (2_654_816, 7.8),
    "yolov5su": (9_153_152, 24.2),
    "yolov5n6u": (4_334_896, 7.95),
    "yolov3-tinyu": (12_173_248, 19.1),
    "yolo11n": (2_624_080, 6.6),
    "yolo11s": (9_458_752, 21.7),
    "yolo12n": (2_602_288, 6.7),
    "yolo12s": (9_284_096, 21.7),
    "yolov9t": (2_128_720, 8.5),
    "yolov9s": (7_318_368, 27.6),
    "yolov9c": (25_590_912, 104.0),
    "yolov10n": (2_775_520, 6.8),
    "yolo26n": (2_572_280, 5.5),
}
"""Parameters and GFLOPs (one head) at 640 px and 80 classes, as the official code prints them."""
_TABLE = """
yolov8m 25.9, yolov8l 43.7, yolov8x 68.2, yolov5mu 25.1, yolov5lu 53.2, yolov5xu 97.2, yolov3u 103.7, yolov3-sppu 104.8,
yolov9m 20.2, yolov9e 58.2, yolo11m 20.1, yolo11l 25.4, yolo11x 57.0, yolo12m 20.2, yolo12l 26.5, yolo12x 59.2,
yolov10s 8.1, yolov10m 16.6, yolov10b 20.6, yolov10l 25.9, yolov10x 31.8,
yolo26s 10.0, yolo26m 21.9, yolo26l 26.3, yolo26x 59.0
"""
MILLIONS = {name: float(millions) for name, millions in (entry.split() for entry in _TABLE.split(","))}
"""The larger ones, as the official tables and summaries round or cut them."""


@pytest.mark.parametrize("variant", SIZES)
def test_published_sizes(variant: str) -> None:
    parameters, gflops = SIZES[variant]
    with torch.device("meta"):
        detector = ultralytics.VARIANTS[variant](COCO)
    cost = count(detector, (640, 640), norm_ops=4)
    constant = 0 if detector.spec.decode.kind == "ltrb" else DFL_CONSTANT
    assert detector.num_parameters + constant == parameters
    assert cost.gflops == pytest.approx(gflops, abs=0.0501)


@pytest.mark.parametrize("variant", MILLIONS)
def test_published_sizes_of_the_large(variant: str) -> None:
    with torch.device("meta"):
        detector = ultralytics.VARIANTS[variant](COCO)
    millions = detector.num_parameters / 1e6
    assert MILLIONS[variant] in (round(millions, 1), int(10 * millions) / 10)


_TABLE = """
yolov8n 8.7, yolov8s 28.6, yolov8m 78.9, yolov8l 165.2, yolov8x 257.8, yolov5nu 7.7, yolov5su 24.0, yolov5mu 64.2,
yolov5lu 135.0, yolov5xu 246.4, yolo11n 6.5, yolo11s 21.5, yolo11m 68.0, yolo11l 86.9, yolo11x 194.9, yolo12n 6.5,
yolo12s 21.4, yolo12m 67.5, yolo12l 88.9, yolo12x 199.0, yolov10n 6.7, yolov10s 21.6, yolov10m 59.1, yolov10b 92.0,
yolov10l 120.3, yolov10x 160.4, yolo26n 5.4, yolo26s 20.7, yolo26m 68.2, yolo26l 86.4, yolo26x 193.9
"""
FUSED_GFLOPS = {name: float(gflops) for name, gflops in (entry.split() for entry in _TABLE.split(","))}
"""GFLOPs at 640 px of the official tables, which are of one head with every BatchNorm folded."""


@pytest.mark.parametrize("variant", FUSED_GFLOPS)
def test_gflops_of_the_official_tables(variant: str) -> None:
    with torch.device("meta"):
        detector = ultralytics.VARIANTS[variant](COCO)
        detector.choose_head(None)
    assert count(detector, (640, 640), norm_ops=0).gflops == pytest.approx(FUSED_GFLOPS[variant], abs=0.0501)


def test_every_variant_is_published_or_derived() -> None:
    derived = {f"yolov8{size}-{form}" for size in "smlx" for form in ("p2", "p6")}
    derived |= {f"yolov5{size}6u" for size in "smlx"}
    assert set(ultralytics.VARIANTS) == {*SIZES, *MILLIONS, *RTDETR_BUILDERS} | derived


OFFICIAL = [name for name in DISTANCE_FIXTURES if name.startswith("ul-")]


@pytest.mark.interop
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_outputs(name: str) -> None:
    base, _, head = name.partition("@")
    folder = fixture_folder(base)
    checkpoint = read_checkpoint(folder / "checkpoint.pt")
    chosen: HeadName | None = "one-to-one" if head == "one-to-one" else "one-to-many" if head else None
    detector = families.load(checkpoint, head=chosen)
    reference = np.load(folder / "reference.npz")
    outputs = run(detector, reference["input"])
    prefix = "raw_o2o" if head == "one-to-one" else "raw"
    for level in range(len(detector.spec.decode.levels)):
        expected = {f"boxes_{level}": f"{prefix}_box_{level}", f"scores_{level}": f"{prefix}_cls_{level}"}
        assert_raw(outputs, {ours: reference[theirs] for ours, theirs in expected.items()})
    if head != "one-to-one":
        assert_detections(folder, detector, outputs)


@pytest.mark.interop
def test_official_one_to_one_boxes() -> None:
    """Decoded boxes and scores, and the official top-k as a set: no suppression, several classes at one place."""
    folder = fixture_folder("ul-yolo26n-w0125")
    detector = families.load(read_checkpoint(folder / "checkpoint.pt"))
    reference = np.load(folder / "reference.npz")
    outputs = run(detector, reference["input"])
    boxes, scores = decode(detector.spec, [outputs[name] for name in detector.spec.decode.output_names])
    np.testing.assert_allclose(boxes.numpy(), reference["decoded_o2o"][:, :4].transpose(0, 2, 1), atol=2e-3)
    np.testing.assert_allclose(scores.numpy(), reference["decoded_o2o"][:, 4:].transpose(0, 2, 1), atol=1e-5)
    best = np.sort(scores.flatten(1).numpy(), axis=1)[:, ::-1][:, :300]
    np.testing.assert_allclose(best, reference["e2e"][..., 4], atol=1e-5)


REFUSED = {
    "refuse-yolov8n-seg": "made for instance segmentation",
    "refuse-yolov8n-pose": "made for pose estimation",
    "refuse-yolo11n-obb": "made for oriented boxes (OBB)",
    "refuse-yolov8n-cls": "made for image classification",
}


@pytest.mark.interop
@pytest.mark.parametrize("name", REFUSED)
def test_other_tasks_are_named(name: str) -> None:
    checkpoint = read_checkpoint(fixture_folder(name) / "checkpoint.pt")
    for family in (ultralytics, families):
        with pytest.raises(CheckpointError, match="the file is whole but") as caught:
            family.load(checkpoint)
        assert REFUSED[name].removeprefix("made for ") in str(caught.value)
        assert "damaged" not in str(caught.value)
        assert "\n" not in str(caught.value)


Layers = list[tuple[Any, nn.Module]]


def network(
    middle: Sequence[tuple[Any, nn.Module]] = (), head: Callable[..., nn.Module] = net.Detect, **more: Any
) -> Model:
    """Three levels of 8, 16 and 16 channels; `middle` maps (N, 8, 16, 16) to the same channels before the levels."""
    layers: Layers = [(-1, net.Conv(3, 8, 3, 2)), (-1, net.Conv(8, 8, 3, 2)), (-1, net.Conv(8, 8, 3, 2)), *middle]
    first = len(layers) - 1
    layers += [(-1, net.Conv(8, 16, 3, 2)), (-1, net.Conv(16, 16, 3, 2))]
    detect = head(2, (8, 16, 16), (8, 16, 32), **more)
    return Model([*layers, ([first, first + 1, first + 2], detect)], {0: "cat", 1: "dog"})


MIDDLES: dict[str, Callable[[], Layers]] = {
    "c2f": lambda: [(-1, net.C2f(8, 8, [net.Bottleneck(4, True), net.Bottleneck(4, False)]))],
    "c3k2 with c3k": lambda: [(-1, net.C3k2(8, 8, [net.C3k(4)]))],
    "c3k2 with attention": lambda: [(-1, net.C3k2(8, 8, [nn.Sequential(net.Bottleneck(4, True), net.PSABlock(4, 2))]))],
    "c2": lambda: [(-1, net.C2(8))],
    "sppf of 8.0": lambda: [(-1, net.SPPF(8))],
    "sppf of 8.4.60": lambda: [(-1, net.SPPF(8, nn.Identity(), n=3, add=False))],
    "sppf of yolo26": lambda: [(-1, net.SPPF(8, nn.Identity(), n=3, add=True))],
    "sppf of two pools": lambda: [(-1, net.SPPF(8, n=2, add=False))],
    "c2psa": lambda: [(-1, net.C2PSA(8, 2))],
    "psablock without sums": lambda: [(-1, net.PSABlock(8, 2, add=False))],
    "psa": lambda: [(-1, net.PSA(8, 2))],
    "a2c2f": lambda: [(-1, net.A2C2f(8, [nn.Sequential(net.ABlock(4, 2, 4), net.ABlock(4, 1, 1))], gamma=False))],
    "a2c2f with gamma": lambda: [(-1, net.A2C2f(8, [nn.Sequential(net.ABlock(4, 2, 2))], gamma=True))],
    "a2c2f with c3k": lambda: [(-1, net.A2C2f(8, [net.C3k(4)], gamma=False))],
    "scdown": lambda: [(-1, nn.Upsample(scale_factor=2.0)), (-1, net.SCDown(8, 8))],
    "c2fcib": lambda: [(-1, net.C2fCIB(8, 8, [net.CIB(4, True), net.CIB(4, False)]))],
    "elan": lambda: [(-1, net.RepNCSPELAN4(8)), (-1, net.RepNCSPELAN4(8, add=False))],
    "repconv with identity": lambda: [(-1, net.RepConvN(8, identity=True))],
    "sppelan": lambda: [(-1, net.SPPELAN(8))],
    "aconv": lambda: [(-1, nn.Upsample(scale_factor=2.0)), (-1, net.AConv(8, 8))],
    "adown": lambda: [(-1, nn.Upsample(scale_factor=2.0)), (-1, net.ADown(8, 8))],
    "ghost": lambda: [(-1, net.GhostConv(8, 8)), (-1, net.C3Ghost(8))],
    "transposed": lambda: [(-1, nn.ConvTranspose2d(8, 8, 2, 2)), (-1, net.Conv(8, 8, 3, 2))],
    "silence": lambda: [(-1, net.Silence()), (-1, nn.Identity())],
    "links": lambda: [
        (2, net.CBLinear(8, [8, 4])),
        (0, net.Conv(8, 8, 3, 2)),
        (-1, net.Conv(8, 4, 3, 2)),
        ([3, -1], net.CBFuse([1])),
        (-1, net.Conv(4, 8)),
    ],
    "links of another size": lambda: [
        (2, net.CBLinear(8, [8])),
        (0, net.Conv(8, 8)),
        ([3, -1], net.CBFuse([0])),
        (-1, net.Conv(8, 8, 3, 4)),
    ],
    "concat": lambda: [(1, net.Conv(8, 8, 3, 2, 8)), ([2, -1], Concat()), (-1, net.Conv(16, 8))],
    "relu": lambda: [(-1, net.Conv(8, 8, act=nn.ReLU())), (-1, net.Conv(8, 8, act=nn.LeakyReLU(0.1)))],
}


def save(network: nn.Module, path: Path, key: str = "model", **more: Any) -> Checkpoint:
    randomise(network)
    network.eval()
    torch.save({"epoch": -1, "model": None, "ema": None, key: network, **more}, path)
    return read_checkpoint(path)


def compare(model: Model, detector: DetectorModule, head: int = -1) -> None:
    x = torch.rand(2, 3, 64, 96)
    model.model[-1].used = head  # type: ignore[assignment]
    with torch.no_grad():
        expected, got = model(x), detector(x)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MIDDLES)
def test_layers_compute_what_the_official_ones_do(name: str, tmp_path: Path) -> None:
    model = network(MIDDLES[name]())
    compare(model, ultralytics.load(save(model, tmp_path / "best.pt")))


def test_weights_in_half_precision(tmp_path: Path) -> None:
    model = network()
    randomise(model)
    detector = ultralytics.load(save(model.half(), tmp_path / "best.pt"))
    assert all(p.dtype is torch.float32 for p in detector.parameters())
    compare(model.float(), detector)


def test_the_average_comes_before_the_plain_weights(tmp_path: Path) -> None:
    """last.pt of 8.0 holds both; that of 8.3 and later None and the average."""
    average, plain = network(), network()
    randomise(plain, seed=1)
    compare(average, ultralytics.load(save(average, tmp_path / "last.pt", "ema", model=plain)))
    compare(average, ultralytics.load(save(average, tmp_path / "later.pt", "ema", model=None)))


class Namespace:
    """A class of the training code, as old files hold for options and losses."""

    def __init__(self, **options: Any) -> None:
        self.__dict__.update(options)


def test_training_objects_are_inert(tmp_path: Path) -> None:
    model = network()
    model.args = Namespace(imgsz=320, task="detect")  # type: ignore[assignment]
    model.criterion = Namespace(assigner=Namespace(topk=10), device=torch.device("cpu"))  # type: ignore[assignment]
    detector = ultralytics.load(save(model, tmp_path / "old.pt"))
    assert detector.spec.input.size_hw == (320, 320)


@pytest.mark.parametrize(
    ("options", "size"),
    [({"imgsz": 416}, 416), ({"imgsz": 400}, 416), ({"imgsz": [480, 352]}, 480), ({"imgsz": "x"}, 640), ({}, 640)],
)
def test_size_of_training(options: dict[str, Any], size: int, tmp_path: Path) -> None:
    detector = ultralytics.load(save(network(), tmp_path / "best.pt", train_args=options))
    assert detector.spec.input.size_hw == (size, size)


def test_contract_of_distributions(tmp_path: Path) -> None:
    spec = ultralytics.load(save(network(), tmp_path / "best.pt", license="AGPL-3.0 License (a link)")).spec
    assert (spec.decode.kind, spec.decode.bins, spec.decode.suppression) == ("dfl", 16, "nms")
    assert (spec.thresholds.conf, spec.thresholds.iou, spec.thresholds.max_det) == (0.25, 0.7, 300)
    assert (spec.licence, spec.classes) == ("AGPL-3.0", ("cat", "dog"))
    assert [level.stride for level in spec.decode.levels] == [8, 16, 32]


def test_contract_of_plain_distances(tmp_path: Path) -> None:
    detector = ultralytics.load(save(network(bins=1), tmp_path / "best.pt"))
    assert (detector.spec.decode.kind, detector.spec.decode.bins) == ("ltrb", 0)


def test_gray_pictures(tmp_path: Path) -> None:
    """A gray picture given as RGB is the one channel to the network; color is weighted as OpenCV weights it."""
    model = network()
    model.model[0].conv = nn.Conv2d(1, 8, 3, 2, 1, bias=False)
    checkpoint = save(model, tmp_path / "best.pt")
    recognition = ultralytics.recognise(checkpoint)
    assert recognition is not None
    assert "for gray pictures" in recognition.why
    detector = ultralytics.load(checkpoint)
    gray = torch.rand(2, 1, 64, 96)
    rgb = torch.rand(1, 3, 64, 96)
    weighted = (rgb * torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)).sum(1, keepdim=True)
    with torch.no_grad():
        for picture, one in ((gray.expand(-1, 3, -1, -1), gray), (rgb, weighted)):
            for got, expected in zip(detector(picture), model(one), strict=True):
                torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("head", "index"), [("one-to-one", 1), ("one-to-many", 0), (None, 1)])
def test_two_heads(head: HeadName | None, index: int, tmp_path: Path) -> None:
    model = network(head=net.v10Detect)
    checkpoint = save(model, tmp_path / "best.pt")
    both = ultralytics.load(checkpoint)
    assert both.head_choices == ("one-to-one", "one-to-many")
    detector = families.load(checkpoint, head=head)
    compare(model, detector, index)
    assert detector.spec.decode.suppression == ("none" if index else "nms")
    assert detector.spec.thresholds.multi_label is bool(index)
    assert detector.num_parameters < both.num_parameters
    recognition = ultralytics.recognise(checkpoint)
    assert recognition is not None
    assert "a one-to-many and a one-to-one head" in recognition.why


def test_a_file_saved_after_fusing_has_the_one_to_one_head_only(tmp_path: Path) -> None:
    model = network(head=net.v10Detect)
    checkpoint = save(model, tmp_path / "best.pt")
    head = layers_of(checkpoint)["5"].state
    head["cv2"] = head["cv3"] = None
    for name in ("cv2", "cv3"):
        del head["_modules"][name]
    checkpoint = replace(checkpoint)
    detector = families.load(checkpoint)
    compare(model, detector)
    with pytest.raises(InputError, match=r"^head: expected one-to-one, as custom has, got one-to-many"):
        families.load(checkpoint, head="one-to-many")


def test_one_head_leaves_no_choice(tmp_path: Path) -> None:
    checkpoint = save(network(), tmp_path / "best.pt")
    assert ultralytics.load(checkpoint).head_choices == ("one-to-many",)
    with pytest.raises(InputError, match=r"^head: expected one-to-many"):
        families.load(checkpoint, head="one-to-one")


def layers_of(checkpoint: Checkpoint) -> dict[str, PickledObject]:
    layers: dict[str, PickledObject] = checkpoint.content["model"].state["_modules"]["model"].state["_modules"]
    return layers


def part(node: PickledObject, *names: str) -> dict[str, Any]:
    for name in names:
        node = node.state["_modules"][name]
    state: dict[str, Any] = node.state
    return state


DAMAGE: dict[str, tuple[Callable[[dict[str, PickledObject]], object], str]] = {
    "no activation": (lambda la: part(la["0"])["_modules"].pop("act"), "does not say which activation follows"),
    "heads": (lambda la: part(la["3"], "m", "0", "attn").update(num_heads=0), "num_heads: expected a positive number"),
    "no heads": (lambda la: part(la["3"], "m", "0", "attn").pop("num_heads"), "'num_heads' is missing"),
    "scale": (lambda la: part(la["3"], "m", "0", "attn").update(scale="x"), "scale: expected a number"),
    "sum": (lambda la: part(la["3"], "m", "0").pop("add"), "add: expected True or False, got None"),
    "other heads": (lambda la: part(la["3"], "m", "0", "attn").update(num_heads=3), "do not fit together"),
    "residual": (lambda la: part(la["4"], "m", "0").pop("add"), "add: expected True or False, got None"),
    "block": (lambda la: setattr(la["3"], "class_path", "x.C2fAttn"), "layers of class x.C2fAttn are not supported"),
    "from": (lambda la: la["3"].state.update(f=9), "layer 3: from: expected earlier layers"),
    "strides": (lambda la: la["7"].state.update(stride=torch.tensor([4.0, 8.0, 16.0])), "expected strides [4.0, 8.0"),
    "bins": (lambda la: la["7"].state.update(reg_max=8), "expected 8 bins per side, as the file says, got 16"),
    "bin numbers": (
        lambda la: part(la["7"], "dfl", "conv")["_parameters"]["weight"].add_(1),
        "head.dfl: expected the numbers 0 to 15",
    ),
    "levels": (lambda la: part(la["7"], "cv3")["_modules"].pop("2"), "as many box as class chains, got 3 and 2"),
    "classes": (
        lambda la: part(la["7"], "cv3", "1", "1")["_parameters"].update(weight=torch.zeros(3, 8, 1, 1)),
        "the same classes on every level",
    ),
    "names": (lambda la: None, "class names: expected 2, as the head has classes, got 3"),
    "channels": (
        lambda la: part(la["0"], "conv")["_parameters"].update(weight=torch.zeros(8, 4, 3, 3)),
        "expected a network for color or gray pictures (3 channels or 1), got one for 4 channels",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_files_that_contradict_themselves(name: str, tmp_path: Path) -> None:
    change, words = DAMAGE[name]
    checkpoint = save(network([(-1, net.C2PSA(8, 2)), (-1, net.C2(8))]), tmp_path / "best.pt")
    change(layers_of(checkpoint))
    if name == "names":
        checkpoint.content["model"].state["names"] = {0: "a", 1: "b", 2: "c"}
    assert_refused(ultralytics, checkpoint, words)


TASKS = {
    "SemanticSegment": "semantic segmentation",
    "WorldDetect": "open-vocabulary detection (YOLO-World)",
    "YOLOEDetect": "open-vocabulary detection (YOLOE)",
    "Segment26": "instance segmentation",
    "Pose26": "pose estimation",
    "OBB26": "oriented boxes",
}


@pytest.mark.parametrize("head", TASKS)
@pytest.mark.parametrize("root", ["ultralytics.nn.tasks.DetectionModel", "models.yolo.SegmentationModel"])
def test_heads_of_other_tasks(head: str, root: str, tmp_path: Path) -> None:
    checkpoint = save(network(), tmp_path / "best.pt")
    checkpoint.content["model"].class_path = root
    layers_of(checkpoint)["5"].class_path = f"ultralytics.nn.modules.head.{head}"
    with pytest.raises(CheckpointError, match="the file is whole but made for") as caught:
        families.load(replace(checkpoint))
    assert TASKS[head] in str(caught.value)
    assert ("set_classes" in str(caught.value)) == ("vocabulary" in TASKS[head])


@pytest.mark.parametrize("variant", ["yolov8n", "yolo12n", "yolov9t", "yolov10n", "yolo26n", "yolov3-tinyu"])
def test_trainable_from_scratch(variant: str) -> None:
    detector = ultralytics.VARIANTS[variant](COCO[:3]).train()
    assert isinstance(detector, DistanceDetector)
    detector.choose_head(None)
    raw = detector(torch.rand(2, 3, 64, 64))
    assert raw[1].mean().item() < -4  # objects are rare at the start
    sum(out.square().mean() for out in raw).backward()
    missing = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


@pytest.mark.parametrize("variant", ["yolov8n", "yolo11n", "yolov9t", "yolov10n", "yolo26n"])
def test_state_dict_round_trip(variant: str) -> None:
    detector = ultralytics.VARIANTS[variant](COCO[:3])
    randomise(detector)
    assert_round_trip(ultralytics, detector, variant)


@pytest.mark.parametrize("head", ["one-to-one", "one-to-many"])
def test_state_dict_of_one_head(head: HeadName) -> None:
    detector = ultralytics.VARIANTS["yolov10n"](COCO[:3])
    detector.choose_head(head)
    loaded = assert_round_trip(ultralytics, detector, "yolov10n")
    assert loaded.head_choices == (head,)
    assert loaded.spec.decode.suppression == ("none" if head == "one-to-one" else "nms")


def test_official_state_dict_with_the_constant_and_a_prefix() -> None:
    """As YOLOv10's authors publish theirs; it says that activations were assumed."""
    detector = ultralytics.VARIANTS["yolov8n"](COCO)
    tensors = {f"model.{name}": tensor for name, tensor in detector.state_dict().items()}
    tensors["model.model.22.dfl.conv.weight"] = torch.arange(16.0).reshape(1, 16, 1, 1)
    checkpoint = state_dict_checkpoint(tensors)
    recognition = ultralytics.recognise(checkpoint)
    assert recognition is not None
    assert "does not say which activations" in recognition.why
    loaded = families.load(checkpoint)
    assert (loaded.spec.variant, loaded.spec.licence, len(loaded.spec.classes)) == ("yolov8n", "AGPL-3.0", 80)


@pytest.mark.parametrize(
    "damage",
    [
        Damage("model.9.cv1.bn.bias", "drop", "got another kind of file"),
        Damage("model.9.cv1.bn.bias", "add", "got another kind of file"),
        Damage("model.4.m.0.cv1.conv.weight", "cut", "got another kind of file"),
    ],
    ids=lambda d: d.action,
)
def test_spoilt_state_dicts(damage: Damage) -> None:
    tensors = ultralytics.VARIANTS["yolov8n"](COCO[:2]).state_dict()
    assert_refused(ultralytics, state_dict_checkpoint(damage.apply(tensors)), damage.words)


def test_options_of_january_2023(tmp_path: Path) -> None:
    """omegaconf objects: each entry holds its value; the classes are never imported."""
    value = PickledObject("omegaconf.nodes.AnyNode", state={"_metadata": None, "_parent": None, "_val": 352})
    options = PickledObject("omegaconf.dictconfig.DictConfig", state={"_content": {"imgsz": value}, "_parent": None})
    checkpoint = save(network(), tmp_path / "last.pt")
    checkpoint.content["train_args"] = options
    assert ultralytics.load(checkpoint).spec.input.size_hw == (352, 352)


def test_other_files_are_not_recognised() -> None:
    other = Checkpoint(Path("made.pth"), "torch-zip", "0" * 64, {"model": {"a": torch.ones(2)}})
    assert ultralytics.recognise(other) is None
    assert_refused(ultralytics, other, "expected a detector of Ultralytics' code")
