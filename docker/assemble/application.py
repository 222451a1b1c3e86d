"""edgedet itself, installed without a build: packages, metadata, launcher; and the bundle, checked."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path

from platforms import SITE, RefusedError

__all__ = ["check_bundle", "install_application", "source_version"]

RUNTIME_PACKAGES = ("edgedet", "runtime/edgedet_runtime")
EXPORT_PACKAGES = (*RUNTIME_PACKAGES, "models/edgedet_models", "export/edgedet_export")
_LAUNCHER = "#!/usr/bin/python3\nfrom edgedet.cli import main\n\nmain()\n"


def source_version(sources: Path) -> str:
    """Return edgedet's version from its sources.

    Raises:
        RefusedError: It is not where it should be.
    """
    path = sources / "runtime/edgedet_runtime/version.py"
    found = re.search(r'^__version__ = "([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise RefusedError(f"{path}: expected a line with __version__, got none")
    return found[1]


def install_application(sources: Path, out: Path, *, with_export: bool) -> None:
    """Copy edgedet's packages into an image, with the metadata that pip would have written.

    Args:
        sources: Folder laid out as edgedet's repository.
        out: Folder to fill, the image's root.
        with_export: Also the packages that need torch.
    """
    site = out / SITE
    for package in EXPORT_PACKAGES if with_export else RUNTIME_PACKAGES:
        target = site / Path(package).name
        shutil.copytree(sources / package, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    _write_metadata(sources, site, source_version(sources))
    launcher = out / "usr/bin/edgedet"
    launcher.parent.mkdir(parents=True, exist_ok=True)
    launcher.write_text(_LAUNCHER, encoding="utf-8")
    launcher.chmod(0o755)


def _write_metadata(sources: Path, site: Path, version: str) -> None:
    folder = site / f"edgedet-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: edgedet\nVersion: {version}\nLicense-Expression: Apache-2.0\n", encoding="utf-8"
    )
    (folder / "INSTALLER").write_text("docker/assemble\n", encoding="utf-8")
    (folder / "entry_points.txt").write_text("[console_scripts]\nedgedet = edgedet.cli:main\n", encoding="utf-8")
    if (sources / "LICENSE").is_file():
        shutil.copy(sources / "LICENSE", folder / "LICENSE")
    rows = []
    for path in sorted(site.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append(f"{path.relative_to(site).as_posix()},sha256={digest},{len(data)}")
    rows.append(f"{folder.name}/RECORD,,")
    (folder / "RECORD").write_text("\n".join(rows) + "\n", encoding="utf-8")


def check_bundle(bundle: Path) -> str:
    """Compare a bundle with its manifest before it goes into an image.

    Returns:
        A line that says what was seen.

    Raises:
        RefusedError: There are files, but no manifest; or a file is not what the manifest says.
    """
    manifest = bundle / "manifest.json"
    if not manifest.is_file():
        others = sorted(p.name for p in bundle.iterdir() if p.name != "README.txt")
        if others:
            raise RefusedError(f"BUNDLE: expected a folder that edgedet export wrote, got {', '.join(others[:5])}")
        return "no bundle: mount one at /bundle"
    entries = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    for entry in entries:
        path = bundle / entry["path"]
        if not path.is_file():
            raise RefusedError(f"BUNDLE: {entry['path']}: expected this file, there is none: export the bundle again")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != entry["sha256"]:
            raise RefusedError(
                f"BUNDLE: {entry['path']}: expected sha256 {entry['sha256'][:12]}…, got {digest[:12]}…: export it again"
            )
    return f"bundle of {len(entries)} files, every SHA-256 as exported"
