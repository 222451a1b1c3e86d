"""Whether an OpenVINO IR may reach an engine: its .xml read as a stream, each constant compared with the .bin.

Refused are a DTD, which can unfold without bound, constants that lie beyond the .bin or are not of their shape's size,
a .bin elsewhere than beside the .xml, and operators that run a graph again and again (``Loop``, ``TensorIterator``).
Of the operators with a graph within only ``If`` is left, as in `onnx_reader`.
"""

from __future__ import annotations

from pathlib import Path

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.model_check.external_data import external_file
from edgedet_runtime.model_check.ir_file import IrConstant, ir_summary
from edgedet_runtime.model_check.onnx_tensors import element_count
from edgedet_runtime.model_check.outline import Fault, Outline
from edgedet_runtime.printable import shown

__all__ = ["check_ir"]

_REPEATING = frozenset({"Loop", "TensorIterator"})
_WITH_GRAPH = frozenset({("If", "then_body"), ("If", "else_body")})
_BITS = {
    **dict.fromkeys(("u1",), 1),
    **dict.fromkeys(("u2",), 2),
    **dict.fromkeys(("u3",), 3),
    **dict.fromkeys(("u4", "i4", "nf4", "f4e2m1"), 4),
    **dict.fromkeys(("u6",), 6),
    **dict.fromkeys(("u8", "i8", "boolean", "f8e4m3", "f8e5m2", "f8e8m0"), 8),
    **dict.fromkeys(("u16", "i16", "f16", "bf16"), 16),
    **dict.fromkeys(("u32", "i32", "f32"), 32),
    **dict.fromkeys(("u64", "i64", "f64"), 64),
}


def check_ir(path: Path, content: bytes | None = None, weights: bytes | None = None) -> Outline:
    """Check an IR and its .bin file.

    Args:
        path: The .xml file.
        content: Its content, where that was read already; nothing is then opened.
        weights: Content of the .bin file that goes with it.

    Raises:
        ModelFileError: It may not reach an engine; the message says why.
    """
    found = ir_summary(path, content)
    name = path.with_suffix(".bin").name
    try:
        repeating = sorted(found.layer_types & _REPEATING)
        bodies = sorted(found.bodies - _WITH_GRAPH)
        if repeating or bodies:
            got = shown(repeating[0] if repeating else bodies[0][0])
            raise Fault(f"operators: expected none that repeats a graph, got {got}, which may never end")
        size = len(weights or b"") if content is not None else _size(path.absolute().parent, name)
        if size is None and any(constant.size != "0" for constant in found.constants):
            raise Fault(f"expected its weights in {name} beside it, there is no such file")
        for constant in found.constants:
            _check_constant(constant, size or 0, name)
        for output, shape in found.outputs.items():
            element_count([d for d in shape or () if d is not None], f"tensor {shown(output)}")
    except Fault as e:
        raise ModelFileError(f"{path}: {e}; the file is damaged or not made for this: export it again") from None
    except OSError as e:
        raise ModelFileError(f"{path}: its weights cannot be read ({e.strerror or e})") from None
    return Outline(dict(found.outputs), () if size is None or content is not None else (name,))


def _size(folder: Path, name: str) -> int | None:
    """Return the size of the .bin file, None where there is none."""
    there = (folder / name).exists() or (folder / name).is_symlink()
    return external_file(folder, name).stat().st_size if there else None


def _check_constant(constant: IrConstant, size: int, weights: str) -> None:
    what = f"constant {shown(constant.layer)}"
    start, length = _number(constant.offset, what), _number(constant.size, what)
    if start + length > size:
        raise Fault(f"{what}: expected {length} bytes from byte {start} of {weights}, which has {size}")
    if constant.element_type in (None, "string"):
        return
    bits = _BITS.get(constant.element_type or "")
    if bits is None:
        raise Fault(f"{what}: expected a type of OpenVINO, got {shown(constant.element_type or '')!r}")
    dims = [_number(word.strip(), what) for word in constant.shape.split(",") if word.strip()]
    need = _bytes(element_count(dims, what), bits)
    if length != need:
        raise Fault(f"{what}: expected {need} bytes as its shape and type say, got {length}")


def _bytes(count: int, bits: int) -> int:
    """Return the size of packed numbers; those of 3 and 6 bits come in groups of 8 and 4, which take 3 bytes."""
    if bits in (3, 6):
        return -(-count * bits // 24) * 3
    return -(-count * bits // 8)


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Fault(f"{what}: expected numbers for shape, offset and size, got {shown(text)!r}")
    return int(text)
