"""The two other output contracts: decoding, and decoding with NMS, inside the graph.

For consumers that do not use edgedet's runtime. The decoder is traced from the same torch code that training and
parity use (`edgedet_models.decode`) and appended to the raw heads, so a quantised network keeps float decoding.

- ``decoded``: one output ``decoded`` (1, M, 4 + classes): xyxy in input pixels, scores in 0..1.
- ``nms``: one output ``detections`` (K, 6): xyxy in input pixels, score, class; at most ``max_det`` rows, best first
  within a class as ONNX's NonMaxSuppression orders them. The spec's thresholds are compiled in. A head that needs no
  suppression gets a top-k instead: K is fixed, rows are best first, and those below the threshold score 0.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from edgedet_export.onnx_graph import OnnxGraph
from edgedet_export.to_onnx import trace
from edgedet_models.decode import decode
from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.spec import BoxKind, DecodeSpec, LevelSpec, ModelSpec

__all__ = ["append_decoding"]

DECODED, DETECTIONS = "decoded", "detections"


class _Decoder(nn.Module):
    """Raw heads to (1, M, 4 + classes)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self._spec = spec

    def forward(self, *raw: Tensor) -> Tensor:
        boxes, scores = decode(self._spec, raw)
        return torch.cat((boxes, scores), dim=-1)


class _TopK(nn.Module):
    """Raw heads to (K, 6), the best pairs of candidate and class of a one-to-one head.

    First the best K candidates by their best class, then the best K pairs among them, so that the second, exact
    selection sorts K * classes numbers and not all.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self._spec = spec

    def forward(self, *raw: Tensor) -> Tensor:
        limits = self._spec.thresholds
        boxes, scores = (part[0] for part in decode(self._spec, raw))
        k = min(limits.max_det, len(boxes))
        best, index = scores.max(dim=1).values.topk(k)
        boxes, scores = boxes[index], scores[index]
        if limits.multi_label:
            best, pair = scores.flatten().topk(min(limits.max_det, scores.numel()))
            boxes, classes = boxes[pair // scores.shape[1]], pair % scores.shape[1]
        else:
            classes = scores.argmax(dim=1)
        best = best * (best > limits.conf)
        return torch.cat((boxes, best.unsqueeze(1), classes.unsqueeze(1).to(boxes.dtype)), dim=1)


def append_decoding(
    model: onnx.ModelProto, spec: ModelSpec, contract: Literal["decoded", "nms"]
) -> tuple[onnx.ModelProto, ModelSpec]:
    """Append decoding, or decoding and NMS, to a model with raw heads.

    Args:
        model: FP32 or QDQ, with the outputs of `spec`.
        spec: Its contract, of a raw kind.
        contract: ``decoded`` or ``nms``.

    Returns:
        The extended model and its contract.

    Raises:
        CheckFailedError: An output's shape is unknown.
    """
    graph = OnnxGraph(model)
    shapes = []
    for name in spec.decode.output_names:
        shape = graph.shape(name)
        if shape is None or None in shape:
            raise CheckFailedError(f"output {name}: expected a static shape to append decoding, got {shape}")
        shapes.append([d for d in shape if d is not None])
    zeros = tuple(torch.zeros(*shape) for shape in shapes)
    top_k = contract == "nms" and spec.decode.suppression == "none"
    last = DETECTIONS if top_k else DECODED
    decoder = trace(_TopK(spec) if top_k else _Decoder(spec), zeros, spec.decode.output_names, [last])
    raw = set(spec.decode.output_names)
    renamed = {
        tensor: f"decode/{tensor}"
        for node in decoder.graph.node
        for tensor in (*node.input, *node.output)
        if tensor and tensor not in raw and tensor != last
    }
    for tensor in decoder.graph.initializer:
        graph.set_constant(renamed[tensor.name], onnx.numpy_helper.to_array(tensor))
    nodes = []
    for node in decoder.graph.node:
        node.name = f"decode/{node.name}"
        for names in (node.input, node.output):
            for i, tensor in enumerate(names):
                names[i] = renamed.get(tensor, tensor)
        nodes.append(node)
    decoded_shape = [d.dim_value for d in decoder.graph.output[0].type.tensor_type.shape.dim]
    if contract == "nms" and not top_k:
        nodes += _nms(graph, spec)
        graph.set_outputs({DETECTIONS: (None, 6)})
    else:
        graph.set_outputs({last: decoded_shape})
    graph.add_nodes(nodes)
    name = DETECTIONS if contract == "nms" else DECODED
    level = LevelSpec(stride=spec.decode.levels[0].stride, boxes=name, scores=name)
    kind: BoxKind = "nms" if contract == "nms" else "decoded"
    result = graph.to_model()
    onnx.checker.check_model(result)
    decode_spec = DecodeSpec(kind=kind, levels=(level,), score="cls", suppression=spec.decode.suppression)
    return result, spec.replace(decode=decode_spec)


def _nms(graph: OnnxGraph, spec: ModelSpec) -> list[onnx.NodeProto]:
    """Nodes from ``decoded`` to ``detections``: NonMaxSuppression per class, then the best rows by score."""

    def constant(hint: str, *values: float, dtype: type = np.int64) -> str:
        return graph.add_constant(f"nms/{hint}", np.array(values, dtype))

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [output], name=f"nms/{output.rpartition('/')[2]}", **attributes)

    thresholds = spec.thresholds
    zero, one, two, three, four = (constant(n, v) for v, n in enumerate(("zero", "one", "two", "three", "four")))
    end = constant("end", 1 << 31)
    limit = constant("max_det", thresholds.max_det)
    iou = constant("iou", thresholds.iou, dtype=np.float32)
    conf = constant("conf", thresholds.conf, dtype=np.float32)
    nodes = [
        node("Slice", [DECODED, zero, four, two], "nms/boxes"),
        node("Slice", [DECODED, four, end, two], "nms/all_scores"),
        node("ReduceMax", ["nms/all_scores"], "nms/best_score", axes=[2], keepdims=1),
    ]
    if thresholds.class_agnostic:
        nodes.append(node("Identity", ["nms/best_score"], "nms/scores"))
    elif thresholds.multi_label:
        nodes.append(node("Identity", ["nms/all_scores"], "nms/scores"))
    else:  # only the best class of a candidate may become a box
        nodes += [
            node("GreaterOrEqual", ["nms/all_scores", "nms/best_score"], "nms/is_best"),
            node("Cast", ["nms/is_best"], "nms/best_mask", to=TensorProto.FLOAT),
            node("Mul", ["nms/all_scores", "nms/best_mask"], "nms/scores"),
        ]
    nodes += [
        node("Transpose", ["nms/scores"], "nms/scores_by_class", perm=[0, 2, 1]),
        node("NonMaxSuppression", ["nms/boxes", "nms/scores_by_class", limit, iou, conf], "nms/selected"),
        node("Slice", ["nms/selected", one, two, one], "nms/class"),
        node("Slice", ["nms/selected", two, three, one], "nms/candidate"),
        node("Squeeze", ["nms/boxes", zero], "nms/boxes_flat"),
        node("Squeeze", ["nms/scores", zero], "nms/scores_flat"),
        node("Concat", ["nms/candidate", "nms/class"], "nms/score_index", axis=1),
        node("GatherND", ["nms/scores_flat", "nms/score_index"], "nms/score"),
        node("GatherND", ["nms/boxes_flat", "nms/candidate"], "nms/box"),
        node("Unsqueeze", ["nms/score", one], "nms/score_column"),
    ]
    if thresholds.class_agnostic:
        nodes += [
            node("ArgMax", ["nms/all_scores"], "nms/best_class", axis=2, keepdims=1),
            node("Squeeze", ["nms/best_class", zero], "nms/best_class_flat"),
            node("GatherND", ["nms/best_class_flat", "nms/candidate"], "nms/class_id"),
        ]
    else:
        nodes.append(node("Identity", ["nms/class"], "nms/class_id"))
    nodes += [
        node("Cast", ["nms/class_id"], "nms/class_column", to=TensorProto.FLOAT),
        node("Concat", ["nms/box", "nms/score_column", "nms/class_column"], "nms/rows", axis=1),
        node("Shape", ["nms/score"], "nms/count"),
        node("Min", ["nms/count", limit], "nms/kept"),
        helper.make_node("TopK", ["nms/score", "nms/kept"], ["nms/best", "nms/order"], name="nms/topk"),
        node("Gather", ["nms/rows", "nms/order"], DETECTIONS, axis=0),
    ]
    return nodes
