"""The two other output contracts: decoding, and decoding with NMS, inside the graph.

For consumers that do not use edgedet's runtime. The decoder is traced from the same torch code that training and
parity use (`edgedet_models.decode`) and appended to the raw heads, so a quantised network keeps float decoding.

- ``decoded``: one output ``decoded`` (1, M, 4 + classes): xyxy in input pixels, scores in 0..1.
- ``nms``: one output ``detections`` (K, 6): xyxy in input pixels, score, class; at most ``max_det`` rows, best first
  within a class as ONNX's NonMaxSuppression orders them. The spec's thresholds are compiled in. A head that needs no
  suppression gets a top-k instead: K is fixed, rows are best first, and those below the threshold score 0. Where a
  family cuts boxes at the picture before suppression, the graph cuts them at the input: it does not know where the
  picture ends. `DecodeSpec.top_k` has no part in the graph; it counts only where a picture has more candidates.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.edits import NewTensors, free_names, remove_dead, set_outputs
from edgedet_export.graph.values import constant, dims
from edgedet_export.onnx_passes import OnnxPass, PassRecord, RequirementError
from edgedet_export.to_onnx import trace
from edgedet_models.decode import decode, peaks
from edgedet_runtime.spec import BoxKind, DecodeSpec, LevelSpec, ModelSpec

__all__ = ["AppendDecoding", "append_decoding", "with_outputs"]

Contract = Literal["decoded", "nms"]
DECODED, DETECTIONS = "decoded", "detections"


class _Decoder(nn.Module):
    """Raw heads to (1, M, 4 + classes)."""

    def __init__(self, spec: ModelSpec, *, clip: bool) -> None:
        super().__init__()
        self._spec = spec
        self._clip = clip

    def forward(self, *raw: Tensor) -> Tensor:
        boxes, scores = decode(self._spec, raw)
        scores = scores * peaks(self._spec, raw) if self._spec.decode.peaks else scores
        if self._clip:
            height, width = self._spec.input.size_hw
            boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor((width, height) * 2))
            if self._spec.decode.clip == "before-nms-drop-empty":
                has_area = (boxes[..., 2:] > boxes[..., :2]).all(dim=-1, keepdim=True)
                scores = scores * has_area
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
        scores = scores * peaks(self._spec, raw)[0] if self._spec.decode.peaks else scores
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


def append_decoding(model: onnx.ModelProto, spec: ModelSpec, contract: Contract) -> tuple[onnx.ModelProto, ModelSpec]:
    """Append decoding, or decoding and NMS, to a model with raw heads.

    Args:
        model: FP32 or QDQ, with the outputs of `spec`; not changed.
        spec: Its contract, of a raw kind.
        contract: ``decoded`` or ``nms``.

    Returns:
        The extended model and its contract.

    Raises:
        ModelFileError: An output is missing or its shape is unknown.
    """
    result = to_proto(AppendDecoding(spec, contract)(from_proto(model)).model)
    onnx.checker.check_model(result)
    name = DETECTIONS if contract == "nms" else DECODED
    level = LevelSpec(stride=spec.decode.levels[0].stride, boxes=name, scores=name)
    kind: BoxKind = "nms" if contract == "nms" else "decoded"
    old = spec.decode
    decode_spec = DecodeSpec(kind, (level,), score="cls", suppression=old.suppression, clip=old.clip)
    return result, spec.replace(decode=decode_spec)


class AppendDecoding(OnnxPass):
    """Append decoding, or decoding and NMS, to raw heads; its output takes their place."""

    name = "append-decoding"

    def __init__(self, spec: ModelSpec, contract: Contract) -> None:
        """Take the model's contract, and the contract that it shall have."""
        self._spec = spec
        self._contract = contract

    def requires(self, model: ir.Model) -> None:
        """Refuse raw outputs that are missing or whose shape is not static."""
        if self._spec.decode.keypoints or self._spec.decode.suppression == "blend":
            raise RequirementError(
                "outputs: expected raw for a network with keypoints or weighted suppression, which no row of numbers"
                f" and no ONNX operator holds, got {self._contract}"
            )
        _raw_outputs(model.graph, self._spec)

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Append in place."""
        graph, spec = model.graph, self._spec
        raw = _raw_outputs(graph, spec)
        zeros = tuple(torch.zeros(*shape) for shape in raw.values())
        top_k = self._contract == "nms" and spec.decode.suppression == "none"
        last = DETECTIONS if top_k else DECODED
        names = list(spec.decode.output_names)
        clip = self._contract == "nms" and spec.decode.clip != "after-nms"
        decoder = from_proto(trace(_TopK(spec) if top_k else _Decoder(spec, clip=clip), zeros, names, [last]))
        new = NewTensors(graph)
        set_outputs(graph, [])
        free_names(graph, [DECODED, DETECTIONS], new)
        result = _transplant(graph, new, decoder.graph, dict(zip(names, raw, strict=True)))
        shape = dims(decoder.graph.outputs[0])
        if self._contract == "nms" and not top_k:
            result, shape = _nms(graph, new, result, spec), (None, 6)
        result.type = ir.TensorType(ir.DataType.FLOAT)
        result.shape = None if shape is None else ir.Shape(shape)
        set_outputs(graph, [result])
        remove_dead(graph)
        record.change(result, f"{len(raw)} raw outputs → {result.name}")


def _raw_outputs(graph: ir.Graph, spec: ModelSpec) -> dict[ir.Value, tuple[int, ...]]:
    """Return the raw outputs that a contract names, with their shapes."""
    outputs = {value.name: value for value in graph.outputs}
    found: dict[ir.Value, tuple[int, ...]] = {}
    for name in spec.decode.output_names:
        shape = dims(outputs.get(name))
        if shape is None or None in shape:
            raise RequirementError(f"output {name}: expected a static shape to append decoding, got {shape}")
        found[outputs[name]] = tuple(d for d in shape if d is not None)
    return found


def _transplant(graph: ir.Graph, new: NewTensors, part: ir.Graph, given: dict[str, ir.Value]) -> ir.Value:
    """Copy a graph's nodes behind another's, under names below ``decode/``; return what its one output becomes.

    Args:
        graph: Where the nodes go.
        new: Of `graph`.
        part: Without subgraphs.
        given: Name of an input of `part` → the tensor of `graph` that it stands for.
    """
    twins = {value: given[value.name or ""] for value in part.inputs}
    for value in part.initializers.values():
        array = constant(value)
        assert array is not None, "torch stores no text"
        twins[value] = new.constant(f"decode/{value.name}", array)
    for node in part:
        made = [new.value(_decoder_name(value)) if value.name else ir.Value(name="") for value in node.outputs]
        for value, twin in zip(node.outputs, made, strict=True):
            twin.type, twin.shape = value.type, value.shape
            twins[value] = twin
        inputs = [None if value is None else twins[value] for value in node.inputs]
        attributes = list(node.attributes.values())
        name = f"decode/{node.name}"
        graph.append(ir.Node(node.domain, node.op_type, inputs, attributes, outputs=made, name=name))
    return twins[part.outputs[0]]


def _decoder_name(value: ir.Value) -> str:
    return value.name or "" if value.is_graph_output() else f"decode/{value.name}"


def _nms(graph: ir.Graph, new: NewTensors, decoded: ir.Value, spec: ModelSpec) -> ir.Value:
    """Append nodes from ``decoded`` to ``detections``: NonMaxSuppression per class, then the best rows by score."""

    def numbers(hint: str, *values: float, dtype: type = np.int64) -> ir.Value:
        return new.constant(f"nms/{hint}", np.array(values, dtype))

    def node(op: str, inputs: list[ir.Value], *outputs: str, **attributes: Any) -> ir.Value:
        made = [new.value(DETECTIONS if hint == DETECTIONS else f"nms/{hint}") for hint in outputs]
        graph.append(ir.node(op, inputs, attributes, outputs=made, name=f"nms/{outputs[-1]}"))
        return made[-1]

    thresholds = spec.thresholds
    zero, one, two, three, four = (numbers(n, v) for v, n in enumerate(("zero", "one", "two", "three", "four")))
    end = numbers("end", 1 << 31)
    limit = numbers("max_det", thresholds.max_det)
    iou = numbers("iou", thresholds.iou, dtype=np.float32)
    conf = numbers("conf", thresholds.conf, dtype=np.float32)
    boxes = node("Slice", [decoded, zero, four, two], "boxes")
    all_scores = node("Slice", [decoded, four, end, two], "all_scores")
    best_score = node("ReduceMax", [all_scores], "best_score", axes=[2], keepdims=1)
    if thresholds.class_agnostic:
        scores = node("Identity", [best_score], "scores")
    elif thresholds.multi_label:
        scores = node("Identity", [all_scores], "scores")
    else:  # only the best class of a candidate may become a box
        is_best = node("GreaterOrEqual", [all_scores, best_score], "is_best")
        scores = node("Mul", [all_scores, node("Cast", [is_best], "best_mask", to=ir.DataType.FLOAT)], "scores")
    by_class = node("Transpose", [scores], "scores_by_class", perm=[0, 2, 1])
    selected = node("NonMaxSuppression", [boxes, by_class, limit, iou, conf], "selected")
    class_id = node("Slice", [selected, one, two, one], "class")
    candidate = node("Slice", [selected, two, three, one], "candidate")
    boxes_flat = node("Squeeze", [boxes, zero], "boxes_flat")
    scores_flat = node("Squeeze", [scores, zero], "scores_flat")
    score_index = node("Concat", [candidate, class_id], "score_index", axis=1)
    score = node("GatherND", [scores_flat, score_index], "score")
    box = node("GatherND", [boxes_flat, candidate], "box")
    score_column = node("Unsqueeze", [score, one], "score_column")
    if thresholds.class_agnostic:
        best_class = node("ArgMax", [all_scores], "best_class", axis=2, keepdims=1)
        class_id = node("GatherND", [node("Squeeze", [best_class, zero], "best_class_flat"), candidate], "class_id")
    class_column = node("Cast", [class_id], "class_column", to=ir.DataType.FLOAT)
    rows = node("Concat", [box, score_column, class_column], "rows", axis=1)
    kept = node("Min", [node("Shape", [score], "count"), limit], "kept")
    return node("Gather", [rows, node("TopK", [score, kept], "best", "order")], DETECTIONS, axis=0)


def with_outputs(
    model: onnx.ModelProto, spec: ModelSpec, outputs: Literal["raw", "decoded", "nms"]
) -> tuple[onnx.ModelProto, ModelSpec]:
    """Return a model with raw heads and its spec in one of the three contracts; raw ones as they are."""
    return (model, spec) if outputs == "raw" else append_decoding(model, spec, outputs)
