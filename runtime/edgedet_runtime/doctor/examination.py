"""The examination: integrity, contract, machine, engines, then the golden vectors through the whole path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgedet_runtime import cpu
from edgedet_runtime.bundle.golden import Golden, read_golden
from edgedet_runtime.bundle.manifest import BundleFile, read_manifest, verify_bundle
from edgedet_runtime.bundle.model_files import open_model, read_spec
from edgedet_runtime.bundle.plan import read_plan
from edgedet_runtime.bundle.slot_state import current_bundle
from edgedet_runtime.bundle.trust import require_trusted
from edgedet_runtime.choices import EngineName, parse_engine
from edgedet_runtime.detector import Detector
from edgedet_runtime.doctor.findings import Finding, Report
from edgedet_runtime.doctor.golden_check import check_golden
from edgedet_runtime.doctor.resize_check import check_resize
from edgedet_runtime.engines import ENGINES
from edgedet_runtime.engines.first_load import require_survived
from edgedet_runtime.errors import (
    EdgedetError,
    EngineDeathError,
    InputError,
    ModelFileError,
)
from edgedet_runtime.model_check import check_model
from edgedet_runtime.profiling.layers import LAYER_ENGINES, int8_share, profile_layers
from edgedet_runtime.profiling.machine import describe_machine, package_version
from edgedet_runtime.spec import ModelSpec

__all__ = ["examine"]

_PACKAGES: dict[EngineName, str] = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "opencv": "opencv-python-headless",
}
_FALLBACK: EngineName = "opencv"
_INT8_EXPECTED = 0.5


def examine(bundle: Path, *, engine: EngineName | None = None, threads: int | None = None) -> Report:
    """Examine a bundle on this machine.

    Args:
        bundle: The folder that ``edgedet export`` wrote, or slots, whose current bundle is examined.
        engine: Only this engine; None examines all that are installed.
        threads: Threads of the engines; None takes what is available.

    Raises:
        InputError: There is no such folder, or no such engine.
        ModelFileError: The manifest cannot be read, or a file may not reach an engine.
        EngineDeathError: In a child process, an engine died of a file, hung, or took more memory than it may.
    """
    bundle = current_bundle(bundle)
    if not bundle.is_dir():
        raise InputError(f"{bundle}: expected the folder of a bundle, got {'a file' if bundle.exists() else 'nothing'}")
    if engine is not None:
        parse_engine(engine)
    models = [file for file in read_manifest(bundle).files if file.precision]
    if not models:
        raise ModelFileError(f"{bundle}: expected model files in its manifest, got none")
    findings = [*_integrity(bundle), *_signature(bundle)]
    findings += _machine(threads)
    if any(f.status == "failure" for f in findings):
        return Report(str(bundle), tuple(findings))
    specs = {file.path: read_spec(bundle / file.path) for file in models}
    findings.append(_contract(specs))
    spec = specs[models[0].path]
    golden = read_golden(bundle, spec.classes)
    findings.append(check_resize(golden.image_bgr, spec))
    wanted = [engine] if engine is not None else _installed(models)
    findings += _engines(models, wanted)
    findings += _plan(bundle)
    signed = any(f.check == "signature" and f.status == "ok" for f in findings)
    for file in models:
        for name in (e for e in wanted if e in file.engines):
            death = None if signed else _trial(bundle / file.path, name, specs[file.path])
            if death is not None:
                if engine is not None or name != _FALLBACK:
                    raise death
                findings.append(Finding(f"golden {file.path} on {name}", "warning", str(death)))
                continue
            findings += _run(bundle, file, name, golden, threads, fallback=engine is None and name == _FALLBACK)
    return Report(str(bundle), tuple(findings))


def _integrity(bundle: Path) -> Iterator[Finding]:
    problems = verify_bundle(bundle)
    yield from (Finding("files", "failure", f"{problem}: copy the bundle again") for problem in problems)
    if not problems:
        count = len(read_manifest(bundle).files)
        yield Finding("files", "ok", f"{count} files, every size and SHA-256 as exported")


def _signature(bundle: Path) -> Iterator[Finding]:
    """Return whether the bundle is signed with the device's key, where the device has one."""
    try:
        signed = require_trusted(bundle)
        if signed is not None:
            version = signed.statement.version
            which = f"version {version}" if version else "no version"
            yield Finding("signature", "ok", f"{which}, signed with {signed.key}, nothing added")
    except EdgedetError as e:
        yield Finding("signature", "failure", str(e))


def _contract(specs: dict[str, ModelSpec]) -> Finding:
    """Say what the files are; all of one bundle must agree on everything but where their graphs were cut."""
    first = next(iter(specs.values()))
    odd = [path for path, spec in specs.items() if (spec.classes, spec.variant) != (first.classes, first.variant)]
    if odd:
        return Finding("spec", "failure", f"{', '.join(odd)}: another network than the bundle's other files")
    height, width = first.input.size_hw
    tool = f", written by edgedet {first.tool_version}" if first.tool_version else ""
    what = f"{first.family} {first.variant}, {len(first.classes)} classes, {width}x{height} px"
    return Finding("spec", "ok", f"version {first.spec_version}: {what}{tool}")


def _machine(threads: int | None) -> list[Finding]:
    machine = describe_machine()
    features = ", ".join(machine.features) or "no vector extensions that edgedet knows"
    available = cpu.available_threads()
    found = [Finding("cpu", "ok", f"{machine.cpu} ({machine.architecture}): {features}")]
    detail = f"{available} of {machine.cpus_online} CPUs available"
    if threads is not None and threads > available:
        found.append(Finding("threads", "warning", f"{threads} asked for, {detail}: they will wait for each other"))
    else:
        found.append(Finding("threads", "ok", detail))
    return found


def _installed(models: list[BundleFile]) -> list[EngineName]:
    named = {engine for file in models for engine in file.engines}
    return [name for name in _PACKAGES if name in named and _version(name) is not None]


def _version(engine: EngineName) -> str | None:
    """Return an engine's version; OpenCV comes under several package names, and from Debian under none."""
    if engine != _FALLBACK:
        return package_version(_PACKAGES[engine])
    import cv2

    return str(cv2.__version__)


def _engines(models: list[BundleFile], wanted: list[EngineName]) -> list[Finding]:
    found = []
    for name in wanted:
        version = _version(name)
        if version is None:
            found.append(Finding("engine", "failure", f"{name} is not installed: pip install {_PACKAGES[name]}"))
        elif not any(name in file.engines for file in models):
            found.append(Finding("engine", "failure", f"the bundle has no file for {name}: export it again"))
        else:
            found.append(Finding("engine", "ok", f"{name} {version}"))
    if not wanted:
        engines = sorted({engine for file in models for engine in file.engines})
        found.append(Finding("engine", "failure", f"expected one of {', '.join(engines)} installed, got none"))
    return found


def _plan(bundle: Path) -> Iterator[Finding]:
    """Return whether the plan that is stored in the bundle, if one is, holds on this machine."""
    again = "measure here: edgedet profile --save-plan"
    try:
        stored = read_plan(bundle)
    except EdgedetError as e:
        yield Finding("plan", "warning", f"{e}: {again}")
        return
    if stored is None:
        return
    why_not, engine = stored.elsewhere(), stored.plan.engine
    if why_not is not None:
        yield Finding("plan", "warning", f"{why_not}: the defaults hold; {again}")
    elif _version(engine) is None:
        yield Finding("plan", "warning", f"{stored.plan}: {engine} is not installed: install it, or {again}")
    else:
        where = "" if stored.measured_on is None else f", measured on {stored.measured_on.cpu}"
        yield Finding("plan", "ok", f"{stored.plan}{where}")


def _trial(path: Path, engine: EngineName, spec: ModelSpec) -> EngineDeathError | None:
    """Load a file that no key of this device vouches for in a child process; return what killed the engine, if so.

    It is tried also where an earlier trial is remembered. What the engine refuses in words is a finding of
    the golden vectors.
    """
    try:
        require_survived(engine, ENGINES[engine].version(), path, spec, check_model(path), again=True)
    except EngineDeathError as e:
        return e
    return None


def _run(
    bundle: Path, file: BundleFile, engine: EngineName, golden: Golden, threads: int | None, *, fallback: bool
) -> Iterator[Finding]:
    if file.path not in golden.expected:
        yield Finding(f"golden {file.path}", "failure", "the bundle holds no golden vectors for it: export it again")
        return
    seen = check_golden(bundle, file.path, engine, golden, threads=threads)
    if seen.status == "failure" and fallback:
        yield Finding(seen.check, "warning", f"{seen.detail}; another engine is installed")
        return
    yield seen
    if seen.status != "failure" and engine in LAYER_ENGINES:
        yield _executed(bundle, file, engine, golden, threads)


def _executed(bundle: Path, file: BundleFile, engine: EngineName, golden: Golden, threads: int | None) -> Finding:
    """Tell what precision the engine really computes in."""
    check = f"precision of {file.path} on {engine}"
    try:
        with Detector(bundle / file.path, engine=engine, threads=threads, trial="never") as detector:
            tensor = detector.preprocess(golden.image_bgr)[0].copy()
        source = open_model(bundle / file.path, engine=engine).source
        layers = profile_layers(engine, source, tensor, threads=threads or 1, runs=2)
    except EdgedetError as e:
        return Finding(check, "warning", f"cannot be told: {e}")
    share = int8_share(layers)
    others = sorted({layer.precision for layer in layers if layer.macs and layer.precision != "int8"})
    detail = f"{share:.0%} of multiply-accumulates in INT8" + (f", the rest in {', '.join(others)}" if others else "")
    if file.precision == "int8" and share < _INT8_EXPECTED:
        why = "this engine or CPU has no integer kernels for the file, or much of the network is not convolutions"
        return Finding(check, "warning", f"{detail}: {why}")
    if file.precision == "fp32" and others != ["fp32"]:
        return Finding(check, "warning", f"{detail}: expected fp32")
    return Finding(check, "ok", detail)
