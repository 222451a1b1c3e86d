"""What stands in an OpenVINO IR's .xml: spec, operators, constants and outputs, read as a stream, without a tree."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.model_check.outline import Fault
from edgedet_runtime.onnx_file import refuse_special

__all__ = ["IrConstant", "IrSummary", "ir_summary"]

_MOST_DEPTH = 64
_MOST_ELEMENTS = 5_000_000
_MOST_AT_ONCE = 1 << 24
_LAST: dict[str, tuple[bytes, IrSummary]] = {}  # of the digest: content is not kept beside an engine
_BODIES = ("body", "then_body", "else_body")

_Port = tuple[tuple[str, ...], tuple[int | None, ...]]


@dataclass(frozen=True, slots=True)
class IrConstant:
    """Part of the .bin file that a layer reads, every field as the file says it.

    Attributes:
        layer: Name of the layer.
        element_type: Such as ``f32``; None where the layer is no constant.
        shape: Such as ``64,3,3,3``; empty for a number alone.
        offset: First byte.
        size: Bytes.
    """

    layer: str
    element_type: str | None
    shape: str
    offset: str
    size: str


@dataclass(slots=True)
class IrSummary:
    """An IR without its weights.

    Attributes:
        spec: Text of ``rt_info/edgedet``, None where there is none.
        layer_types: Operators, those of inner graphs too.
        bodies: Operator → kinds of inner graphs that it holds, such as ``body``.
        constants: Parts of the .bin file.
        outputs: Every name of an output → its shape, None where a dimension is open.
    """

    spec: str | None = None
    layer_types: set[str] = field(default_factory=set)
    bodies: set[tuple[str, str]] = field(default_factory=set)
    constants: list[IrConstant] = field(default_factory=list)
    outputs: dict[str, tuple[int | None, ...] | None] = field(default_factory=dict)

    @property
    def is_quantized(self) -> bool:
        """True if the graph has operators of quantized inference."""
        return "FakeQuantize" in self.layer_types


def _digest(content: bytes) -> bytes:
    import hashlib  # loads OpenSSL, which detecting does not need

    return hashlib.sha256(content).digest()


def ir_summary(path: Path, content: bytes | None = None) -> IrSummary:
    """Read an IR; the same content again right after is not read again, as on the way into an engine.

    Args:
        path: The .xml file.
        content: Its content, where that was read already; the file is then not opened.

    Raises:
        ModelFileError: It is missing, no XML, no IR, or has a DTD or nesting that no IR has.
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        if content is None:
            refuse_special(path)
            with path.open("rb") as file:
                content = file.read(_MOST_AT_ONCE)
                if len(content) == _MOST_AT_ONCE:
                    parser.Parse(content, False)
                    parser.ParseFile(file)
                    return reader.summary()
        digest = _digest(content)
        last = _LAST.get("last")
        if last is not None and last[0] == digest:
            return last[1]
        parser.Parse(content, True)
        summary = reader.summary()
        if len(content) < _MOST_AT_ONCE:
            _LAST["last"] = digest, summary
        return summary
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read ({e.strerror or e})") from None
    except Fault as e:
        raise ModelFileError(f"{path}: {e}") from None
    except (expat.ExpatError, ValueError, LookupError) as e:  # the last two of an encoding that Python does not know
        raise ModelFileError(f"{path}: expected an OpenVINO IR, it is truncated or something else ({e})") from None


def _refuse_doctype(*_: Any) -> None:
    raise Fault("expected an OpenVINO IR, which has no DTD, got one with a DTD")


class _Reader:
    """Takes what expat reports."""

    def __init__(self) -> None:
        self._found = IrSummary()
        self._path: list[str] = []
        self._layers: list[dict[str, str]] = []
        self._text: list[str] | None = None
        self._elements = 0
        self._port: tuple[str, str, list[int | None]] | None = None
        self._ports: dict[tuple[str, str], _Port] = {}
        self._sources: dict[str, tuple[str, str]] = {}
        self._results: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if not self._path and tag != "net":
            raise Fault(f"expected an OpenVINO IR with root <net>, got <{tag[:40]}>")
        if len(self._path) >= _MOST_DEPTH or self._elements > _MOST_ELEMENTS:
            raise Fault(f"expected at most {_MOST_ELEMENTS} elements, {_MOST_DEPTH} deep, got more")
        self._path.append(tag)
        if tag == "layer":
            self._layers.append(attributes)
            self._found.layer_types.add(attributes.get("type", ""))
            if len(self._path) == 3 and attributes.get("type") == "Result":
                self._results.append(attributes.get("id", ""))
        elif tag == "data" and self._layers:
            self._constant(attributes)
        elif tag in _BODIES and self._layers:
            self._found.bodies.add((self._layers[-1].get("type", ""), tag))
        elif tag == "edge" and len(self._path) == 3:
            to = attributes.get("to-layer", "")
            self._sources[to] = (attributes.get("from-layer", ""), attributes.get("from-port", ""))
        elif self._path == ["net", "layers", "layer", "output", "port"]:
            self._port = (attributes.get("id", ""), attributes.get("names", ""), [])
        elif tag == "dim" and self._port is not None:
            self._text = []
        elif self._path == ["net", "rt_info", "edgedet"]:
            self._found.spec, self._text = attributes.get("value"), []

    def text(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def end(self, tag: str) -> None:
        if tag == "layer" and self._layers:
            self._layers.pop()
        elif tag == "port" and self._port is not None and self._layers:
            number, names, dims = self._port
            self._ports[self._layers[-1].get("id", ""), number] = (tuple(n for n in names.split(",") if n), tuple(dims))
            self._port = None
        elif tag == "dim" and self._port is not None and self._text is not None:
            word = "".join(self._text).strip()
            self._port[2].append(int(word) if word.isascii() and word.isdigit() and len(word) < 12 else None)
            self._text = None
        elif self._path == ["net", "rt_info", "edgedet"] and self._text is not None:
            if self._found.spec is None:
                self._found.spec = "".join(self._text) or None
            self._text = None
        self._path.pop()

    def _constant(self, attributes: dict[str, str]) -> None:
        layer = self._layers[-1]
        is_constant = layer.get("type") == "Const"
        if is_constant or ("offset" in attributes and "size" in attributes):
            given = (attributes.get(key, "") for key in ("shape", "offset", "size"))
            kind = attributes.get("element_type", "") if is_constant else None
            self._found.constants.append(IrConstant(layer.get("name", ""), kind, *given))

    def summary(self) -> IrSummary:
        for result in self._results:
            names, dims = self._ports.get(self._sources.get(result, ("", "")), ((), ()))
            self._found.outputs.update(dict.fromkeys(names, dims))
        return self._found
