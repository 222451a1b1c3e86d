"""YOLOv7: sizes, official checkpoints, and its relatives' layers in small networks of the same structure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.complexity import count
from edgedet_models.detector import DetectorModule
from edgedet_models.families import load, recognise, yolov7
from tests.models.family_template import (
    COCO,
    assert_raw,
    assert_refused,
    assert_round_trip,
    decoded_rows,
    fixture_folder,
    randomise,
    run,
    worst_relative,
)
from tests.models.yaml_networks import (
    MP,
    SPP,
    SPPCSPC,
    BottleneckCSP,
    BottleneckCSPB,
    BottleneckCSPC,
    Chuncat,
    Concat,
    Conv,
    Detect,
    DownC,
    Foldcut,
    GhostConv,
    IAuxDetect,
    IDetect,
    Model,
    ReOrg,
    RepConv,
    Shortcut,
)

Layers = list[tuple[Any, nn.Module]]


@pytest.mark.parametrize(
    ("variant", "parameters", "gflops"), [("yolov7-tiny", 6_228_762, 13.86), ("yolov7", 37_622_682, 106.47)]
)
def test_official_sizes(variant: str, parameters: int, gflops: float) -> None:
    with torch.device("meta"):
        detector = yolov7.VARIANTS[variant](COCO)
    assert detector.num_parameters == parameters
    assert round(count(detector, (640, 640), norm_ops=4).gflops, 2) == gflops


@pytest.mark.interop
@pytest.mark.parametrize("name", ["yolov7-tiny-w05", "yolov7-w025"])
def test_official_outputs(name: str) -> None:
    folder = fixture_folder(name)
    checkpoint = read_checkpoint(folder / "checkpoint.pt")
    assert [r.family for r in recognise(checkpoint)] == ["yolov7"]
    detector = yolov7.load(checkpoint)
    reference = np.load(folder / "reference.npz")
    outputs = run(detector, reference["input"].astype(np.float32))
    assert_levels(detector, outputs, [torch.from_numpy(reference[f"raw_{i}"]) for i in range(3)])
    boxes, scores = decoded_rows(detector, outputs)
    decoded = reference["decoded"]
    assert worst_relative(boxes, decoded[..., :4]) <= 1e-4
    assert worst_relative(scores, decoded[..., 4:5] * decoded[..., 5:]) <= 1e-4


def assert_levels(detector: DetectorModule, outputs: Any, raw: list[torch.Tensor], limit: float = 1e-4) -> None:
    """Compare with official raw outputs (B, A, h, w, 5 + nc)."""
    for level, official in enumerate(raw):
        rows = official.permute(0, 1, 4, 2, 3).numpy()  # (B, A, 5 + nc, h, w)
        n, _, _, h, w = rows.shape
        parts = {"boxes": rows[:, :, :4], "objectness": rows[:, :, 4:5], "scores": rows[:, :, 5:]}
        wanted = {f"{part}_{level}": r.reshape(n, -1, h, w) for part, r in parts.items()}
        assert_raw(outputs, {k: v for k, v in wanted.items() if k in outputs}, limit)


def three_levels(head: nn.Module, middle: Layers) -> Layers:
    """Strides 8, 16 and 32 with 8, 16 and 16 channels; `middle` stands at stride 8, its first layer being 3."""
    at = 2 + len(middle)
    return [
        (-1, Conv(3, 8, 3, 2)),
        (-1, Conv(8, 8, 3, 2)),
        (-1, Conv(8, 8, 3, 2)),
        *middle,
        (-1, Conv(8, 16, 3, 2)),
        (-1, MP()),
        ([at, at + 1, at + 2], head),
    ]


def idetect(nc: int = 2) -> nn.Module:
    return IDetect(nc, (8, 16, 16), (8, 16, 32))


MIDDLES: dict[str, Callable[[], Layers]] = {
    "rep-conv": lambda: [(-1, RepConv(8, 12)), (-1, RepConv(12, 12)), (-1, Conv(12, 8))],
    "spp-cspc": lambda: [(-1, SPPCSPC(8, 8))],
    "spp": lambda: [(-1, SPP(8, 8))],
    "shortcut": lambda: [(-1, Conv(8, 8)), ([-1, 2], Shortcut())],
    "concat": lambda: [(-1, Conv(8, 4)), (-2, Conv(8, 4, 3)), ([-1, -2], Concat())],
    "chuncat": lambda: [(-1, Conv(8, 4)), (2, Conv(8, 4, 3)), ([-1, 3], Chuncat())],
    "foldcut": lambda: [(-1, Conv(8, 16)), (-1, Foldcut())],
    "csp": lambda: [(-1, BottleneckCSP(8, 8, 2))],
    "csp-b": lambda: [(-1, BottleneckCSPB(8, 8, 1))],
    "csp-c": lambda: [(-1, BottleneckCSPC(8, 8, 2))],
    "ghost": lambda: [(-1, GhostConv(8, 8, 3))],
    "grouped-leaky": lambda: [(-1, Conv(8, 8, 3, 1, 4, nn.LeakyReLU(0.1))), (-1, Conv(8, 8, act=nn.Hardswish()))],
    "unused": lambda: [(-1, Conv(8, 8)), (2, Conv(8, 8, 3))],
}


def save_and_load(model: Model, path: Path, **save: Any) -> DetectorModule:
    randomise(model)
    model.eval()
    torch.save({"epoch": -1, "model": model, "ema": None}, path, **save)
    return load(read_checkpoint(path))


def compare(model: Model, detector: DetectorModule) -> None:
    x = torch.rand(2, 3, 64, 128)
    with torch.no_grad():
        raw = model(x)
    assert_levels(detector, run(detector, x.numpy()), raw, limit=1e-5)


@pytest.mark.parametrize("name", MIDDLES)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_layers_compute_what_the_official_ones_do(name: str, zipped: bool, tmp_path: Path) -> None:
    model = Model(three_levels(idetect(), MIDDLES[name]()), ["a", "b"])
    compare(model, save_and_load(model, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped))


def four_levels(head: str) -> Model:
    """The structure of w6 and e6: space-to-depth stem, DownC, four levels, auxiliary branches in training."""
    strides = (8, 16, 32, 64)
    layers: Layers = [
        (-1, ReOrg()),
        (-1, Conv(12, 8, 3)),
        (-1, DownC(8, 8)),
        (-1, DownC(8, 8)),
        (-1, DownC(8, 8)),
        (-1, DownC(8, 12)),
        (-1, Conv(12, 12, 3, 2)),
        *((source, Conv(c, c, 3)) for source, c in ((3, 8), (4, 8), (5, 12), (6, 12))),
    ]
    main = (8, 8, 12, 12)
    if head == "IDetect":
        return Model([*layers, ([7, 8, 9, 10], IDetect(3, main, strides))], {0: "a", 1: "b", 2: "c"})
    auxiliary = [(source, Conv(c, 16, 3)) for source, c in ((3, 8), (4, 8), (5, 12), (6, 12))]
    aux = IAuxDetect(3, (*main, 16, 16, 16, 16), strides)
    return Model([*layers, *auxiliary, (list(range(7, 15)), aux)], {0: "a", 1: "b", 2: "c"})


@pytest.mark.parametrize("head", ["IDetect", "IAuxDetect"])
def test_four_levels_and_auxiliary_heads(head: str, tmp_path: Path) -> None:
    model = four_levels(head)
    detector = save_and_load(model, tmp_path / "x.pt")
    compare(model, detector)
    assert [level.stride for level in detector.spec.decode.levels] == [8, 16, 32, 64]
    assert detector.spec.input.size_hw == (1280, 1280)
    assert detector.spec.classes == ("a", "b", "c")
    main_only = save_and_load(four_levels("IDetect"), tmp_path / "y.pt")
    assert detector.num_parameters == main_only.num_parameters  # auxiliary branches are gone


def test_deploy_form_with_a_plain_head(tmp_path: Path) -> None:
    model = Model(three_levels(Detect(2, (8, 16, 16), (8, 16, 32)), []), ["a", "b"])
    detector = save_and_load(model, tmp_path / "x.pt")
    compare(model, detector)
    assert detector.spec.family == "yolov7"  # MP does not occur in YOLOv5


def test_saved_after_the_official_fusing(tmp_path: Path) -> None:
    """Methods are replaced and parts deleted then; ``forward`` pickles as a call of ``getattr``."""
    model = Model(three_levels(idetect(), [(-1, RepConv(8, 12)), (-1, Conv(12, 8))]), ["a", "b"])
    randomise(model)
    model.eval()
    x = torch.rand(2, 3, 64, 128)
    with torch.no_grad():
        unfused = model(x)
        for module in model.modules():
            if isinstance(module, (Conv, RepConv, IDetect)):
                module.fuse()
        torch.testing.assert_close(model(x), unfused, rtol=1e-4, atol=1e-4)
    torch.save({"model": model}, tmp_path / "x.pt")
    compare(model, load(read_checkpoint(tmp_path / "x.pt")))


def test_single_class_is_scored_by_objectness(tmp_path: Path) -> None:
    model = Model(three_levels(idetect(1), []), ["face"])
    detector = save_and_load(model, tmp_path / "x.pt")
    compare(model, detector)
    assert detector.spec.decode.score == "obj"
    assert detector.spec.decode.output_names[:3] == ("boxes_0", "objectness_0", "boxes_1")
    _, scores = decoded_rows(detector, run(detector, np.zeros((1, 3, 64, 64), np.float32)))
    assert scores.shape[-1] == 1


def test_anchor_grid_in_pixels_comes_before_anchors_in_cells(tmp_path: Path) -> None:
    """YOLOv7 and YOLOv5 before v6 decode with the buffer ``anchor_grid``."""
    head = idetect()
    pixels = torch.arange(18.0).reshape(3, 1, 3, 1, 1, 2) + 1
    head.register_buffer("anchor_grid", pixels)
    detector = save_and_load(Model(three_levels(head, []), ["a", "b"]), tmp_path / "x.pt")
    anchors = [level.anchors_px for level in detector.spec.decode.levels]
    assert torch.equal(torch.tensor(anchors), pixels.reshape(3, 3, 2))


def test_strides_that_contradict_the_layers(tmp_path: Path) -> None:
    model = Model(three_levels(IDetect(2, (8, 16, 16), (4, 8, 16)), []), ["a", "b"])
    torch.save({"model": model}, tmp_path / "x.pt")
    checkpoint = read_checkpoint(tmp_path / "x.pt")
    assert_refused(yolov7, checkpoint, "expected strides [4.0, 8.0, 16.0]")


@pytest.mark.parametrize("classes", [1, 3])
def test_state_dict_round_trip(classes: int) -> None:
    detector = yolov7.VARIANTS["yolov7-tiny"](COCO[:classes])
    randomise(detector)
    assert_round_trip(yolov7, detector, "yolov7-tiny")


def test_trainable_from_scratch() -> None:
    detector = yolov7.VARIANTS["yolov7-tiny"](COCO[:3]).train()
    raw = detector(torch.rand(2, 3, 64, 64))
    sum(out.square().mean() for out in raw).backward()
    missing = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []
