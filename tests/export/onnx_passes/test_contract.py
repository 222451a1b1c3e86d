"""The contract of ONNX passes and the manager: requirements, reports, reasons; ours among onnx-ir's and back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgedet_export.fold_input import FoldInput
from edgedet_export.foreign.fold_into_convolutions import FoldIntoConvolutions
from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.edits import remove_nodes, replace_uses
from edgedet_export.graph.walks import nodes_of
from edgedet_export.onnx_passes import OnnxPass, PassRecord, RequirementError, run_passes
from edgedet_export.pass_report import Change, Declined, PassReport
from edgedet_runtime.errors import EdgedetError
from edgedet_runtime.spec import InputSpec
from tests.export.graph.chain import chain, operators


class DropRelu(OnnxPass):
    """A pass that drops each Relu, and says that it leaves each Sigmoid."""

    name = "drop-relu"

    def requires(self, model: ir.Model) -> None:
        if not nodes_of(model.graph, "Relu"):
            raise RequirementError("graph: expected a Relu, got none")

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        for node in nodes_of(model.graph, "Relu", "Sigmoid"):
            source = node.inputs[0]
            assert source is not None
            if node.op_type == "Sigmoid":
                record.decline(node.outputs[0], "it is no Relu")
                continue
            replace_uses(node.outputs[0], source)
            remove_nodes(model.graph, [node])
            record.change(node.outputs[0], "Relu → nothing")


REPORT = PassReport("drop-relu", (Change("r", "Relu → nothing"),), (Declined("dead", "it is no Relu"),))


def test_a_pass_reports_what_it_changed_and_declined() -> None:
    model = from_proto(chain())
    result = DropRelu()(model)
    assert result.model is model
    assert result.modified
    assert result.report == REPORT
    assert "Relu" not in operators(model.graph)


def test_a_requirement_that_does_not_hold_leaves_the_model() -> None:
    model = from_proto(chain())
    DropRelu()(model)
    before = to_proto(model).SerializeToString()
    with pytest.raises(RequirementError, match="expected a Relu") as info:
        run_passes(model, [DropRelu()])
    assert isinstance(info.value, EdgedetError)
    assert isinstance(info.value, ir.passes.PreconditionError)
    assert to_proto(model).SerializeToString() == before


def test_the_manager_runs_a_list_and_collects_reports() -> None:
    model = from_proto(chain())
    result = run_passes(model, [DropRelu(), RemoveUnusedNodesPass(), FoldIntoConvolutions()])
    assert [report.name for report in result.reports] == [
        "drop-relu",
        "RemoveUnusedNodesPass",
        "fold-into-convolutions",
    ]
    assert result.reports[0] == REPORT
    assert result.reports[1].changed
    assert not result.reports[2].changed
    assert result.modified
    assert sorted(operators(result.model.graph)) == ["Add", "Constant", "Conv"]


def test_our_passes_run_in_the_manager_of_onnx_ir() -> None:
    result = ir.passes.Sequential(DropRelu(), RemoveUnusedNodesPass())(from_proto(chain()))
    assert result.modified
    assert sorted(operators(result.model.graph)) == ["Add", "Constant", "Conv"]


def test_an_error_reaches_the_caller_as_it_was_raised() -> None:
    spec = InputSpec("nowhere", 4, 6, layout="NCHW", dtype="float32")
    with pytest.raises(RequirementError, match="input: expected 'nowhere', got images"):
        run_passes(from_proto(chain()), [FoldInput(spec)])


MEAN_STAYS = Declined("images", "the mean stays a node, as a convolution pads with zeros")


@pytest.mark.parametrize(
    ("mean", "declined"),
    [
        ((0.0, 0.0, 0.0), ()),
        ((0.5, 0.5, 0.5), (MEAN_STAYS,)),
    ],
)
def test_reasons_of_folding_the_input(mean: tuple[float, float, float], declined: tuple[Declined, ...]) -> None:
    model = from_proto(chain())
    conv = nodes_of(model.graph, "Conv")[0]
    conv.attributes["pads"] = ir.AttrInt64s("pads", [1, 1, 1, 1])
    spec = InputSpec("images", 4, 6, layout="NCHW", dtype="float32", color="RGB", mean=mean)
    report = FoldInput(spec)(model).report
    assert report.declined == declined
    assert [change.path for change in report.changed] == ["c", "images"]


def test_reasons_of_folding_into_convolutions() -> None:
    proto = chain()
    ones = np.ones(2, np.float32)
    model = from_proto(proto)
    statistics = [ir.val(f"n{i}", const_value=ir.Tensor(ones)) for i in range(4)]
    for value in statistics:
        model.graph.register_initializer(value)
    relu = nodes_of(model.graph, "Relu")[0]
    made = ir.val("n")
    model.graph.insert_after(relu, ir.node("BatchNormalization", [relu.outputs[0], *statistics], outputs=[made]))
    report = FoldIntoConvolutions()(model).report
    assert report.declined == (Declined("n", "no convolution feeds it"),)
