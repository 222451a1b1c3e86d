"""DAMO-YOLO: official sizes, structures read off the shapes, strictness, and the official code's outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.damoyolo.structure import SIZES, DamoConfig, Merge, Mobile, Residual, Spp, Stage, Stem, Wrapper
from edgedet_models.decode import decode
from edgedet_models.families import damoyolo
from edgedet_models.families.damoyolo import DamoYolo
from edgedet_models.layers.rep_vgg import RepVgg
from tests.models.family_template import (
    Damage,
    assert_detections,
    assert_raw,
    assert_refused,
    assert_round_trip,
    fixture_folder,
    randomise,
    run,
    state_dict_checkpoint,
    worst_relative,
)

NAMES = tuple(f"class{i}" for i in range(80))


def _residual(c_in: int, stride: int = 1, form: str = "rep", kernel: int = 1) -> Residual:
    return Residual(c_in, 8, 4, kernel, stride, form)  # type: ignore[arg-type]


def _config(form: str) -> DamoConfig:
    """A tiny network of design res, in one of the forms."""
    stages = tuple(
        Stage((_residual(6 if i == 0 else 8, s, form), _residual(8, 1, form), *((Spp(8),) if i == 4 else ())))
        for i, s in enumerate((2, 2, 2, 1, 2))
    )
    merge = Merge(3, 2, form)  # type: ignore[arg-type]
    return DamoConfig("res", Stem(6), stages, (8, 8, 8), (4, 8, 12), (merge,) * 5, 5)


RES = _config("rep")
MOB = replace(
    RES,
    design="mob",
    stem=Stem(6, focus=False),
    stages=tuple(
        Stage((Mobile(6 if i == 0 else 8, 8, 12, s, gate), Mobile(8, 8, 16, 1, gate)))
        for i, (s, gate) in enumerate(((2, 0), (2, 3), (2, 0), (1, 2), (2, 0)))
    ),
    merges=(Merge(24, 1, "mob"),) * 5,
    head_kernel=1,
)
CSP = replace(
    RES,
    design="csp",
    stages=(
        Wrapper(6, 8, False, (), 8, 8, 8),
        *(Wrapper(8, 8, i == 2, (_residual(4, kernel=3), _residual(8)), 4, 6, 8) for i in range(3)),
    ),
)


@pytest.mark.parametrize(
    ("variant", "parameters", "deployed"),
    [
        ("damoyolo-n", 2_347_347, 2_347_347),
        ("damoyolo-ns", 1_405_691, 1_405_691),
        ("damoyolo-nm", 2_707_219, 2_707_219),
        ("damoyolo-nl", 5_688_579, 5_688_579),
        ("damoyolo-t", 8_875_727, 8_479_631),
        ("damoyolo-s", 16_935_647, 16_251_631),
        ("damoyolo-m", 29_241_727, 28_178_175),
        ("damoyolo-l", 43_861_759, 42_058_111),
    ],
)
def test_parameter_count(variant: str, parameters: int, deployed: int) -> None:
    """n, t and m counted with the official code; ns, nm, nl, s, l published as 1.41, 2.71, 5.69, 16.3, 42.1 M."""
    with torch.device("meta"):
        assert damoyolo.VARIANTS[variant](NAMES).num_parameters == parameters
        config = _deployed(SIZES[variant])
        assert DamoYolo(config, damoyolo._spec(variant, config, NAMES)).num_parameters == deployed


def _deployed(config: DamoConfig) -> DamoConfig:
    def form(part: Any) -> Any:
        return replace(part, form="deploy") if getattr(part, "form", "") == "rep" else part

    stages = tuple(replace(stage, blocks=tuple(map(form, stage.blocks))) for stage in config.stages)
    a, b, c, d, e = map(form, config.merges)
    return replace(config, stages=stages, merges=(a, b, c, d, e))


@pytest.mark.parametrize("config", [RES, _config("plain"), MOB, CSP], ids=["res", "plain", "mob", "csp"])
@pytest.mark.parametrize("classes", [1, 3])
def test_structure_is_read_off_the_shapes(config: DamoConfig, classes: int) -> None:
    detector = DamoYolo(config, damoyolo._spec("custom", config, NAMES[:classes]))
    randomise(detector)
    loaded = assert_round_trip(damoyolo, detector, "custom")
    assert [tuple(o.shape[2:]) for o in loaded(torch.rand(1, 3, 64, 96))[::2]] == [(8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("variant", ["damoyolo-t", "damoyolo-n"])
def test_official_sizes_are_recognised(variant: str) -> None:
    with torch.device("meta"):
        checkpoint = state_dict_checkpoint(damoyolo.VARIANTS[variant](NAMES).state_dict())
    recognition = damoyolo.recognise(checkpoint)
    assert recognition is not None
    assert (recognition.variant, len(recognition.classes)) == (variant, 80)


def test_deployed_repconv_computes_what_its_branches_do() -> None:
    detector = DamoYolo(RES, damoyolo._spec("custom", RES, NAMES[:2]))
    randomise(detector)
    tensors = dict(detector.eval().state_dict())
    for name, block in detector.named_modules():
        if isinstance(block, RepVgg):
            kernel, bias = torch.zeros(1), torch.zeros(1)
            for branch, pad in ((block.rbr_dense, 0), (block.rbr_1x1, 1)):
                assert branch is not None
                bn = branch.get_submodule("bn")
                assert isinstance(bn, nn.BatchNorm2d)
                assert bn.running_mean is not None
                assert bn.running_var is not None
                gain = bn.weight / (bn.running_var + bn.eps).sqrt()
                weight = branch.get_submodule("conv").weight
                assert isinstance(weight, torch.Tensor)
                kernel = kernel + nn.functional.pad(weight * gain.reshape(-1, 1, 1, 1), [pad] * 4)
                bias = bias + bn.bias - bn.running_mean * gain
            tensors = {k: v for k, v in tensors.items() if not k.startswith(name + ".")}
            tensors |= {f"{name}.rbr_reparam.weight": kernel, f"{name}.rbr_reparam.bias": bias}
    deployed = damoyolo.load(state_dict_checkpoint(tensors))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for got, expected in zip(deployed(x), detector(x), strict=True):
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_former_background_class_is_dropped() -> None:
    detector = DamoYolo(RES, damoyolo._spec("custom", RES, (*NAMES, "background")))
    loaded = damoyolo.load(state_dict_checkpoint(detector.state_dict()))
    assert len(loaded.spec.classes) == 80
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(x)[1], detector.eval()(x)[1][:, :80])


@pytest.mark.parametrize(
    "damage",
    [
        Damage("neck.merge_7.conv3.bn.bias", "drop", "1 tensors missing (first neck.merge_7.conv3.bn.bias"),
        Damage("backbone.block_list.3.block_list.0.conv1.bn1.bias", "cut", "expected shape 4 for"),
        Damage("backbone.block_list.0.conv.conv.weight", "drop", "expected the tensor backbone.block_list.0"),
        Damage("head.integral.project", "cut", "head.integral.project: expected shape 5"),
        Damage("head.gfl_cls.1.bias", "add", "1 tensors not expected"),
    ],
    ids=lambda d: f"{d.action}-{d.key}",
)
def test_damaged_state_dict_is_refused_in_one_line(damage: Damage) -> None:
    detector = DamoYolo(RES, damoyolo._spec("custom", RES, NAMES[:2]))
    checkpoint = state_dict_checkpoint(damage.apply(detector.state_dict()))
    assert damoyolo.recognise(checkpoint) is not None
    assert_refused(damoyolo, checkpoint, damage.words)


@pytest.mark.interop
def test_official_outputs() -> None:
    folder = fixture_folder("damoyolo-T-quarter")
    detector = damoyolo.load(read_checkpoint(folder / "checkpoint.pth"))
    assert detector.num_parameters == 670_735
    reference = np.load(folder / "reference.npz")
    outputs = run(detector, reference["input"])
    for i in range(3):
        scale = detector.get_parameter(f"head.scales.{i}.scale").item()
        expected = {
            f"boxes_{i}": reference[f"raw_gfl_reg_{i}"] * scale,
            f"scores_{i}": reference[f"raw_gfl_cls_{i}"],
        }
        assert_raw(outputs, expected)
    boxes, scores = decode(detector.spec, list(outputs.values()))
    assert worst_relative(boxes.numpy(), reference["decoded"][..., :4]) <= 1e-4
    assert worst_relative(scores.numpy(), reference["decoded"][..., 4:]) <= 1e-4
    assert_detections(folder, detector, outputs)
