"""Which file of a model is run by which engine, and the spec that is stored inside it.

A model is a bundle, the folder that ``edgedet export`` writes, or a single ``.onnx`` or ``.xml`` file. In a
bundle ``manifest.json`` lists the files; each has a precision and the engines that it was made for::

    {"files": [{"path": "model.int8.onnx", "precision": "int8", "engines": ["onnxruntime"],
                "sha256": "…", "bytes": 1234}, …],
     "recommended": {"onnxruntime": "int8", "openvino": "int8"}}
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from edgedet_runtime.bundle.keys import KEY_VARIABLE
from edgedet_runtime.bundle.manifest import BundleFile, Manifest, read_manifest
from edgedet_runtime.bundle.slot_state import current_bundle
from edgedet_runtime.choices import PRECISIONS, EngineName, Precision, is_precision, parse_engine, parse_precision
from edgedet_runtime.engines.model_source import ModelContent
from edgedet_runtime.errors import InputError, ModelFileError
from edgedet_runtime.model_check.ir_file import ir_summary
from edgedet_runtime.onnx_file import onnx_summary
from edgedet_runtime.printable import shown
from edgedet_runtime.spec import ModelSpec

if TYPE_CHECKING:
    from edgedet_runtime.bundle.signature import SignedBundle

__all__ = ["ModelFile", "OpenedModel", "Precision", "find_model_file", "model_bytes", "open_model", "read_spec"]

ENGINE_VARIABLE = "EDGEDET_ENGINE"
_MOST_NAMED = 4
_READS: dict[EngineName, tuple[str, ...]] = {
    "onnxruntime": (".onnx",),
    "openvino": (".xml", ".onnx"),
    "opencv": (".onnx",),
}


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One model file, chosen for one engine.

    Attributes:
        path: The .onnx or .xml file.
        spec: The contract stored in it.
        engine: A key of `engines.ENGINES`.
        precision: ``fp32`` or ``int8``.
    """

    path: Path
    spec: ModelSpec
    engine: EngineName
    precision: Precision


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A chosen model file and what the engine shall load.

    Attributes:
        file: The file, with its engine and precision.
        source: Its path; its content where the device has a public key.
        signed: The signed bundle that it lies in; None where the device has no key.
    """

    file: ModelFile
    source: Path | ModelContent
    signed: SignedBundle | None


def model_bytes(path: Path) -> int:
    """Return the size of a model file, the weights of an IR with it."""
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" and weights.is_file() else 0)


def find_model_file(
    model: str | Path, *, engine: EngineName | None = None, precision: Precision | None = None
) -> ModelFile:
    """Choose the file of a model that an engine shall run at a precision.

    Args:
        model: A bundle folder, a folder with slots, or a single .onnx or .xml file.
        engine: A key of `engines.ENGINES`; by default openvino for an .xml file, else what ``EDGEDET_ENGINE`` names
            (images that hold one engine set it), else onnxruntime.
        precision: ``fp32`` or ``int8``; by default what the bundle recommends for the engine, else int8 if it
            has that, else fp32.

    Raises:
        InputError: No such model, or it has no file for these wishes.
        ModelFileError: A file or the manifest cannot be read, or has no spec.
        CheckFailedError: The device has a public key, and the model is not signed with it.
    """
    return open_model(model, engine=engine, precision=precision).file


def open_model(
    model: str | Path, *, engine: EngineName | None = None, precision: Precision | None = None
) -> OpenedModel:
    """Choose a file as `find_model_file` does, and say what the engine shall load.

    Where the device has a public key, that is the file's content: read once, compared with what was signed, and the
    spec is taken from it. Else it is the file's path.

    Args:
        model: As in `find_model_file`.
        engine: As in `find_model_file`.
        precision: As in `find_model_file`.

    Raises:
        InputError: No such model, or it has no file for these wishes.
        ModelFileError: A file or the manifest cannot be read, or has no spec.
        CheckFailedError: The device has a public key, and the model is not signed with it.
    """
    if engine is not None:
        parse_engine(engine)
    if precision is not None:
        parse_precision(precision)
    path = current_bundle(Path(model))
    default = parse_engine(os.environ.get(ENGINE_VARIABLE, "").strip() or "onnxruntime", argument=ENGINE_VARIABLE)
    signed = None
    if KEY_VARIABLE in os.environ and path.exists():
        from edgedet_runtime.bundle.trust import trusted  # loads OpenSSL

        signed = trusted(path)
    if path.is_dir():
        manifest = read_manifest(path) if signed is None else signed.manifest
        engine = engine or default
        listed, chosen = _choose(path, manifest, engine, precision)
        source = _source(path / listed, listed, signed)
        return OpenedModel(ModelFile(path / listed, read_spec(source), engine, chosen), source, signed)
    if not path.exists():
        raise InputError(f"model: expected a bundle folder, an .onnx or an .xml file, {path} does not exist")
    engine = _engine_for(path, engine or (None if path.suffix.lower() == ".xml" else default))
    inside = "" if signed is None else path.resolve().relative_to(signed.folder).as_posix()
    source = _source(path, inside, signed)
    return OpenedModel(_as_model_file(path, source, engine, precision), source, signed)


def _source(path: Path, listed: str, signed: SignedBundle | None) -> Path | ModelContent:
    """Return what an engine shall load for a file: itself, or its content where it has to be what was signed.

    Args:
        path: The file.
        listed: What its manifest calls it.
        signed: Its bundle, where that has to be signed.
    """
    if signed is None:
        return path
    weights = PurePosixPath(listed).with_suffix(".bin").as_posix() if listed.lower().endswith(".xml") else None
    contents = signed.check_files({listed} if weights is None else {listed, weights})
    return ModelContent(path, contents[listed], None if weights is None else contents.get(weights))


def _choose(folder: Path, manifest: Manifest, engine: EngineName, wish: Precision | None) -> tuple[str, Precision]:
    """Return the path within the bundle of the file for an engine, and its precision."""
    fitting = [f for f in manifest.files if _fits(f, engine)]
    order = _preference(manifest, engine) if wish is None else (wish,)
    for precision in order:
        for suffix in _READS[engine]:
            for file in fitting:
                if file.precision == precision and file.path.endswith(suffix):
                    return file.path, precision
    models = [f for f in manifest.files if f.precision in PRECISIONS and f.path.endswith((".onnx", ".xml"))]
    have = ", ".join(
        f"{shown(f.path)} ({f.precision}: {shown(', '.join(f.engines)) or 'any engine'})" for f in models[:_MOST_NAMED]
    )
    more = f" and {len(models) - _MOST_NAMED} more" if len(models) > _MOST_NAMED else ""
    raise InputError(
        f"{folder}: has no file for engine {engine}{f' at {wish}' if wish else ''}; "
        f"it has {have or 'no model file'}{more}: choose among these, or export again"
    )


def _fits(file: BundleFile, engine: EngineName) -> bool:
    """Return whether an engine may run a bundle's file.

    It may if the manifest says so, or if the manifest is silent and the format is right. A quantised file is
    only ever run by the engines it was made for: the same INT8 ONNX that one engine runs fast is slow or
    refused in another.
    """
    if not file.path.endswith(_READS[engine]):
        return False
    if file.engines:
        return engine in file.engines
    return file.precision == "fp32" or file.path.endswith(_READS[engine][0])


def _preference(manifest: Manifest, engine: EngineName) -> tuple[Precision, ...]:
    recommended = manifest.recommended.get(engine)
    return PRECISIONS if not is_precision(recommended) else (recommended, *(p for p in PRECISIONS if p != recommended))


def _engine_for(path: Path, engine: EngineName | None) -> EngineName:
    """Return the engine that shall run a single file, which must be one that it reads."""
    suffix = path.suffix.lower()
    if suffix not in (".onnx", ".xml"):
        raise InputError(
            f"{path}: expected a bundle folder, an .onnx or an .xml file; a checkpoint becomes a bundle "
            f"with: edgedet export {path}"
        )
    engine = engine or ("openvino" if suffix == ".xml" else "onnxruntime")
    if suffix not in _READS[engine]:
        raise InputError(f"{path}: engine {engine} reads {' and '.join(_READS[engine])} files, not {suffix}")
    return engine


def _as_model_file(path: Path, source: Path | ModelContent, engine: EngineName, wish: Precision | None) -> ModelFile:
    spec = read_spec(source)
    precision: Precision = "int8" if _is_quantized(source) else "fp32"
    if wish not in (None, precision):
        raise InputError(f"{path}: is {precision}, asked for was {wish}: give the bundle folder or the other file")
    return ModelFile(path, spec, engine, precision)


def _is_quantized(source: Path | ModelContent) -> bool:
    path, content = _path_and_content(source)
    if path.suffix.lower() == ".xml":
        return ir_summary(path, content).is_quantized
    return onnx_summary(path, content).is_quantized


def read_spec(source: Path | ModelContent) -> ModelSpec:
    """Read the spec stored in a model file, without loading weights.

    Args:
        source: An .onnx file (``metadata_props["edgedet"]``), an OpenVINO .xml (``rt_info/edgedet``), or the content of
            one.

    Raises:
        ModelFileError: The file is unreadable, or has no spec, or one that does not validate.
    """
    path, content = _path_and_content(source)
    if content is None and not path.is_file():
        raise ModelFileError(f"{path}: expected a model file, it does not exist")
    if path.suffix.lower() == ".xml":
        text = ir_summary(path, content).spec
    else:
        text = onnx_summary(path, content).metadata.get("edgedet")
    if text is None:
        raise ModelFileError(
            f"{path}: carries no edgedet spec, so its boxes cannot be understood; export it with: "
            f"edgedet export {path.name}"
        )
    try:
        return ModelSpec.from_json(text)
    except ModelFileError as e:
        raise ModelFileError(f"{path}: {e}") from None


def _path_and_content(source: Path | ModelContent) -> tuple[Path, bytes | None]:
    return (source, None) if isinstance(source, Path) else (source.path, source.model)
