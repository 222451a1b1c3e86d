"""Files and protobuf models to onnx-ir and back: nothing lost, nothing reached, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.graph.conversion import from_proto, load_model, set_metadata, to_proto
from edgedet_export.graph.edits import NewTensors, by_name, rename
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.graph.values import constant, opset
from edgedet_runtime.errors import ModelFileError
from tests.export.graph.chain import chain, operators, with_subgraph


def test_nodes_are_sorted_and_a_sorted_graph_keeps_its_order() -> None:
    model = from_proto(chain())
    position = {op: i for i, op in enumerate(operators(model.graph))}
    assert position["Conv"] < position["Relu"] < position["Add"]
    assert opset(model.graph) == 17
    order = ["Sigmoid", "Relu", "Tanh", "Abs"]
    nodes = [helper.make_node(op, ["x"], [f"{op}_out"]) for op in order]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    made = [helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, [1]) for op in order]
    assert operators(from_proto(helper.make_model(helper.make_graph(nodes, "g", given, made))).graph) == order


def test_a_round_trip_keeps_the_model() -> None:
    proto = chain()
    again = to_proto(from_proto(proto))
    assert [(e.key, e.value) for e in again.metadata_props] == [("k", "v")]
    assert (again.ir_version, again.opset_import[0].version, again.graph.name) == (8, 17, "g")
    assert sorted(n.SerializeToString() for n in again.graph.node) == sorted(
        n.SerializeToString() for n in proto.graph.node
    )
    assert again.graph.initializer == proto.graph.initializer
    assert again.graph.output == proto.graph.output
    assert not again.graph.value_info
    assert again.SerializeToString() == to_proto(from_proto(again)).SerializeToString()


def test_inferred_shapes_are_stored_for_inner_tensors_only() -> None:
    model = from_proto(chain())
    infer_shapes(model)
    assert sorted(v.name for v in to_proto(model).graph.value_info) == ["c", "dead", "one", "r"]


def test_edits_never_reach_the_model_that_was_read() -> None:
    proto = chain()
    before = proto.SerializeToString()
    model = from_proto(proto)
    rename(by_name(model.graph)["w"], "weight")
    NewTensors(model.graph).named_constant("weight", np.zeros((2, 3, 1, 1), np.float32))
    model.metadata_props["k"] = "w"
    assert "weight" in [t.name for t in to_proto(model).graph.initializer]
    assert proto.SerializeToString() == before


def test_inputs_that_declare_an_initializer_are_dropped() -> None:
    proto = chain()
    proto.ir_version = 3
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, ["o", 3, 1, 1]))
    model = from_proto(proto)
    assert [value.name for value in model.graph.inputs] == ["images"]
    infer_shapes(model)
    again = to_proto(model)
    onnx.checker.check_model(again, full_check=True)
    ort.InferenceSession(again.SerializeToString(), providers=["CPUExecutionProvider"])


def test_subgraphs_survive() -> None:
    model = from_proto(with_subgraph())
    session = ort.InferenceSession(to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    got = session.run(None, {"images": np.ones((1, 3, 4, 6), np.float32)})[0]
    np.testing.assert_array_equal(got, np.full((1, 2, 4, 6), -3, np.float32))


def test_metadata_is_replaced_not_repeated() -> None:
    proto = chain()
    set_metadata(proto, "k", "w")
    set_metadata(proto, "l", "x")
    assert [(e.key, e.value) for e in proto.metadata_props] == [("k", "w"), ("l", "x")]


def test_cycles_and_double_producers_are_errors() -> None:
    proto = chain()
    proto.graph.node.append(helper.make_node("Relu", ["out"], ["one"]))
    with pytest.raises(ModelFileError, match="tensor one: expected one producer, got two"):
        from_proto(proto)
    proto = chain()
    next(n for n in proto.graph.node if n.op_type == "Relu").input[0] = "out"
    with pytest.raises(ModelFileError, match="cycle"):
        from_proto(proto)


def test_tensors_that_nothing_makes_are_errors() -> None:
    proto = chain()
    next(n for n in proto.graph.node if n.op_type == "Relu").input[0] = "ghost"
    with pytest.raises(ModelFileError, match="tensor ghost, read by Relu"):
        from_proto(proto)
    proto = chain()
    proto.graph.output[0].name = "ghost"
    with pytest.raises(ModelFileError, match="output ghost"):
        from_proto(proto)
    proto = with_subgraph()
    conditional = next(n for n in proto.graph.node if n.op_type == "If")
    conditional.attribute[0].g.node[0].input[0] = "ghost"
    with pytest.raises(ModelFileError, match="tensor ghost"):
        from_proto(proto)


def test_weights_that_do_not_fit_are_errors() -> None:
    proto = chain()
    proto.graph.initializer[0].dims[0] = 5
    with pytest.raises(ModelFileError, match=r"tensor w: expected data for type FLOAT, shape \[5, 3, 1, 1\]"):
        from_proto(proto)
    proto = chain()
    proto.graph.initializer[0].data_type = 99
    with pytest.raises(ModelFileError, match="damaged"):
        from_proto(proto)
    proto = chain()
    proto.graph.sparse_initializer.add().values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    with pytest.raises(ModelFileError, match="sparse"):
        from_proto(proto)


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
            load_model(path)
        assert "\n" not in str(info.value)
    with pytest.raises(ModelFileError, match="no such file"):
        load_model(tmp_path / "absent.onnx")


def test_damage_is_refused_or_survived_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    messages: list[str] = []
    for whole in (chain().SerializeToString(), with_subgraph().SerializeToString()):
        for _ in range(300):
            data = np.frombuffer(whole, np.uint8).copy()
            where = rng.integers(0, len(data), rng.integers(1, 4))
            data[where] = rng.integers(0, 256, len(where))
            try:
                proto = onnx.load_model_from_string(data.tobytes())
            except Exception:  # no protobuf: `load_model` refuses it, see below
                continue
            try:
                infer_shapes(model := from_proto(proto))
                to_proto(model)
            except ModelFileError as e:
                messages.append(str(e))
    assert len(messages) > 50
    assert not [message for message in messages if "\n" in message]
    assert capfd.readouterr().err == ""


def test_values_of_a_read_model_are_read_only() -> None:
    weight = constant(from_proto(chain()).graph.initializers["w"])
    assert weight is not None
    with pytest.raises(ValueError, match="read-only"):
        weight[0] = 2
