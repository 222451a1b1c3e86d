"""Model files and bundles: ONNX, IR, and a signed bundle with plan and golden vectors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edgedet_runtime.bundle.manifest import MANIFEST, Manifest
from edgedet_runtime.bundle.plan import Plan, save_plan
from edgedet_runtime.bundle.signature import sign_bundle
from edgedet_runtime.cpu import Processor
from tests.cli import colors
from tests.fuzz.case import Files
from tests.fuzz.mutate.signatures import signing_key
from tests.runtime.bundle.test_manifest import WHOLE
from tests.runtime.tiny_models import TINY_SPEC, tiny_onnx

__all__ = ["bundles", "irs", "manifests", "onnx_files", "specs"]

MACHINES = ("x86_64", "aarch64")


def onnx_files(folder: Path) -> list[Files]:
    """Return detectors as ONNX: float, quantized, other layouts, and one with its weights in a second file."""
    import onnx

    tiny_onnx(folder / "a.onnx")
    tiny_onnx(folder / "b.onnx", quantised=True)
    tiny_onnx(folder / "c.onnx", TINY_SPEC.replace(input=replace(TINY_SPEC.input, layout="NCHW", dtype="float32")))
    colors.write_color_model(folder / "d.onnx")
    model = onnx.load(str(folder / "a.onnx"))
    onnx.save(model, str(folder / "e.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=64)
    seeds: list[Files] = [{"model.onnx": (folder / f"{name}.onnx").read_bytes()} for name in "abcd"]
    seeds.append({"model.onnx": (folder / "e.onnx").read_bytes(), "weights.bin": (folder / "weights.bin").read_bytes()})
    return seeds


def irs(folder: Path) -> list[Files]:
    """Return detectors as OpenVINO's IR."""
    from edgedet_runtime.engines.openvino_package import openvino_package

    seeds: list[Files] = []
    ov = openvino_package("making seeds")
    for number, files in enumerate(onnx_files(folder)[:4]):
        path = folder / f"{number}.xml"
        model = ov.Core().read_model(files["model.onnx"])
        model.set_rt_info(TINY_SPEC.to_json(), "edgedet")
        ov.save_model(model, str(path), compress_to_fp16=number % 2 == 1)
        seeds.append({"model.xml": path.read_bytes(), "model.bin": path.with_suffix(".bin").read_bytes()})
    return seeds


def bundles(folder: Path) -> list[Files]:
    """Return a bundle with plan, golden vectors and signature, and the key beside it."""
    from cryptography.hazmat.primitives import serialization

    key = signing_key()
    secret, public = folder / "key", folder / "key.pub"
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    bundle = colors.write_bundle(folder / "bundle")
    sign_bundle(bundle, secret, version=3, expires="2999-01-01", architectures=MACHINES, model="colors")
    save_plan(Plan("onnxruntime", "fp32", 1), bundle, measured_on=Processor("a", "x86_64", ("avx2",)))
    names = [path for path in sorted(bundle.rglob("*")) if path.is_file()]
    files = {f"bundle/{p.relative_to(bundle)}": p.read_bytes() for p in names}
    return [files | {"key.pub": public.read_bytes(), "state/versions.json": b'{"versions": {"colors": 2, "": 1}}'}]


def manifests(folder: Path) -> list[Files]:
    """Return bundles whose manifest says as little and as much as it can."""
    bundle = colors.write_bundle(folder / "bundle")
    files = {f"bundle/{path.name}": path.read_bytes() for path in sorted(bundle.iterdir())}
    plain = Manifest.from_dict(json.loads(files[f"bundle/{MANIFEST}"]))
    full = replace(WHOLE, files=plain.files, recommended=plain.recommended, spec=colors.spec())
    return [files, files | {f"bundle/{MANIFEST}": full.to_json().encode()}]


def specs(folder: Path) -> list[Files]:
    """Return contracts of models."""
    made = (TINY_SPEC, colors.spec(), TINY_SPEC.replace(input=replace(TINY_SPEC.input, layout="NCHW")))
    return [{"spec.json": spec.to_json().encode()} for spec in made]
