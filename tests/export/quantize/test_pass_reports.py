"""What the passes of quantization report: every change, and a reason for each candidate that they leave."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.edits import by_name
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.graph.walks import nodes_of
from edgedet_export.onnx_passes import RequirementError
from edgedet_export.pass_report import Change, Declined
from edgedet_export.quantize.apply_plan import WritePlan
from edgedet_export.quantize.channel_links import ChannelLinks
from edgedet_export.quantize.equalize import ScaleChannels
from edgedet_export.quantize.fuse_silu import FuseSilu
from edgedet_export.quantize.layers import find_layers
from edgedet_export.quantize.number_format import NUMBER_FORMATS
from edgedet_export.quantize.plan import Grid, KeptFloat, QuantPlan
from edgedet_export.quantize.smooth import InsertFactors
from edgedet_export.quantize.stem_to_depth import StemToDepth

from .tiny_detector import tiny_detector


def tiny() -> ir.Model:
    model = from_proto(tiny_detector()[0])
    infer_shapes(model)
    return model


def plan(layers: tuple[str, ...], kept: tuple[KeptFloat, ...] = ()) -> QuantPlan:
    return QuantPlan(
        grids={"images_f": Grid(1.0, 0, False)},
        everywhere=frozenset({"images_f"}),
        layers=layers,
        integer_products=(),
        kept=kept,
        number_format=NUMBER_FORMATS["vnni"],
        bias="int32",
        copied_upsampling=False,
    )


def test_a_plan_reports_what_it_wrote_and_what_it_keeps() -> None:
    model = tiny()
    kept = tuple(KeptFloat(la.id, "asked", la.macs) for la in find_layers(model.graph) if la.id != "stem")
    report = WritePlan(plan(("stem",), kept), find_layers(model.graph))(model).report
    assert report.changed == (Change("stem", "float32 → INT8"),)
    assert report.declined == tuple(Declined(k.layer, "asked") for k in kept)
    onnx.checker.check_model(to_proto(model), full_check=True)


def test_a_plan_for_another_model_is_refused() -> None:
    model = tiny()
    before = to_proto(model).SerializeToString()
    with pytest.raises(RequirementError, match="expected tensor other in the model"):
        WritePlan(plan(("other",)), find_layers(model.graph))(model)
    assert to_proto(model).SerializeToString() == before


def test_silu_reports_each_and_why_a_gate_stays() -> None:
    model = tiny()
    model.graph.outputs.append(by_name(model.graph)["stem_sigmoid"])  # read elsewhere now
    report = FuseSilu()(model).report
    assert [change.path for change in report.changed] == [n.outputs[0].name for n in nodes_of(model.graph, "QuickGelu")]
    assert report.declined == (Declined("stem_silu", "its gate is another tensor's sigmoid, or is read elsewhere"),)


@pytest.mark.parametrize(
    ("height", "stride", "why"),
    [(13, 2, "the input has an odd side or a batch"), (12, 1, "its stride is not 2, or it is dilated")],
)
def test_a_stem_that_stays_has_a_reason(height: int, stride: int, why: str) -> None:
    nodes = [
        helper.make_node("Transpose", ["images"], ["bytes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["bytes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["floats", "w"], ["stem"], strides=[stride, stride]),
    ]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 3, 1, 1], [1.0] * 6)
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [1, height, 16, 3])
    made = helper.make_tensor_value_info("stem", TensorProto.FLOAT, [1, 2, None, None])
    model = from_proto(helper.make_model(helper.make_graph(nodes, "g", [images], [made], [weight])))
    infer_shapes(model)
    result = StemToDepth()(model)
    assert not result.modified
    assert result.report.declined == (Declined("stem", why),)


def test_factors_behind_an_output_of_the_graph_are_declined() -> None:
    model = tiny()
    model.graph.outputs.append(by_name(model.graph)["stem_silu"])
    report = InsertFactors()(model).report
    assert [declined.path for declined in report.declined] == ["stem_silu"]
    assert report.changed


def test_scaling_reports_only_what_it_scaled() -> None:
    model = tiny()
    layers, links = find_layers(model.graph), ChannelLinks(model.graph)
    factors = np.ones(links.total)
    report = ScaleChannels(layers, links, factors)(model).report
    assert report.changed == ()
