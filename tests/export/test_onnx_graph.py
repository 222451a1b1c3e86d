"""OnnxGraph: indices, edits, and what comes out again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.graph.conversion import set_metadata
from edgedet_export.onnx_graph import OnnxGraph, attribute, node_reads
from edgedet_runtime.errors import ModelFileError


def chain() -> onnx.ModelProto:
    """images → Conv → c → Relu → r → Add(one) → out, and a dead Sigmoid on c; stored in reverse order."""
    nodes = [
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.ones(1, np.float32))),
        helper.make_node("Conv", ["images", "w"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Sigmoid", ["c"], ["dead"]),
        helper.make_node("Add", ["r", "one"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes[::-1],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 4, 6])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    set_metadata(model, "k", "v")
    return model


def ops(graph: OnnxGraph) -> list[str]:
    return [n.op_type for n in graph.nodes]


def test_construction_sorts_and_indexes() -> None:
    graph = OnnxGraph(chain())
    position = {n.op_type: i for i, n in enumerate(graph.nodes)}
    assert position["Conv"] < position["Relu"] < position["Add"]
    assert graph.opset == 17
    producer = graph.producer("c")
    assert producer is not None
    assert producer.op_type == "Conv"
    assert producer is graph.nodes_of("Conv")[0]
    assert sorted(n.op_type for n in graph.consumers("c")) == ["Relu", "Sigmoid"]
    assert graph.only_consumer("c") is None
    assert graph.only_consumer("r") is graph.nodes_of("Add")[0]
    assert graph.only_consumer("out") is None
    assert attribute(producer, "kernel_shape") == [1, 1]
    assert attribute(producer, "absent", 7) == 7


def test_constants_come_from_initializers_and_constant_nodes() -> None:
    graph = OnnxGraph(chain())
    np.testing.assert_array_equal(graph.constant("w"), np.ones((2, 3, 1, 1)))
    np.testing.assert_array_equal(graph.constant("one"), [1.0])
    assert graph.constant("images") is None
    graph.set_constant("w", np.full((2, 3, 1, 1), 2, np.float32))
    np.testing.assert_array_equal(graph.constant("w"), np.full((2, 3, 1, 1), 2))


def test_shapes_are_inferred_and_unknown_ones_are_none() -> None:
    graph = OnnxGraph(chain())
    assert graph.shape("c") is None
    graph.infer_shapes()
    assert graph.shape("c") == (1, 2, 4, 6)
    assert graph.shape("out") == (1, 2, 4, 6)
    graph.inputs["images"].type.tensor_type.shape.dim[2].dim_param = "h"
    graph.infer_shapes()
    assert graph.shape("out") == (1, 2, None, 6)


def test_remove_dead_keeps_what_outputs_need() -> None:
    graph = OnnxGraph(chain())
    assert graph.remove_dead() == 1
    assert "Sigmoid" not in ops(graph)
    graph.infer_shapes()
    onnx.checker.check_model(graph.to_model(), full_check=True)


def test_replace_nodes_and_uses() -> None:
    graph = OnnxGraph(chain())
    relu = graph.nodes_of("Relu")[0]
    graph.replace_nodes([relu], [helper.make_node("Tanh", ["c"], ["r"])])
    graph.replace_uses("r", "c")
    graph.remove_dead()
    assert ops(graph) == ["Constant", "Conv", "Add"] or ops(graph) == ["Conv", "Constant", "Add"]
    with pytest.raises(ModelFileError, match="graph output"):
        graph.replace_uses("out", "c")


def test_rename_reaches_inputs_outputs_and_nodes_and_the_model_still_runs() -> None:
    ort = pytest.importorskip("onnxruntime")
    graph = OnnxGraph(chain())
    graph.rename("images", "x")
    graph.rename("out", "y")
    graph.rename("w", "weight")
    graph.infer_shapes()
    model = graph.to_model()
    onnx.checker.check_model(model, full_check=True)
    got = ort.InferenceSession(model.SerializeToString()).run(["y"], {"x": np.ones((1, 3, 4, 6), np.float32)})
    np.testing.assert_array_equal(got[0], np.full((1, 2, 4, 6), 4, np.float32))
    with pytest.raises(ModelFileError, match="free name"):
        graph.rename("c", "y")


def test_extract_gives_the_part_between_two_tensors() -> None:
    graph = OnnxGraph(chain())
    graph.infer_shapes()
    part = graph.extract({"c": helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 2, 4, 6])}, ["out"])
    assert [n.op_type for n in part.graph.node if n.op_type != "Constant"] == ["Relu", "Add"]
    assert [i.name for i in part.graph.input] == ["c"]
    assert "Conv" in ops(graph)


def test_walks_stop_where_told() -> None:
    graph = OnnxGraph(chain())
    assert {n.op_type for n in graph.walk_up(["out"], stop=lambda n: n.op_type == "Relu")} == {
        "Add",
        "Constant",
        "Relu",
    }
    assert {n.op_type for n in graph.walk_down(["c"])} == {"Relu", "Sigmoid", "Add"}


def test_subgraphs_count_as_readers() -> None:
    then = helper.make_graph(
        [helper.make_node("Neg", ["r"], ["t"])], "then", [], [helper.make_tensor_value_info("t", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["r"], ["e"])],
        "else",
        [],
        [helper.make_tensor_value_info("e", 1, None)],
    )
    node = helper.make_node("If", ["cond"], ["z"], then_branch=then, else_branch=other)
    assert node_reads(node) == {"cond", "r"}
    graph = OnnxGraph(chain())
    graph.set_constant("cond", np.array(True))
    graph.add_nodes([node])
    assert "If" in [n.op_type for n in graph.consumers("r")]
    graph.set_outputs({"z": None})
    graph.remove_dead()
    assert "Relu" in ops(graph)


def test_metadata_survives_and_is_replaced() -> None:
    model = OnnxGraph(chain()).to_model()
    set_metadata(model, "k", "w")
    assert [(e.key, e.value) for e in model.metadata_props] == [("k", "w")]


def test_cycles_and_double_producers_are_errors() -> None:
    model = chain()
    model.graph.node.append(helper.make_node("Relu", ["out"], ["images2"]))
    model.graph.node[-1].output[0] = "one"
    with pytest.raises(ModelFileError, match=r"two|cycle"):
        OnnxGraph(model)
    model = chain()
    next(n for n in model.graph.node if n.op_type == "Relu").input[0] = "out"
    with pytest.raises(ModelFileError, match="cycle"):
        OnnxGraph(model)


def test_unreadable_files_give_one_line(tmp_path: Path) -> None:
    whole = chain().SerializeToString()
    for name, data in {
        "garbage": b"\xff\xfe\x00garbage" * 40,
        "cut": whole[: len(whole) // 2],
        "empty": b"",
    }.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        with pytest.raises(ModelFileError) as info:
            OnnxGraph.load(path)
        assert "\n" not in str(info.value)
    with pytest.raises(ModelFileError, match="no such file"):
        OnnxGraph.load(tmp_path / "absent.onnx")
