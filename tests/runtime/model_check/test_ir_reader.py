"""What the reader of OpenVINO's IR refuses, and what it lets through."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgedet_runtime.bundle.model_files import read_spec
from edgedet_runtime.engines import load_engine
from edgedet_runtime.engines.model_source import ModelContent
from edgedet_runtime.engines.openvino_package import openvino_package
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.model_check import check_model
from tests.runtime.tiny_models import TINY_SPEC, tiny_onnx


@pytest.fixture
def xml(tmp_path: Path) -> Path:
    """Return the tiny detector as an IR with its spec inside."""
    ov = openvino_package("a test")
    model = ov.Core().read_model(str(tiny_onnx(tmp_path / "model.onnx")))
    model.set_rt_info(TINY_SPEC.to_json(), "edgedet")
    ov.save_model(model, str(tmp_path / "model.xml"), compress_to_fp16=False)
    return tmp_path / "model.xml"


def replace(xml: Path, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, xml.read_text(encoding="utf-8"), count=1)
    assert count == 1, pattern
    xml.write_text(text, encoding="utf-8")


def test_an_ir_as_openvino_writes_it(xml: Path) -> None:
    outline = check_model(xml)
    assert outline.outputs == {"boxes": (1, 4, 8, 12), "objectness": (1, 1, 8, 12), "scores": (1, 3, 8, 12)}
    assert outline.files == ("model.bin",)
    assert read_spec(xml) == TINY_SPEC
    load_engine("openvino", xml, TINY_SPEC, threads=1).close()


BODY = '<layer id="900" name="l" type="{0}" version="opset5"><{1}><layers></layers></{1}></layer></layers>'

REFUSED = {
    "loop": ("</layers>", BODY.format("Loop", "body"), "none that repeats a graph, got Loop"),
    "iterator": ("</layers>", BODY.format("TensorIterator", "body"), "none that repeats a graph, got TensorIterator"),
    "another": ("</layers>", BODY.format("New", "body"), "none that repeats a graph, got New"),
    "within if": (
        "</layers>",
        BODY.format("If", "then_body").replace("<layers></layers>", f"<layers>{BODY.format('Loop', 'body')}"),
        "none that repeats a graph, got Loop",
    ),
    "offset": (r' offset="\d+"', ' offset="4000000000"', r"from byte 4000000000 of model\.bin, which has"),
    "huge offset": (r' offset="\d+"', ' offset="18446744073709551615"', "expected numbers for shape, offset and size"),
    "negative": (r' offset="\d+"', ' offset="-4"', "expected numbers for shape, offset and size, got '-4'"),
    "size": (r' size="\d+"', ' size="0"', "as its shape and type say, got 0"),
    "shape": (r'element_type="f32" shape="\d+', 'element_type="f32" shape="7777', "as its shape and type say"),
    "product": (
        r'element_type="f32" shape="[\d, ]+"',
        'element_type="f32" shape="4294967296, 4294967296"',
        "expected a shape of 0 to 2147483647 elements",
    ),
    "type": ('element_type="f32"', 'element_type="f31"', "expected a type of OpenVINO, got 'f31'"),
    "no layer's part": ("<data ", '<data offset="0" size="99999999" ', r"expected 99999999 bytes from byte 0"),
    "dtd": (r"<net ", '<!DOCTYPE net [<!ENTITY a "b">]><net ', "which has no DTD, got one with a DTD"),
    "depth": ("<layers>", "<a>" * 99, "64 deep, got more"),
    "cut off": (r"</net>", "", "truncated or something else"),
    "another root": (r"<net ", "<nett ", "expected an OpenVINO IR with root <net>, got <nett>"),
    "encoding": (r'<\?xml version="1.0"\?>', '<?xml version="1.0" encoding="rot13"?>', "truncated or something else"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, xml: Path) -> None:
    pattern, new, message = REFUSED[case]
    replace(xml, pattern, new)
    with pytest.raises(ModelFileError, match=message) as caught:
        load_engine("openvino", xml, TINY_SPEC, threads=1)
    assert str(xml) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_if_is_let_through(xml: Path) -> None:
    replace(xml, "</layers>", BODY.format("If", "then_body"))
    check_model(xml)


def test_laughs(xml: Path) -> None:
    entities = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(20))
    replace(xml, "<net ", f'<!DOCTYPE net [<!ENTITY a0 "ha">{entities}]><net x="&a20;" ')
    with pytest.raises(ModelFileError, match="which has no DTD"):
        read_spec(xml)


def test_weights_that_are_missing_or_cut(xml: Path) -> None:
    weights = xml.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match=r"of model\.bin, which has"):
        check_model(xml)
    weights.unlink()
    with pytest.raises(ModelFileError, match=r"expected its weights in model\.bin beside it, there is no such file"):
        check_model(xml)


def test_weights_behind_a_symlink_out_of_the_folder(xml: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    weights = xml.with_suffix(".bin")
    elsewhere = weights.rename(tmp_path_factory.mktemp("elsewhere") / "model.bin")
    weights.symlink_to(elsewhere)
    with pytest.raises(ModelFileError, match=r"model\.bin is a symlink out of it"):
        check_model(xml)


PACKED = [("u1", 9, 2), ("u2", 5, 2), ("u3", 9, 6), ("i4", 3, 2), ("u6", 5, 6), ("bf16", 3, 6), ("boolean", 3, 3)]


@pytest.mark.parametrize(("kind", "count", "size"), PACKED)
def test_types_smaller_than_a_byte(kind: str, count: int, size: int, tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.with_suffix(".bin").write_bytes(bytes(64))
    for given, fits in ((size, True), (size + 1, False), (size - 1, False)):
        data = f'<data element_type="{kind}" shape="{count}" offset="0" size="{given}"/>'
        path.write_text(f'<net><layers><layer id="0" name="c" type="Const">{data}</layer></layers></net>')
        if fits:
            check_model(path)
        else:
            with pytest.raises(ModelFileError, match=f"constant c: expected {size} bytes"):
                check_model(path)


def test_content_that_was_read_already(xml: Path) -> None:
    weights = xml.with_suffix(".bin")
    content = ModelContent(xml, xml.read_bytes(), weights.read_bytes())
    short = ModelContent(xml, content.model, weights.read_bytes()[:-1])
    weights.unlink()
    xml.unlink()
    assert check_model(content).files == ()
    load_engine("openvino", content, TINY_SPEC, threads=1).close()
    with pytest.raises(ModelFileError, match=r"of model\.bin, which has"):
        load_engine("openvino", short, TINY_SPEC, threads=1)
