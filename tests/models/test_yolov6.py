"""YOLOv6: official sizes, rebuilding from a module tree, refusals, and the official code's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgedet_models.checkpoint import Checkpoint, PickledObject, read_checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.families import yolov6
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.rep_vgg import RepVgg
from edgedet_models.yolov6 import blocks, lite_blocks, network
from edgedet_models.yolov6.sizes import Size, build, build_lite
from tests.models.family_template import (
    assert_detections,
    assert_raw,
    assert_refused,
    decoded_rows,
    fixture_folder,
    randomise,
    run,
    worst_relative,
)

NAMES = tuple(f"class{i}" for i in range(80))
SMALL = Size(0.33, 0.0625)
SMALL_CSP = Size(0.60, 0.0625, csp_e=2 / 3, bins=5)
CLASSES = {
    blocks.RepBlock: "yolov6.layers.common.RepBlock",
    blocks.BottleRep: "yolov6.layers.common.BottleRep",
    blocks.BepC3: "yolov6.layers.common.BepC3",
    blocks.Sppf: "yolov6.layers.common.SPPFModule",
    blocks.CspSppf: "yolov6.layers.common.CSPSPPFModule",
    blocks.Transpose: "yolov6.layers.common.Transpose",
    blocks.BiFusion: "yolov6.layers.common.BiFusion",
    ConvBnAct: "yolov6.layers.common.ConvModule",
    RepVgg: "yolov6.layers.common.RepVGGBlock",
    lite_blocks.SqueezeExcite: "yolov6.layers.common.SEBlock",
    lite_blocks.DepthwisePointwise: "yolov6.layers.common.DPBlock",
    lite_blocks.DarknetBlock: "yolov6.layers.common.DarknetBlock",
    lite_blocks.CspBlock: "yolov6.layers.common.CSPBlock",
    lite_blocks.LiteSame: "yolov6.layers.common.Lite_EffiBlockS1",
    lite_blocks.LiteDown: "yolov6.layers.common.Lite_EffiBlockS2",
    network.Backbone: "yolov6.models.efficientrep.EfficientRep",
    network.PanNeck: "yolov6.models.reppan.RepBiFPANNeck",
    network.LiteBackbone: "yolov6.models.efficientrep.Lite_EffiBackbone",
    network.LiteNeck: "yolov6.models.reppan.Lite_EffiNeck",
    network.Head: "yolov6.models.effidehead.Detect",
    network.YoloV6: "yolov6.models.yolo.Model",
}
"""Official class paths of our modules."""


def pickled(module: nn.Module) -> PickledObject:
    """Write a module as the reader would find it in an official file."""
    kind = type(module)
    if isinstance(module, blocks.Wrapped):
        inner = next(iter(dict(module.named_children())))
        path = {"block": "ConvBNReLU", "sppf": "SimSPPF", "cspsppf": "SimCSPSPPF"}[inner]
        path = f"yolov6.layers.common.{path}"
    else:
        path = CLASSES.get(kind, f"{kind.__module__}.{kind.__name__}")
    state: dict[str, Any] = {k: v for k, v in vars(module).items() if k not in ("_modules", "spec")}
    state["_modules"] = {name: pickled(child) for name, child in module.named_children()}
    return PickledObject(path, state=state)


def checkpoint_of(model: PickledObject) -> Checkpoint:
    return Checkpoint(Path("made.pt"), "torch-zip", "0" * 64, {"model": model, "ema": None})


def module_at(model: PickledObject, name: str) -> PickledObject:
    for part in name.split("."):
        model = model.state["_modules"][part]
    return model


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("yolov6n", 5_058_270), ("yolov6m", 37_740_982), ("yolov6-lite-s", 557_942)],
)
def test_parameter_count(variant: str, parameters: int) -> None:
    with torch.device("meta"):
        assert yolov6.VARIANTS[variant](NAMES).num_parameters == parameters


def _small(kind: str) -> DetectorModule:
    if kind == "lite":
        return build_lite("custom", 0.2, NAMES[:3])
    return build("custom", SMALL_CSP if kind == "csp" else SMALL, NAMES[:3])


@pytest.mark.parametrize(("kind", "decode"), [("rep", "ltrb"), ("csp", "dfl"), ("lite", "ltrb")])
def test_network_is_rebuilt_from_its_module_tree(kind: str, decode: str) -> None:
    detector = _small(kind)
    randomise(detector)
    detector.eval()
    checkpoint = checkpoint_of(pickled(detector))
    recognition = yolov6.recognise(checkpoint)
    assert recognition is not None
    assert (recognition.variant, len(recognition.classes)) == ("custom", 3)
    loaded = yolov6.load(checkpoint)
    assert loaded.spec.decode.kind == decode
    assert set(loaded.state_dict()) == set(detector.state_dict())
    x = torch.rand(1, 3, 64, 128)
    with torch.no_grad():
        for got, expected in zip(loaded(x), detector(x), strict=True):
            assert torch.equal(got, expected)


def test_training_branches_of_the_head_are_dropped() -> None:
    detector = _small("rep").eval()
    model = pickled(detector)
    head = module_at(model, "detect").state["_modules"]
    for name in ("cls_preds_ab", "reg_preds_ab", "reg_preds_dist"):
        head[name] = pickled(nn.ModuleList(nn.Conv2d(8, 12, 1) for _ in range(3)))
    checkpoint = checkpoint_of(model)
    recognition = yolov6.recognise(checkpoint)
    assert recognition is not None
    assert "cls_preds_ab and reg_preds_ab and reg_preds_dist dropped" in recognition.why
    assert yolov6.load(checkpoint).num_parameters == detector.num_parameters


def test_objectness_head_of_the_first_release() -> None:
    model = pickled(_small("rep"))
    widths = [
        m.in_channels for m in _small("rep").get_submodule("detect.cls_preds").children() if isinstance(m, nn.Conv2d)
    ]
    head = module_at(model, "detect").state["_modules"]
    head["obj_preds"] = pickled(nn.ModuleList(nn.Conv2d(c, 1, 1) for c in widths))
    detector = yolov6.load(checkpoint_of(model))
    assert (detector.spec.decode.kind, detector.spec.decode.score) == ("points-exp", "obj*cls")
    assert detector.spec.decode.output_names[:3] == ("boxes_0", "objectness_0", "scores_0")


@pytest.mark.parametrize("version", [1, 2])
def test_qarepvgg_blocks(version: int) -> None:
    """QARepVGG adds a BatchNorm behind the sum; its second version an average pooling."""
    detector = _small("rep")
    randomise(detector)
    detector.eval()
    model = pickled(detector)
    name = "backbone.ERBlock_3.1.conv1"
    plain, node = detector.get_submodule(name), module_at(model, name)
    assert isinstance(plain, RepVgg)
    channels = plain.rbr_dense.get_submodule("bn").weight.numel()  # type: ignore[union-attr, operator]
    pointwise, norm = nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels).eval()
    parts = node.state["_modules"]
    parts |= {"rbr_1x1": pickled(pointwise), "rbr_identity": pickled(nn.Identity()), "bn": pickled(norm)}
    node.class_path = "yolov6.layers.common.QARepVGGBlock"
    if version == 2:
        parts["rbr_avg"] = pickled(nn.AvgPool2d(3, 1, 1))
        node.class_path += "V2"
    block = yolov6.load(checkpoint_of(model)).get_submodule(name)
    x = torch.randn(1, channels, 6, 6)
    with torch.no_grad():
        assert plain.rbr_dense is not None
        y = plain.rbr_dense(x) + pointwise(x) + x
        y = y + nn.functional.avg_pool2d(x, 3, 1, 1) if version == 2 else y
        torch.testing.assert_close(block(x), norm(y).relu())


@pytest.mark.parametrize(("join", "steps"), [("upsample", 2), ("Bifusion", 2), ("Bifusion", 3)])
def test_neck_of_any_depth(join: str, steps: int) -> None:
    """RepPAN, RepBiFPAN and the P6 form, with a 1×1 convolution for every block, against the written-out order."""
    c = 2
    names = {2: ("p4 p3", "n3 n4", "2 1"), 3: ("p5 p4 p3", "n4 n5 n6", "2 1 0")}[steps]
    down, up, halve = (text.split() for text in names)
    parts: dict[str, nn.Module] = {}
    for k in range(steps):
        parts[f"reduce_layer{k}"] = nn.Conv2d(c, c, 1)
        parts[f"Rep_{down[k]}"] = nn.Conv2d(c if join == "Bifusion" else 2 * c, c, 1)
        parts[f"Rep_{up[k]}"] = nn.Conv2d(2 * c, c, 1)
        parts[f"downsample{halve[k]}"] = nn.Conv2d(c, c, 2, 2)
        enlarge = blocks.Transpose(upsample_transpose=nn.ConvTranspose2d(c, c, 2, 2))
        cv1, cv2, cv3 = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1), nn.Conv2d(3 * c, c, 1)
        shrink = nn.Conv2d(c, c, 2, 2)
        fusion = blocks.BiFusion(cv1=cv1, cv2=cv2, cv3=cv3, upsample=enlarge, downsample=shrink)
        parts[f"{join}{k}"] = fusion if join == "Bifusion" else enlarge
    features = [torch.randn(1, c, 32 >> i, 32 >> i) for i in range(steps + 2)]
    with torch.no_grad():
        y, laterals, expected = features[-1], [], []
        for k in range(steps):
            lateral = parts[f"reduce_layer{k}"](y)
            laterals.append(lateral)
            equal, fine = features[-2 - k], features[-3 - k]
            if join == "Bifusion":
                joined = parts[f"Bifusion{k}"](lateral, equal, fine)
            else:
                joined = torch.cat((parts[f"upsample{k}"](lateral), equal), dim=1)
            y = parts[f"Rep_{down[k]}"](joined)
        expected.append(y)
        for k in range(steps):
            y = parts[f"Rep_{up[k]}"](torch.cat((parts[f"downsample{halve[k]}"](y), laterals[-1 - k]), dim=1))
            expected.append(y)
        got = network.PanNeck(**parts)(features)
    assert [tuple(g.shape[2:]) for g in got] == [(16 >> i, 16 >> i) for i in range(steps + 1)]
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


def test_multi_branch_block() -> None:
    """MBLA: three branches, the second worked once, the third twice; everything on the way is kept."""
    blocks_of = {1: [nn.Conv2d(2, 2, 1)], 2: [nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)]}
    first, last = nn.Conv2d(3, 6, 1), nn.Conv2d(12, 4, 1)
    m = nn.ModuleList(nn.Sequential(*convs) for convs in blocks_of.values())
    x = torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        a, b, c = first(x).split(2, dim=1)
        b1, c1 = blocks_of[1][0](b), blocks_of[2][0](c)
        expected = last(torch.cat((a, b, b1, c, c1, blocks_of[2][1](c1)), dim=1))
        assert torch.equal(blocks.MblaBlock(cv1=first, cv2=last, m=m)(x), expected)


def _drop(model: PickledObject, name: str) -> None:
    parent, _, child = name.rpartition(".")
    del module_at(model, parent).state["_modules"][child]


def _narrow(model: PickledObject, name: str) -> None:
    parameters = module_at(model, name).state["_parameters"]
    parameters["weight"] = nn.Parameter(parameters["weight"][:, 1:].clone())


def _unknown(model: PickledObject, name: str) -> None:
    module_at(model, name).class_path = "os.system"


def _without_bias(model: PickledObject, name: str) -> None:
    del module_at(model, name).state["_parameters"]["bias"]


@pytest.mark.parametrize(
    ("damage", "name", "words"),
    [
        (_drop, "neck.Rep_p4", "neck (RepBiFPANNeck): submodule 'Rep_p4' is missing"),
        (_drop, "backbone.ERBlock_5.2.cspsppf.cv3", "submodule 'cv3' is missing"),
        (_drop, "backbone.ERBlock_5.2.cspsppf", "ERBlock_5.2 (SimCSPSPPF): expected one submodule, got none"),
        (_drop, "backbone.ERBlock_3.1.conv1.rbr_identity", "submodule 'rbr_identity' is missing"),
        (_drop, "backbone.ERBlock_3.1.block", "ERBlock_3.1 (RepBlock): submodule 'block' is missing"),
        (_drop, "neck.reduce_layer0.block.act", "submodule 'act' is missing"),
        (_drop, "neck.reduce_layer0.block.bn", "expected a BatchNorm, or a bias"),
        (_drop, "detect.stems.1", "detect.stems (ModuleList): expected entries 0, 1"),
        (_narrow, "neck.reduce_layer0.block.conv", "whose parts fit together"),
        (_unknown, "backbone.stem", "backbone.stem: layers of class os.system are not supported"),
        (_without_bias, "backbone.stem.rbr_dense.bn", "backbone.stem.rbr_dense.bn (BatchNorm2d): tensor 'bias'"),
    ],
    ids=lambda v: v if isinstance(v, str) and "." in v and " " not in v else "",
)
def test_damaged_file_is_refused_in_one_line(damage: Any, name: str, words: str) -> None:
    model = pickled(_small("rep"))
    damage(model, name)
    assert_refused(yolov6, checkpoint_of(model), words)


def test_foreign_module_is_not_recognised() -> None:
    model = PickledObject("models.yolo.Model", state={"_modules": {"model": pickled(nn.Sequential(nn.ReLU()))}})
    assert yolov6.recognise(checkpoint_of(model)) is None


@pytest.mark.interop
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("yolov6-lite-s", 557_942),
        ("yolov6-yolov6m-w0125-dfl", 1_058_046),
        ("yolov6-yolov6n-deploy-w0125", 1_168_174),
        ("yolov6-yolov6n-distillns-w0125", 1_275_390),
    ],
)
def test_official_outputs(name: str, parameters: int) -> None:
    """Parameters of the distillation head: 1,283,210 less the 7,820 of its training-only branch."""
    folder = fixture_folder(name)
    detector = yolov6.load(read_checkpoint(folder / "checkpoint.pt"))
    assert detector.num_parameters == parameters
    reference = np.load(folder / "reference.npz")
    outputs = run(detector, reference["input"])
    for i in range(len(detector.spec.decode.levels)):
        expected = {f"boxes_{i}": f"raw_reg_preds_{i}", f"scores_{i}": f"raw_cls_preds_{i}"}
        assert_raw(outputs, {ours: reference[theirs] for ours, theirs in expected.items()})
    boxes, scores = decoded_rows(detector, outputs)
    # Raw distances hold 1e-4; boxes are these times strides up to 64, less what cancels.
    assert worst_relative(boxes, reference["decoded"][..., :4]) <= 3e-4
    assert worst_relative(scores, reference["decoded"][..., 5:]) <= 1e-4
    assert_detections(folder, detector, outputs)
