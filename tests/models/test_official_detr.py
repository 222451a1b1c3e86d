"""RT-DETR, RT-DETRv2, D-FINE and DEIM from official state dicts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edgedet_models import families, read_checkpoint
from edgedet_models.detr.fine_decoder import DistributionDecoder, distance_bins
from edgedet_models.detr.official import OfficialDetr, OfficialFile
from edgedet_runtime.errors import CheckpointError

RTDETR, DFINE = "rtdetrv2-r18-eighth-train", "dfine-n-quarter"
Tensors = dict[str, Tensor]


@pytest.fixture
def state(request: pytest.FixtureRequest, shared: Path) -> Tensors:
    """The weights of a fixture, named by the test's parameter."""
    return dict(read_checkpoint(shared / "fixtures" / request.param / "checkpoint.pth").tensors())


def save(tensors: Tensors, path: Path) -> Path:
    torch.save({"model": tensors}, path)
    return path


def run(model: torch.nn.Module, size: int = 64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    with torch.no_grad():
        boxes, scores = model(torch.rand(1, 3, size, size))
    return boxes, scores


@pytest.mark.interop
@pytest.mark.parametrize(
    ("name", "family", "size_px", "dropped"),
    [
        (RTDETR, "rtdetr", 160, 11 * 32 + (32 * 10 + 10)),
        (DFINE, "dfine", 256, 11 * 64 + 2 * (64 * 10 + 10) + 2 * (20 * 64 + 64 + 64 + 1) + 2),
    ],
)
def test_the_official_outputs(name: str, family: str, size_px: int, dropped: int, shared: Path) -> None:
    checkpoint = read_checkpoint(shared / "fixtures" / name / "checkpoint.pth")
    model, recognition = families.load_recognized(checkpoint)
    with np.load(checkpoint.path.with_name("reference.npz")) as file, torch.no_grad():
        boxes, scores = model(torch.from_numpy(file["input"]))
        np.testing.assert_allclose(boxes, file["pred_boxes"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(scores, file["pred_logits"], rtol=0, atol=1e-4)
    official = {RTDETR: 306_774, DFINE: 555_917}[name]
    assert model.num_parameters + dropped == official
    assert (recognition.family, len(recognition.classes)) == (family, 10)
    assert "assumed" in recognition.why
    spec = model.spec
    assert (spec.input.size_hw, spec.resize.mode, spec.licence) == ((size_px, size_px), "stretch", "Apache-2.0")
    assert (spec.decode.kind, spec.thresholds.multi_label, spec.input.color) == ("queries", True, "RGB")


@pytest.mark.interop
@pytest.mark.parametrize("state", [RTDETR, DFINE], indirect=True)
def test_the_size_of_training_comes_from_the_boxes_of_cells(state: Tensors) -> None:
    from edgedet_models.detr.geometry import cell_boxes

    levels = 2 if "decoder.reg_scale" in state else 3
    for height, width in ((384, 640), (1280, 64), (640, 640)):
        sizes = [(height * 2**i // 32, width * 2**i // 32) for i in reversed(range(levels))]
        anchors, _ = cell_boxes(sizes, torch.zeros(1))
        for stored in (anchors, anchors.half()):
            found = OfficialFile.find(Path("a"), {**state, "decoder.anchors": stored})
            assert found is not None
            assert found.size_hw() == (height, width)
    del state["decoder.anchors"]
    bare = OfficialFile.find(Path("a"), state)
    assert bare is not None
    assert bare.size_hw() == (640, 640)


@pytest.mark.interop
@pytest.mark.parametrize("state", [RTDETR], indirect=True)
def test_the_first_version_has_other_keys(state: Tensors, tmp_path: Path) -> None:
    """RT-DETR numbers what RT-DETRv2 names, and samples 4 places on each level without saying so."""
    expected = run(families.load(read_checkpoint(save(state, tmp_path / "v2.pth"))))
    old: Tensors = {}
    for name, tensor in state.items():
        if "num_points_scale" in name:
            continue
        name = re.sub(r"^(encoder\.input_proj\.\d)\.conv", r"\1.0", name)
        name = re.sub(r"^(encoder\.input_proj\.\d)\.norm", r"\1.1", name)
        old[name.replace("enc_output.proj", "enc_output.0").replace("enc_output.norm", "enc_output.1")] = tensor
    got = run(families.load(read_checkpoint(save(old, tmp_path / "v1.pth"))))
    torch.testing.assert_close(got, expected)


@pytest.mark.interop
@pytest.mark.parametrize("state", [RTDETR, DFINE], indirect=True)
def test_deim_is_told_by_its_name_and_has_silu(state: Tensors, tmp_path: Path) -> None:
    plain = read_checkpoint(save(state, tmp_path / "best.pth"))
    named = read_checkpoint(save(state, tmp_path / "DEIM_n_coco.pth"))
    assert families.load(plain).spec.family in ("rtdetr", "dfine")
    deim = families.load(named)
    assert deim.spec.family == "deim"
    torch.testing.assert_close(run(families.load(plain, family="deim")), run(deim))
    own = families.load(named, family="dfine" if "decoder.reg_scale" in state else "rtdetr")
    assert float((run(own)[1] - run(deim)[1]).abs().max()) > 1e-2
    assert not any(isinstance(m, torch.nn.ReLU) for m in deim.get_submodule("decoder").modules())


@pytest.mark.interop
@pytest.mark.parametrize("state", [DFINE], indirect=True)
def test_layers_that_only_trained_are_left_out(state: Tensors, tmp_path: Path) -> None:
    """D-FINE may train wider layers behind the one whose outputs count."""
    wide = {k: v for k, v in state.items() if ".layers.2." in k and k.startswith("decoder.decoder.")}
    more = {k.replace(".layers.2.", ".layers.3."): v.repeat(*[2] * v.dim()) for k, v in wide.items()}
    model = families.load(read_checkpoint(save({**state, **more}, tmp_path / "wide.pth")))
    torch.testing.assert_close(run(model), run(families.load(read_checkpoint(save(state, tmp_path / "own.pth")))))


@pytest.mark.interop
@pytest.mark.parametrize("state", [RTDETR], indirect=True)
def test_learned_content_shows_the_queries(state: Tensors, tmp_path: Path) -> None:
    state["decoder.tgt_embed.weight"] = torch.rand(17, 32)
    model = families.load(read_checkpoint(save(state, tmp_path / "learned.pth")))
    assert run(model)[0].shape == (1, 17, 4)
    assert model.spec.thresholds.max_det == 17


@pytest.mark.interop
@pytest.mark.parametrize("state", [RTDETR], indirect=True)
def test_queries_may_be_selected_whatever_their_class(state: Tensors, tmp_path: Path) -> None:
    for part in ("weight", "bias"):
        state[f"decoder.enc_score_head.{part}"] = state[f"decoder.enc_score_head.{part}"][:1]
    model = families.load(read_checkpoint(save(state, tmp_path / "agnostic.pth")))
    assert run(model)[1].shape[2] == len(model.spec.classes) == 10


@pytest.mark.interop
@pytest.mark.parametrize("state", [RTDETR, DFINE], indirect=True)
def test_each_level_may_have_its_own_points(state: Tensors, tmp_path: Path) -> None:
    levels = 2 if "decoder.reg_scale" in state else 3
    runs = [3, 9] if levels == 2 else [2, 7, 3]
    for name in [n for n in state if "num_points_scale" in n]:
        state[name] = torch.tensor([1 / n for n in runs for _ in range(n)])
    model = families.load(read_checkpoint(save(state, tmp_path / "points.pth")))
    assert isinstance(model, OfficialDetr)
    assert model.decoder.refine.get_submodule("layers.0.cross_attn").points == tuple(runs)


def damage(name: str, tensor: Tensor | None) -> Callable[[Tensors], None]:
    def change(state: Tensors) -> None:
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor

    return change


LAYER = "decoder.decoder.layers.0"
DAMAGE = {
    "a missing cell": (damage("encoder.lateral_convs.0.conv.weight", None), "encoder.lateral_convs.0.conv.weight"),
    "a missing norm": (damage("encoder.lateral_convs.0.norm.weight", None), "1 tensors missing"),
    "points": (damage(f"{LAYER}.cross_attn.num_points_scale", torch.rand(12)), "num_points_scale: expected runs"),
    "no points": (damage(f"{LAYER}.cross_attn.num_points_scale", torch.zeros(0)), "num_points_scale: expected the"),
    "NaN points": (damage(f"{LAYER}.cross_attn.num_points_scale", torch.full((12,), math.nan)), "expected runs"),
    "heads": (damage(f"{LAYER}.cross_attn.attention_weights.weight", torch.rand(60, 64)), "heads do not divide"),
    "scale": (damage("decoder.reg_scale", torch.zeros(1)), "reg_scale: expected a number other than 0"),
    "bins": (damage("decoder.dec_bbox_head.0.layers.2.weight", torch.rand(130, 64)), "odd number of bins"),
    "a wrong width": (damage("encoder.input_proj.0.conv.weight", torch.rand(64, 99, 1, 1)), "expected|do not fit"),
    "something more": (damage("decoder.surprise.weight", torch.rand(3)), "1 tensors not expected"),
    "a matrix": (damage("decoder.dec_score_head.0.weight", torch.rand(3)), "expected a matrix"),
}


@pytest.mark.interop
@pytest.mark.parametrize("case", DAMAGE)
@pytest.mark.parametrize("state", [DFINE], indirect=True)
def test_damage_is_named(case: str, state: Tensors, tmp_path: Path) -> None:
    change, words = DAMAGE[case]
    change(state)
    with pytest.raises(CheckpointError, match=words):
        families.load(read_checkpoint(save(state, tmp_path / "damaged.pth")))


@pytest.mark.interop
@pytest.mark.parametrize("state", [DFINE], indirect=True)
def test_another_backbone_has_a_way_out(state: Tensors, tmp_path: Path) -> None:
    other = {k.replace("backbone.", "backbone.model."): v for k, v in state.items()}
    with pytest.raises(CheckpointError, match=r"expected the backbone PResNet or HGNetv2 .* ONNX"):
        families.load(read_checkpoint(save(other, tmp_path / "timm.pth")))


def test_bins_of_distances() -> None:
    """The official W(n): 0 in the middle, ±up · scale before the ends, twice that at the ends."""
    bins = distance_bins(33, 0.5, 4.0).double().numpy()
    assert bins[16] == 0
    np.testing.assert_allclose(bins, -bins[::-1])
    np.testing.assert_allclose([bins[31], bins[32]], [2.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose(bins[17:32] + 1, 3.0 ** (np.arange(1, 16) / 15), rtol=1e-6)
    np.testing.assert_array_equal(distance_bins(33, -0.5, -4.0), distance_bins(33, 0.5, 4.0))


def test_edges_move_by_distances() -> None:
    decoder = DistributionDecoder.__new__(DistributionDecoder)
    torch.nn.Module.__init__(decoder)
    decoder.scale = 4.0
    first = torch.tensor([0.5, 0.4, 0.2, 0.1], dtype=torch.float64)
    same = decoder._boxes(first, torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(same, first)
    moved = decoder._boxes(first, torch.tensor([1.0, -1.0, 0.0, 2.0], dtype=torch.float64))
    left, top, right, bottom = 0.5 - 3 * 0.05, 0.4 - 1 * 0.025, 0.5 + 2 * 0.05, 0.4 + 4 * 0.025
    expected = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    np.testing.assert_allclose(moved, expected)
