"""Whether an ONNX file may reach an engine: its structure, weights and operators, read without any engine.

Refused are weights whose bytes are not those of their shape and type, weights elsewhere than beside the model, and
operators that run a graph again and again: a ``Loop`` without end hangs every engine. Of the operators with a graph
within only ``If`` is left, which runs one of two graphs once; exporters write it for a detection that finds nothing.
Local functions may not call themselves, nor unfold to more nodes than `MOST_NODES`.

What is not known here is left to the engine, which refuses unknown operators; field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.mistaken import mistaken_file
from edgedet_runtime.model_check.onnx_arity import ARITIES
from edgedet_runtime.model_check.onnx_scope import POSITIVE, Scope, check_positive, refuse_unmade
from edgedet_runtime.model_check.onnx_tensors import Weights, check_tensor, element_count, packed_numbers
from edgedet_runtime.model_check.outline import Fault, Outline
from edgedet_runtime.onnx_file import CountedFields, refuse_special
from edgedet_runtime.printable import shown

__all__ = ["MOST_NODES", "check_onnx"]

MOST_NODES = 200_000
"""Nodes of a model, its functions unfolded; a large detector has some thousands."""
_MOST_DEPTH = 8
_LONGEST_NAME = 1000  # longer ones are told apart by their beginning

_VARINT, _BYTES = 0, 2


def _message(number: int) -> int:
    """Return the key of a field that is a message or text."""
    return number << 3 | _BYTES


_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTION = map(_message, (7, 20, 25))
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = map(_message, (1, 5, 11, 12, 15))
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN, _NODE_OVERLOAD = map(_message, (1, 2, 4, 5, 7, 8))
_ATTR_TENSOR, _ATTR_GRAPH, _ATTR_TENSORS, _ATTR_GRAPHS = map(_message, (5, 6, 10, 11))
_ATTR_SPARSE = frozenset(map(_message, (22, 23)))
_ATTR_NAME = _message(1)
_ATTR_INTS = frozenset({3 << 3 | _VARINT, 8 << 3 | _VARINT, 8 << 3 | _BYTES})
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN, _FUNCTION_ATTRIBUTE, _FUNCTION_OVERLOAD = map(
    _message, (1, 7, 10, 11, 13)
)
_FUNCTION_INPUT, _FUNCTION_OUTPUT = _message(4), _message(5)
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE = (
    *map(_message, (1, 2, 1, 2, 1)),
    1 << 3 | _VARINT,
)

_WITH_GRAPH = frozenset({"If"})
"""Operators that may hold graphs."""
_REPEATING = frozenset({"Loop", "Scan", "SequenceMap"})

_Function = tuple[str, str, str]


def check_onnx(path: Path, content: bytes | None = None) -> Outline:
    """Check an ONNX file and what it reads beside itself.

    Args:
        path: The file.
        content: Its content, where that was read already; it may then read nothing beside itself.

    Raises:
        ModelFileError: It may not reach an engine; the message says why.
    """
    try:
        if content is not None:
            return _Check(content, None).model()
        refuse_special(path)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Check(data, path.absolute().parent).model()
    except FileNotFoundError:
        raise ModelFileError(f"{path}: expected an ONNX file, there is no such file") from None
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read ({e.strerror or e})") from None
    except Fault as e:
        raise ModelFileError(f"{path}: {e}; the file is damaged or not made for this: export it again") from None
    except ValueError as e:  # mmap of an empty file, and the wire format's own
        got = (mistaken_file(path) if content is None else None) or f"a truncated one or something else ({e})"
        raise ModelFileError(f"{path}: expected an ONNX file, got {got}") from None


class _Check:
    """One pass over a file, in bounded time: it counts the fields that it reads."""

    def __init__(self, data: mmap.mmap | bytes, folder: Path | None) -> None:
        self._data = data
        self._folder = folder
        self._fields = CountedFields(data)
        self._files: dict[str, None] = {}

    def model(self) -> Outline:
        """Check the whole file and return what it declares."""
        graphs, functions = [], []
        for key, start, end in self._fields(0, len(self._data)):
            if key == _MODEL_GRAPH:
                graphs.append((start, end))
            elif key == _MODEL_FUNCTION:
                functions.append((start, end))
            elif key == _MODEL_TRAINING:
                raise Fault("expected a model for inference, got one with training steps")
        if len(graphs) != 1:
            raise ValueError(f"{len(graphs)} graphs in it" if graphs else "no graph in it")
        outputs: dict[str, tuple[int | None, ...] | None] = {}
        calls, left = self._graph(*graphs[0], depth=0, outputs=outputs)
        refuse_unmade(left)
        bodies = dict(self._function(*span) for span in functions)
        if len(bodies) != len(functions):
            raise Fault("functions: expected each once, got one twice")
        _check_unfolded(calls, bodies)
        return Outline(outputs, tuple(self._files))

    def _text(self, start: int, end: int) -> str:
        content = self._data[start : min(end, start + _LONGEST_NAME)]
        try:
            return content.decode(errors="strict" if end - start <= _LONGEST_NAME else "replace")
        except UnicodeDecodeError:
            raise Fault(f"ONNX graph: expected names in UTF-8, got {content[:40]!r}") from None

    def _graph(
        self, start: int, end: int, *, depth: int, outputs: dict[str, tuple[int | None, ...] | None] | None = None
    ) -> tuple[list[_Function], dict[str, str]]:
        """Check a graph and give out what it puts out; return what each node calls, and names that it does not make."""
        if depth > _MOST_DEPTH:
            raise Fault(f"expected graphs nested {_MOST_DEPTH} deep at most, got deeper ones")
        calls: list[_Function] = []
        scope = Scope()
        given: list[str] = []
        for key, s, e in self._fields(start, end):
            if key == _GRAPH_NODE:
                calls += self._node(s, e, depth, scope)
            elif key == _GRAPH_INITIALIZER:
                tensor = self._tensor(s, e)
                scope.weights[tensor.name] = tensor.shape
            elif key == _GRAPH_SPARSE:
                raise Fault("weights: expected dense ones, got sparse ones")
            elif key in (_GRAPH_INPUT, _GRAPH_OUTPUT):
                name, shape = self._value(s, e)
                if key == _GRAPH_INPUT:
                    given.append(name)
                    continue
                scope.read.setdefault(name, "the output")
                if outputs is not None:
                    outputs[name] = shape
        scope.made.update(given)
        return calls, scope.left()

    def _node(self, start: int, end: int, depth: int, scope: Scope) -> list[_Function]:
        once: dict[int, str] = {}
        inner: list[_Function] = []
        graphs = 0
        inputs: list[str] = []
        outputs: list[str] = []
        for key, s, e in self._fields(start, end):
            if key == _NODE_INPUT:
                inputs.append(self._text(s, e))
            elif key == _NODE_OUTPUT:
                outputs.append(self._text(s, e))
            elif key in (_NODE_OP, _NODE_DOMAIN, _NODE_OVERLOAD):
                if key in once:
                    raise Fault("nodes: expected one operator each, got two")
                once[key] = self._text(s, e)
            elif key == _NODE_ATTRIBUTE:
                held, found = self._attribute(s, e, depth, scope)
                graphs += held
                inner += found
        op = once.get(_NODE_OP, "")
        if op in _REPEATING or (graphs and op not in _WITH_GRAPH):
            raise Fault(f"operators: expected none that repeats a graph, got {shown(op)}, which may never end")
        function = (once.get(_NODE_DOMAIN, ""), op, once.get(_NODE_OVERLOAD, ""))
        if not any(outputs):
            raise Fault(f"operators: expected each to make something, got {shown(op) or 'one'} without outputs")
        if function[0] in ("", "ai.onnx") and op in ARITIES:
            least, most = ARITIES[op]
            if len(inputs) > most or not all(inputs[:least]) or len(inputs) < least:
                raise Fault(f"operators: expected {least} to {most} inputs of {op}, got {sum(map(bool, inputs))}")
        scope.add_node(op, inputs, outputs)
        return [function, *inner]

    def _attribute(self, start: int, end: int, depth: int, scope: Scope) -> tuple[int, list[_Function]]:
        """Check an attribute; return how many graphs it holds, and what their nodes call."""
        name = ""
        spans: list[tuple[int, int]] = []
        seen: set[int] = set()
        inner: list[_Function] = []
        graphs = 0
        for key, s, e in self._fields(start, end):
            if key in (_ATTR_GRAPH, _ATTR_GRAPHS):
                graphs += 1
                calls, left = self._graph(s, e, depth=depth + 1)
                inner += calls
                scope.read |= {**left, **scope.read}
            elif key in (_ATTR_TENSOR, _ATTR_TENSORS):
                self._tensor(s, e)
            elif key in _ATTR_SPARSE:
                raise Fault("constants: expected dense ones, got sparse ones")
            if key in (_ATTR_GRAPH, _ATTR_TENSOR):
                if key in seen:
                    raise Fault("attributes: expected one value each, got two")
                seen.add(key)
            elif key == _ATTR_NAME:
                name = self._text(s, e)
            elif key in _ATTR_INTS:
                spans.append((s, e))
        if name in POSITIVE:
            check_positive(name, [number for span in spans for number in packed_numbers(self._data, *span)])
        return graphs, inner

    def _function(self, start: int, end: int) -> tuple[_Function, list[_Function]]:
        """Check a local function; return its name and what its nodes call."""
        once = dict.fromkeys((_FUNCTION_DOMAIN, _FUNCTION_NAME, _FUNCTION_OVERLOAD), "")
        calls: list[_Function] = []
        scope = Scope()
        given: list[str] = []
        for key, s, e in self._fields(start, end):
            if key in once:
                once[key] = self._text(s, e)
            elif key == _FUNCTION_NODE:
                calls += self._node(s, e, 0, scope)
            elif key == _FUNCTION_INPUT:
                given.append(self._text(s, e))
            elif key == _FUNCTION_OUTPUT:
                scope.read.setdefault(self._text(s, e), "the output")
            elif key == _FUNCTION_ATTRIBUTE:
                graphs, inner = self._attribute(s, e, 0, scope)
                if graphs:
                    raise Fault("functions: expected plain default values, got a graph")
                calls += inner
        scope.made.update(given)
        refuse_unmade(scope.left())
        return (once[_FUNCTION_DOMAIN], once[_FUNCTION_NAME], once[_FUNCTION_OVERLOAD]), calls

    def _tensor(self, start: int, end: int) -> Weights:
        tensor = check_tensor(self._data, start, end, self._fields, self._folder)
        if tensor.location is not None:
            self._files[tensor.location] = None
        return tensor

    def _value(self, start: int, end: int) -> tuple[str, tuple[int | None, ...] | None]:
        """Return name and shape of an input or output."""
        name, shape = "", None
        for key, s, e in self._fields(start, end):
            if key == _VALUE_NAME:
                name = self._text(s, e)
            elif key == _VALUE_TYPE:
                shape = self._shape(s, e) or shape
        sizes = [size for size in shape or () if size is not None]
        element_count(sizes, f"tensor {shown(name)}")
        return name, shape

    def _shape(self, start: int, end: int) -> tuple[int | None, ...] | None:
        """Return the shape of a tensor's type, None where it has none."""
        for key, s, e in self._fields(start, end):
            if key != _TYPE_TENSOR:
                continue
            for inner, a, b in self._fields(s, e):
                if inner == _TENSOR_SHAPE:
                    return tuple(self._dim(c, d) for k, c, d in self._fields(a, b) if k == _SHAPE_DIM)
        return None

    def _dim(self, start: int, end: int) -> int | None:
        for key, s, e in self._fields(start, end):
            if key == _DIM_VALUE:
                return packed_numbers(self._data, s, e)[0]
        return None


def _check_unfolded(calls: list[_Function], bodies: dict[_Function, list[_Function]]) -> None:
    """Refuse functions that call themselves, and a model that unfolds to too many nodes."""
    sizes: dict[_Function, int] = {}
    open_calls: set[_Function] = set()

    def size(called: list[_Function], depth: int) -> int:
        if depth > 64:
            raise Fault("functions: expected calls 64 deep at most, got deeper ones")
        total = 0
        for function in called:
            if function in bodies and function not in sizes:
                if function in open_calls:
                    raise Fault(f"functions: expected none that calls itself, got {shown(function[1])}")
                open_calls.add(function)
                sizes[function] = size(bodies[function], depth + 1)
                open_calls.discard(function)
            total += sizes.get(function, 1)
            if total > MOST_NODES:
                raise Fault(f"expected at most {MOST_NODES} nodes, functions unfolded, got more")
        return total

    size(calls, 0)
