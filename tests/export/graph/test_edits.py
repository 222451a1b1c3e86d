"""Edits leave a graph whole: free names, no dangling readers, the same numbers; and their cost is linear."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from edgedet_export.foreign.fold_into_convolutions import FoldIntoConvolutions
from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.edits import (
    NewTensors,
    by_name,
    free_names,
    prepend,
    remove_dead,
    remove_nodes,
    rename,
    replace_by_constant,
    replace_uses,
    set_input,
    set_outputs,
    stand_in,
)
from edgedet_export.graph.extract import extract
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.graph.values import constant
from edgedet_export.graph.walks import nodes_of
from edgedet_runtime.errors import ModelFileError
from tests.export.graph.chain import chain, operators, with_subgraph


def result(model: ir.Model) -> np.ndarray[Any, Any]:
    """Run a model on ones, after ONNX's own check."""
    infer_shapes(model)
    proto = to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {i.name: np.ones(i.shape, np.float32) for i in session.get_inputs()}
    made: np.ndarray[Any, Any] = session.run(None, feed)[0]
    return made


def test_new_names_are_free_in_subgraphs_too_and_numbered() -> None:
    new = NewTensors(from_proto(with_subgraph()).graph)
    assert [new.name("free") for _ in range(3)] == ["free", "free_1", "free_2"]
    assert new.name("t") == "t_1"  # inside a branch of the If
    assert new.name("out") == "out_1"
    assert new.name("w") == "w_1"
    assert "w_1" in new
    assert "w_2" not in new


def test_a_named_constant_replaces_the_one_of_that_name() -> None:
    model = from_proto(chain())
    new = NewTensors(model.graph)
    new.named_constant("w", np.full((5, 3, 1, 1), 2, np.float32))
    assert result(model).tolist() == np.full((1, 5, 4, 6), 7).tolist()
    assert constant(new.constant("w", np.float32(3).reshape(()))) == 3
    assert list(model.graph.initializers) == ["w", "w_1"]


def test_remove_dead_keeps_what_outputs_need() -> None:
    model = from_proto(chain())
    NewTensors(model.graph).constant("unread", np.ones(1))
    assert [node.op_type for node in remove_dead(model.graph)] == ["Sigmoid"]
    assert list(model.graph.initializers) == ["w"]
    assert len(by_name(model.graph)["c"].uses()) == 1
    assert result(model).tolist() == np.full((1, 2, 4, 6), 4).tolist()


def test_remove_dead_sees_into_subgraphs_and_lets_go_of_them() -> None:
    model = from_proto(with_subgraph())
    remove_dead(model.graph)
    assert "Relu" in operators(model.graph)
    set_outputs(model.graph, [by_name(model.graph)["c"]])
    assert sorted(node.op_type for node in remove_dead(model.graph)) == ["If", "Relu"]
    assert not by_name(model.graph)["c"].uses()


def test_uses_are_replaced_but_for_those_spared() -> None:
    graph = from_proto(chain()).graph
    values = by_name(graph)
    sigmoid = nodes_of(graph, "Sigmoid")[0]
    replace_uses(values["c"], values["images"], spare=[sigmoid])
    assert [n.op_type for n in values["c"].consumers()] == ["Sigmoid"]
    assert [n.op_type for n in values["images"].consumers()] == ["Conv", "Relu"]
    with pytest.raises(ModelFileError, match="graph output"):
        replace_uses(values["out"], values["c"])


def test_rename_reaches_inputs_outputs_weights_and_subgraphs() -> None:
    model = from_proto(with_subgraph())
    values = by_name(model.graph)
    for old, new in {"images": "x", "out": "y", "w": "weight", "r": "inner"}.items():
        rename(values[old], new)
    assert "weight" in model.graph.initializers
    assert result(model).tolist() == np.full((1, 2, 4, 6), -3).tolist()
    assert [o.name for o in to_proto(model).graph.output] == ["y"]


def test_names_are_freed() -> None:
    model = from_proto(with_subgraph())
    free_names(model.graph, ["r", "w", "t", "images"], NewTensors(model.graph))
    names = set(ir.convenience.create_value_mapping(model.graph))
    assert names >= {"inner_r", "inner_w", "inner_t", "inner_images"}
    assert not names & {"r", "w", "t", "images"}
    assert result(model).tolist() == np.full((1, 2, 4, 6), -3).tolist()


def test_one_tensor_stands_in_for_an_output() -> None:
    model = from_proto(chain())
    values = by_name(model.graph)
    stand_in(values["out"], values["r"])
    remove_nodes(model.graph, nodes_of(model.graph, "Add"))
    assert [value.name for value in model.graph.outputs] == ["out"]
    assert result(model).tolist() == np.full((1, 2, 4, 6), 3).tolist()


def test_a_constant_takes_the_place_of_a_node() -> None:
    model = from_proto(chain())
    relu = nodes_of(model.graph, "Relu")[0]
    replace_by_constant(model.graph, relu.outputs[0], np.full((1, 2, 4, 6), 9, np.float32))
    remove_nodes(model.graph, [relu])
    remove_dead(model.graph)
    assert sorted(operators(model.graph)) == ["Add", "Constant"]
    assert result(model).tolist() == np.full((1, 2, 4, 6), 10).tolist()


def test_inputs_are_set_and_nodes_put_first() -> None:
    model = from_proto(chain())
    new = NewTensors(model.graph)
    conv = nodes_of(model.graph, "Conv")[0]
    set_input(conv, 2, new.constant("bias", np.array([5, 6], np.float32)))
    doubled = new.value("doubled")
    replace_uses(model.graph.inputs[0], doubled)
    two = new.constant("two", np.array([2], np.float32))
    prepend(model.graph, [ir.node("Mul", [model.graph.inputs[0], two], outputs=[doubled])])
    assert operators(model.graph)[0] == "Mul"
    assert result(model)[0, :, 0, 0].tolist() == [6 + 5 + 1, 6 + 6 + 1]


def test_extract_gives_the_part_between_two_tensors() -> None:
    model = from_proto(chain())
    infer_shapes(model)
    part = extract(model, {"c": (1, 2, 4, 6)}, ["out"])
    assert sorted(operators(part.graph)) == ["Add", "Constant", "Relu"]
    assert [value.name for value in part.graph.inputs] == ["c"]
    assert result(part).tolist() == np.full((1, 2, 4, 6), 2).tolist()
    assert "Conv" in operators(model.graph)
    with pytest.raises(ModelFileError, match="tensor nowhere"):
        extract(model, {}, ["nowhere"])


def test_extract_keeps_inputs_that_the_part_still_reads() -> None:
    part = extract(from_proto(chain()), {"r": (1, 2, 4, 6)}, ["out", "c"])
    assert [value.name for value in part.graph.inputs] == ["r", "images"]
    assert sorted(part.graph.initializers) == ["w"]


def operations(run: Callable[[], object]) -> int:
    """Return how many bytecodes a function executes, those of what it calls included."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def long_chain(convolutions: int) -> ir.Model:
    """Convolutions one behind the other, each with a multiplication and an addition per channel."""
    rng = np.random.default_rng(0)
    x = ir.val("x", ir.DataType.FLOAT, [1, 4, 3, 3])
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 17}, name="long")
    new = NewTensors(graph)
    weight = new.constant("w", rng.standard_normal((4, 4, 1, 1)).astype(np.float32))
    for _ in range(convolutions):
        for op in ("Conv", "Mul", "Add"):
            number = weight if op == "Conv" else new.constant("k", rng.random((1, 4, 1, 1), np.float32))
            made = new.value("t")
            graph.append(ir.node(op, [x, number], outputs=[made], name=""))
            x = made
    set_outputs(graph, [x])
    return ir.Model(graph, ir_version=8)


def add_constants(model: ir.Model, count: int) -> None:
    new = NewTensors(model.graph)
    for _ in range(count):
        new.constant("k", np.zeros(1, np.float32))


def test_work_grows_with_the_graph_and_not_with_its_square() -> None:
    def work(size: int) -> dict[str, int]:
        constants, folding = long_chain(size), long_chain(size)
        return {
            "constants": operations(lambda: add_constants(constants, size)),
            "folding": operations(lambda: FoldIntoConvolutions()(folding)),
        }

    small, large = work(40), work(160)
    for name in small:
        assert large[name] < 4.4 * small[name], f"{name}: {small[name]} operations became {large[name]}"


def test_twenty_thousand_constants() -> None:
    model = from_proto(chain())
    add_constants(model, 20_000)
    assert len(model.graph.initializers) == 20_001
    assert "k_19999" in model.graph.initializers
