"""The bill of materials of an image: CycloneDX 1.5, JSON, read off what really lies in the image's root."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from platforms import SITE, Platform

__all__ = ["make_sbom"]

_NAMESPACE = uuid.UUID("6f1f6d3a-7c0e-5b8c-9f57-2f0d6c1f9f42")


def make_sbom(platform: Platform, engine: str, roots: list[Path], bundle: Path | None, locks: list[Path]) -> str:
    """Describe an image.

    Args:
        platform: Of the image.
        engine: What it is made for.
        roots: Folders that together make up its root.
        bundle: The bundle that is built in, if any.
        locks: The lock files it was built from, for the wheels' hashes.

    Returns:
        A CycloneDX document. Equal contents give an equal document: it has no time, and its serial number is derived
        from the components.
    """
    hashes = _wheel_hashes(locks)
    components: list[dict[str, Any]] = []
    for root in roots:
        components += _debian(root, platform)
        components += _python(root, hashes)
    components += _model(bundle)
    components.sort(key=lambda c: str(c["bom-ref"]))
    text = json.dumps(components, sort_keys=True)
    version = next((c["version"] for c in components if c["name"] == "edgedet"), "0")
    name = "edgedet-build-host" if engine == "export" else f"edgedet-device-{engine}"
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, text)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": f"{name}-{platform.key}",
                "name": name,
                "version": version,
                "properties": [{"name": "edgedet:platform", "value": platform.name}],
            }
        },
        "components": components,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _debian(root: Path, platform: Platform) -> list[dict[str, Any]]:
    found = []
    for path in sorted((root / "var/lib/dpkg/status.d").glob("*")):
        fields = HeaderParser().parsestr(path.read_text(encoding="utf-8"))
        name, version = fields["Package"], fields["Version"]
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={fields['Architecture']}&distro=debian-12"
        found.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "purl": purl,
                "hashes": [{"alg": "SHA-256", "content": fields["X-Archive-SHA256"]}],
            }
        )
    return found


def _python(root: Path, hashes: dict[str, str]) -> list[dict[str, Any]]:
    found = []
    for path in sorted((root / SITE).glob("*.dist-info/METADATA")):
        fields = HeaderParser().parsestr(path.read_text(encoding="utf-8", errors="replace"))
        name, version = _normal(fields["Name"]), fields["Version"]
        purl = f"pkg:pypi/{name}@{quote(version)}"
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
        }
        licence = fields["License-Expression"] or fields["License"] or ""
        if licence and "\n" not in licence and len(licence) < 80:
            component["licenses"] = [{"license": {"name": licence}}]
        if name in hashes:
            component["hashes"] = [{"alg": "SHA-256", "content": hashes[name]}]
        found.append(component)
    return found


def _model(bundle: Path | None) -> list[dict[str, Any]]:
    """Describe the bundle's model files; their licence is the checkpoint's."""
    manifest = None if bundle is None else bundle / "manifest.json"
    if manifest is None or not manifest.is_file():
        return []
    data = json.loads(manifest.read_text(encoding="utf-8"))
    source = data.get("source") or {}
    licence = str(source.get("license") or source.get("licence") or "")  # the latter in manifests of version 1
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"bundle:{digest[:16]}",
        "name": str(data.get("name") or "bundle"),
        "version": digest[:16],
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }
    if licence:
        component["licenses"] = [{"license": {"name": licence}}]
    return [component]


def _wheel_hashes(locks: list[Path]) -> dict[str, str]:
    found = {}
    for lock in locks:
        text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
        for name, digest in re.findall(r"^([A-Za-z0-9._-]+)==\S+\s+--hash=sha256:([0-9a-f]{64})", text, re.MULTILINE):
            found[_normal(name)] = digest
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
