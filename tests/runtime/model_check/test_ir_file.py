"""An IR's .xml as a stream: spec, operators, constants, outputs; and each type's size in the .bin."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.model_check import ir_file
from edgedet_runtime.model_check.ir_file import IrConstant, ir_summary
from edgedet_runtime.model_check.ir_reader import check_ir

BITS = {
    1: ("u1",),
    2: ("u2",),
    4: ("u4", "i4", "nf4", "f4e2m1"),
    8: ("u8", "i8", "boolean", "f8e4m3", "f8e5m2", "f8e8m0"),
    16: ("u16", "i16", "f16", "bf16"),
    32: ("u32", "i32", "f32"),
    64: ("u64", "i64", "f64"),
}


def layer(number: int, kind: str, inner: str = "") -> str:
    return f'<layer id="{number}" name="n{number}" type="{kind}">{inner}</layer>'


def port(number: int, names: str, *dims: object) -> str:
    return f'<port id="{number}" names="{names}">{"".join(f"<dim>{d}</dim>" for d in dims)}</port>'


def net(path: Path, layers: str, after: str = "") -> Path:
    path.mkdir(exist_ok=True)
    (path / "m.xml").write_text(f"<net><layers>{layers}</layers>{after}</net>")
    return path / "m.xml"


@pytest.mark.parametrize(("kind", "bits"), [(kind, bits) for bits, kinds in BITS.items() for kind in kinds])
def test_sizes_of_types(kind: str, bits: int, tmp_path: Path) -> None:
    """OpenVINO packs what is smaller than a byte."""
    (tmp_path / "m.bin").write_bytes(bytes(700))
    need = -(-65 * bits // 8)
    for given, fits in ((need, True), (need + 1, False), (need - 1, False)):
        data = f'<data element_type="{kind}" shape="5, 13" offset="80" size="{given}"/>'
        path = net(tmp_path, layer(0, "Const", data))
        if fits:
            assert check_ir(path).files == ("m.bin",)
        else:
            with pytest.raises(ModelFileError, match=f"constant n0: expected {need} bytes as its shape and type say"):
                check_ir(path)


@pytest.mark.parametrize(
    ("offset", "size", "words"),
    [
        ("0", "16", ""),
        ("84", "16", ""),
        ("85", "16", r"constant n0: expected 16 bytes from byte 85 of m\.bin, which has 100"),
        ("", "16", "expected numbers for shape, offset and size, got ''"),
        ("٣", "16", "expected numbers for shape, offset and size"),
        ("9" * 19, "16", "expected 16 bytes from byte 9"),
        ("9" * 20, "16", "expected numbers for shape, offset and size"),
    ],
)
def test_parts_of_the_weights(offset: str, size: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(bytes(100))
    data = f'<data element_type="f32" shape="4" offset="{offset}" size="{size}"/>'
    path = net(tmp_path, layer(0, "Const", data))
    if not words:
        check_ir(path)
    else:
        with pytest.raises(ModelFileError, match=words):
            check_ir(path)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    empty = '<data element_type="f32" shape="0" offset="0" size="0"/>'
    some = '<data element_type="f32" shape="1" offset="0" size="4"/>'
    assert check_ir(net(tmp_path, layer(0, "Const", empty))).files == ()
    for constants in (layer(0, "Const", some), layer(0, "Const", empty) + layer(1, "Const", some)):
        path = net(tmp_path, constants)
        with pytest.raises(ModelFileError, match=r"expected its weights in m\.bin beside it, there is no such file"):
            check_ir(path)
        with pytest.raises(ModelFileError, match=r"of m\.bin, which has 0"):
            check_ir(path, path.read_bytes())
        assert check_ir(path, path.read_bytes(), b"1234").files == ()


def test_what_an_ir_says(tmp_path: Path) -> None:
    layers = (
        layer(0, "Parameter", f"<output>{port(0, 'image', 1, 3, 8, 8)}</output>")
        + layer(1, "Const", '<data element_type="f32" shape="2" offset="0" size="8"/>')
        + layer(
            2, "Split", f"<input>{port(0, 'image', 9)}</input><output>{port(1, 'a,b', 1, -1)}{port(2, 'c')}</output>"
        )
        + layer(3, "FakeQuantize", '<data offset="8" size="4" shape="1"/>')
        + layer(4, "Relu", '<data offset="8"/>')
        + layer(5, "Result")
        + layer(6, "Result")
    )
    edges = "".join(
        f'<edge from-layer="{a}" from-port="{p}" to-layer="{b}" to-port="0"/>'
        for a, p, b in ((0, 0, 2), (2, 1, 5), (2, 2, 6))
    )
    after = f"<edges>{edges}</edges><rt_info><edgedet value='spec'/></rt_info>"
    found = ir_summary(net(tmp_path, layers, after))
    assert found.spec == "spec"
    assert found.layer_types == {"Parameter", "Const", "Split", "FakeQuantize", "Relu", "Result"}
    assert found.is_quantized
    assert found.constants == [IrConstant("n1", "f32", "2", "0", "8"), IrConstant("n3", None, "1", "8", "4")]
    assert found.outputs == {"a": (1, None), "b": (1, None), "c": ()}
    plain = ir_summary(net(tmp_path, layer(0, "Relu")))
    assert (plain.spec, plain.is_quantized, plain.outputs, plain.bodies) == (None, False, {}, set())


@pytest.mark.parametrize(
    ("info", "spec"),
    [
        ("<edgedet value='v'>text</edgedet>", "v"),
        ("<edgedet>te<b/>xt</edgedet>", "text"),
        ("<edgedet/>", None),
        ("<edgedet value=''/>", ""),
        ("<other>text</other>", None),
        ("<a><edgedet value='v'/></a>", None),
    ],
)
def test_where_the_spec_stands(info: str, spec: str | None, tmp_path: Path) -> None:
    assert ir_summary(net(tmp_path, layer(0, "Relu"), f"<rt_info>{info}</rt_info>")).spec == spec


def test_operators_and_outputs_of_inner_graphs(tmp_path: Path) -> None:
    """An inner result is no output of the model, and inner edges lead nowhere outside."""
    relu = layer(0, "Relu", f"<output>{port(0, 'inner', 5)}</output>")
    inner = f"<layers>{relu}{layer(1, 'Result')}</layers>"
    inner += '<edges><edge from-layer="0" from-port="0" to-layer="9"/></edges>'
    layers = layer(8, "If", f"<then_body>{inner}</then_body><else_body>{inner}</else_body>")
    layers += layer(7, "Sign", f"<output>{port(0, 'outer', 4)}</output>") + layer(9, "Result")
    edges = '<edges><edge from-layer="7" from-port="0" to-layer="9"/></edges>'
    found = ir_summary(net(tmp_path, layers, edges))
    assert found.bodies == {("If", "then_body"), ("If", "else_body")}
    assert found.layer_types == {"If", "Relu", "Result", "Sign"}
    assert found.outputs == {"outer": (4,)}
    edges_first = tmp_path / "first.xml"
    edges_first.write_text(f"<net>{edges}<layers>{layers}</layers></net>")
    assert ir_summary(edges_first).outputs == {"outer": (4,)}


def test_an_output_larger_than_any_engine_takes(tmp_path: Path) -> None:
    for dim, fits in ((2**31 - 1, True), (2**31, False), (10**10, False)):
        layers = layer(0, "Sign", f"<output>{port(0, 'o', dim)}</output>") + layer(1, "Result")
        path = net(tmp_path, layers, '<edges><edge from-layer="0" from-port="0" to-layer="1"/></edges>')
        if fits:
            assert check_ir(path).outputs == {"o": (dim,)}
        else:
            with pytest.raises(ModelFileError, match="tensor o: expected a shape of 0 to"):
                check_ir(path)


def test_how_deep_and_how_long_an_ir_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(depth: int) -> Path:
        (tmp_path / "m.xml").write_text("<net>" + "<a>" * (depth - 1) + "</a>" * (depth - 1) + "</net>")
        return tmp_path / "m.xml"

    assert ir_summary(nested(64)).layer_types == set()
    with pytest.raises(ModelFileError, match="64 deep, got more"):
        ir_summary(nested(65))
    monkeypatch.setattr(ir_file, "_MOST_ELEMENTS", 10)
    (tmp_path / "m.xml").write_text("<net>" + "<a/>" * 9 + "</net>")
    ir_summary(tmp_path / "m.xml")
    (tmp_path / "m.xml").write_text("<net>" + "<a/>" * 10 + "</net>")
    with pytest.raises(ModelFileError, match="expected at most 10 elements"):
        ir_summary(tmp_path / "m.xml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.xml: cannot be read \(No such file"):
        ir_summary(tmp_path / "gone.xml")
    for text in ("", "<net>", "<net/><net/>", "net"):
        (tmp_path / "m.xml").write_text(text)
        with pytest.raises(ModelFileError, match=r"m\.xml: expected an OpenVINO IR, it is truncated or something else"):
            ir_summary(tmp_path / "m.xml")


def test_the_same_content_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = net(tmp_path, layer(0, "Relu")).read_bytes(), net(tmp_path, layer(0, "Sigmoid")).read_bytes()
    path = tmp_path / "m.xml"
    read = [ir_summary(path, content).layer_types for content in (first, other, first)]
    assert read == [{"Relu"}, {"Sigmoid"}, {"Relu"}]
    path.write_bytes(first)
    kept = ir_summary(path)
    assert ir_summary(path) is kept is ir_summary(tmp_path / "n.xml", first)
    path.write_bytes(other)
    assert ir_summary(path).layer_types == {"Sigmoid"}
    assert ir_summary(path, first) is not kept
    damaged = first.replace(b"Relu", b"Relu", 1)[:-3]
    for _ in range(2):
        with pytest.raises(ModelFileError, match="truncated"):
            ir_summary(path, damaged)


@pytest.mark.parametrize("short", [-100, -1, 0, 1, 100])
def test_a_large_file_is_read_as_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: int) -> None:
    path = net(tmp_path, "".join(layer(n, kind) for n, kind in enumerate(["Relu", "Sigmoid", "Tanh"])))
    monkeypatch.setattr(ir_file, "_MOST_AT_ONCE", path.stat().st_size - short)
    first = ir_summary(path)
    assert first.layer_types == {"Relu", "Sigmoid", "Tanh"}
    assert (ir_summary(path) is first) == (short < 0), "only short ones are kept"
    assert (ir_summary(path, path.read_bytes()) is first) == (short < 0)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelFileError, match="truncated"):
        ir_summary(path)
