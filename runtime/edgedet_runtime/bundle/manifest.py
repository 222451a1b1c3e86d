"""The manifest of a bundle: what it holds, where it came from, what was measured on the way; and whether its files are
those that were written.

``manifest.json`` is a `Manifest` as JSON; ``manifest.schema.json`` beside this file is its JSON Schema. The export
builds it, everyone else reads it through `read_manifest`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from edgedet_runtime.bundle.facts import ComplexityFacts, FuseFacts, SimplifyFacts, SourceFacts
from edgedet_runtime.bundle.quantization import QuantizationFacts
from edgedet_runtime.bundle.rungs import Noise, Rung
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.from_json import from_json, parse_json
from edgedet_runtime.short import short
from edgedet_runtime.short_file import read_short_bytes
from edgedet_runtime.spec import ModelSpec

__all__ = [
    "MANIFEST",
    "MANIFEST_VERSION",
    "BundleFile",
    "Manifest",
    "describe_file",
    "file_sha256",
    "parse_manifest",
    "read_manifest",
    "verify_bundle",
]

MANIFEST = "manifest.json"
MANIFEST_VERSION = 2

_LONGEST_NAME = 255  # of a file, in bytes: the file systems of Linux, macOS and Windows
_KEPT_OF_VERSION_1 = ("edgedet", "name", "trained", "spec", "files", "recommended", "complexity", "tools", "notes")


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle.

    Attributes:
        path: Relative to the bundle, with ``/``.
        sha256: Hexadecimal digest of its content.
        bytes: Its size.
        precision: Of a model; None for anything else.
        engines: Engines that the file was made for; empty if the manifest does not say.
        int8_share: Share of the MACs that an INT8 file has in INT8, 0..1.
        cpu: The kind of CPU that an INT8 file is for.
    """

    path: str
    sha256: str
    bytes: int
    precision: Literal["fp32", "int8"] | None = None
    engines: tuple[str, ...] = ()
    int8_share: float | None = None
    cpu: str | None = None

    def __post_init__(self) -> None:
        """Refuse a path that leads out of the bundle, or that no file can have."""
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or "\\" in self.path or "\0" in self.path or not path.parts:
            raise ValueError(f"files: expected a path within the bundle, got {self.path[:80]!r}")
        if not self.path.isprintable() or any(len(part.encode()) > _LONGEST_NAME for part in path.parts):
            raise ValueError(
                f"files: expected printable names of at most {_LONGEST_NAME} bytes, got {short(self.path)}"
            )
        if self.bytes < 0:
            raise ValueError(f"files: {self.path}: expected a size, got {self.bytes} bytes")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``manifest.json`` says.

    Attributes:
        files: All files of the bundle except the manifest.
        recommended: Engine → the precision that the export found to be the better choice.
        manifest_version: Version of this format.
        edgedet: Version of edgedet that wrote it.
        name: Name of the network.
        trained: False where the weights are random; None where that is not known.
        spec: The contract of the model files.
        source: What was exported.
        complexity: What one picture costs; None where the network does not tell.
        fuse: What fusing did; None where the network came as ONNX.
        simplify: What simplifying did.
        parity: The ladder, one row per rung; the last ones are the files.
        float32_noise: Rounding noise of the network in float32.
        quantization: Engine → its INT8; empty where none was asked for.
        tools: Package → version.
        notes: What the user should know.
    """

    files: tuple[BundleFile, ...]
    recommended: dict[str, Literal["fp32", "int8"]] = field(default_factory=dict)
    manifest_version: int = MANIFEST_VERSION
    edgedet: str = ""
    name: str = ""
    trained: bool | None = None
    spec: ModelSpec | None = None
    source: SourceFacts = field(default_factory=SourceFacts)
    complexity: ComplexityFacts | None = None
    fuse: FuseFacts | None = None
    simplify: SimplifyFacts | None = None
    parity: tuple[Rung, ...] = ()
    float32_noise: Noise = field(default_factory=Noise)
    quantization: dict[str, QuantizationFacts] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a file that is listed twice."""
        paths = [file.path for file in self.files]
        twice = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
        if twice is not None:
            raise ValueError(f"files: expected each path once, got {twice!r} twice")

    @property
    def models(self) -> tuple[BundleFile, ...]:
        """The model files."""
        return tuple(file for file in self.files if file.precision)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        data = asdict(self)
        data["spec"] = None if self.spec is None else json.loads(self.spec.to_json())
        data["parity"] = [{**asdict(rung), "passed": rung.passed} for rung in self.parity]
        plain: dict[str, Any] = json.loads(json.dumps(data, allow_nan=False))  # as the file says it, no tuples
        return plain

    def to_json(self) -> str:
        """Return the text of ``manifest.json``; NaN and infinity are refused, since JSON has none."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_dict(cls, data: Any) -> Manifest:
        """Read JSON data of this version, or of version 1, of which the files and the plain facts are kept.

        Raises:
            ValueError: It is something else; the message says where.
            ModelFileError: The spec in it cannot be read.
        """
        if not isinstance(data, dict) or not isinstance(data.get("files"), list):
            raise ValueError("expected an object with a list `files`")
        version = data.get("manifest_version", 1)
        if type(version) is not int or not 1 <= version <= MANIFEST_VERSION:
            raise ValueError(
                f"manifest_version: expected 1 to {MANIFEST_VERSION}, got {str(version)[:20]}: a newer edgedet wrote"
                " it; update edgedet here, or export again with this one"
            )
        return from_json(cls, _from_version_1(data) if version == 1 else data, at="manifest")


def _from_version_1(data: dict[str, Any]) -> dict[str, Any]:
    kept = {key: data[key] for key in _KEPT_OF_VERSION_1 if data.get(key) not in (None, {})}
    kept["files"] = [
        {k: v for k, v in file.items() if v not in (None, "")} if isinstance(file, dict) else file
        for file in data["files"]
    ]
    source = data.get("source")
    if isinstance(source, dict):
        kept["source"] = {**source, "license": source.get("licence")}
    return {**kept, "manifest_version": 1}


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest.

    Raises:
        ModelFileError: There is none, or it is not what ``edgedet export`` writes.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelFileError(
            f"{folder}: expected a bundle with {MANIFEST}, there is none: give a folder that edgedet export "
            "wrote, or a single .onnx or .xml file"
        )
    try:
        return parse_manifest(read_short_bytes(path), path)
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read ({e.strerror or e})") from None


def parse_manifest(content: bytes, path: Path) -> Manifest:
    """Read the content of a manifest.

    Args:
        content: Of the file.
        path: What messages call it.

    Raises:
        ModelFileError: It is not what ``edgedet export`` writes.
    """
    try:
        return Manifest.from_dict(parse_json(content.decode()))
    except ModelFileError as e:
        raise ModelFileError(f"{path}: {e}") from None
    except RecursionError:
        raise ModelFileError(f"{path}: cannot be read as JSON (it is nested too deeply)") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        raise ModelFileError(f"{path}: cannot be read as JSON ({e})") from None
    except ValueError as e:
        raise ModelFileError(f"{path}: not a manifest of edgedet: {e}") from None


def describe_file(folder: Path, path: str, **facts: Any) -> BundleFile:
    """Return the manifest's entry of a file that lies in the bundle.

    Args:
        folder: The bundle.
        path: Within it, with forward slashes.
        facts: Further fields of `BundleFile`.
    """
    return BundleFile(path, file_sha256(folder / path), (folder / path).stat().st_size, **facts)


def verify_bundle(folder: str | Path) -> list[str]:
    """Compare a bundle's files with its manifest.

    Returns:
        One line per problem: a file that is missing, of another size, or of another content. Empty if all is
        well.

    Raises:
        ModelFileError: The manifest cannot be read.
    """
    root = Path(folder)
    problems = []
    for file in read_manifest(root).files:
        path = root / file.path
        if not path.is_file():
            problems.append(f"{file.path}: is missing")
        elif path.stat().st_size != file.bytes:
            problems.append(f"{file.path}: expected {file.bytes} bytes, got {path.stat().st_size}")
        elif (digest := file_sha256(path)) != file.sha256:
            problems.append(f"{file.path}: expected sha256 {file.sha256[:12]}…, got {digest[:12]}…")
    return problems


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hex, read in pieces."""
    import hashlib  # loads OpenSSL, which detecting does not need

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
