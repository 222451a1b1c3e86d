"""The image's system: Debian packages of the target, resolved and unpacked natively, no foreign code run.

apt on the build machine resolves the packages for the target's architecture against an empty list of installed
packages, downloads them (their hashes are checked against Debian's signed index) and they are unpacked into a
folder. Maintainer scripts, which would need emulation, do not run; what they would have done and what matters here
(users, links to Python, BLAS) is done below.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import tempfile
from pathlib import Path

from platforms import Platform, RefusedError, debian_packages

__all__ = ["download", "install_system"]

LOG = logging.getLogger(__name__)

USER_ID = 65532
_ONLY_FOR_INSTALLING = {"dpkg", "tar", "debconf", "mawk", "perl-base", "readline-common", "ucf", "sensible-utils"}
_NOT_REACHED_FROM_CV2 = {
    "fonts-dejavu-core", "iso-codes", "libgl1-mesa-dri", "libllvm15", "libz3-4", "libdrm-amdgpu1", "libdrm-nouveau2",
    "libdrm-radeon1", "mesa-vulkan-drivers", "proj-data", "shared-mime-info", "python3-pkg-resources", "xkb-data",
}  # fmt: skip
"""Packages that python3-opencv's dependencies ask for and that neither it nor they link: drivers and data."""

_PRUNE = (
    "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bug", "usr/share/python3",
    "usr/share/bash-completion", "usr/share/readline", "usr/share/base-files", "usr/share/gcc", "usr/share/pixmaps",
    "usr/lib/python3.11/ensurepip", "usr/lib/python3.11/idlelib", "usr/lib/python3.11/lib2to3",
    "usr/lib/python3.11/pydoc_data", "usr/lib/python3.11/test", "usr/lib/python3.11/turtledemo",
    "var/cache", "var/backups", "usr/share/applications", "usr/include",
)  # fmt: skip


def install_system(platform: Platform, engine: str, out: Path, *, sign: bool, lock: Path | None, strict: bool) -> None:
    """Unpack the target's Debian packages into a folder.

    Args:
        platform: The target.
        engine: What the image is made for.
        out: Folder to fill, the image's root.
        sign: Whether the image checks signatures.
        lock: Names, versions and hashes that were seen when the locks were made; None where there are none.
        strict: Refuse packages that differ from the lock, rather than reporting them: Debian's mirrors only keep the
            newest versions, so a strict build stops working after a security update until the lock is renewed.

    Raises:
        RefusedError: `strict`, and packages differ.
        subprocess.CalledProcessError: apt or dpkg-deb failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        archives = download(platform, debian_packages(platform, engine, sign=sign), Path(folder))
        _check_lock(archives, lock, strict=strict)
        _make_tree(out)
        for archive in archives:
            _unpack(archive, out)
    _prune(platform, out)
    _finish(platform, out)


def download(platform: Platform, packages: list[str], folder: Path) -> list[Path]:
    """Download packages and all that they depend on, and return the archives to unpack."""
    state, cache = folder / "state", folder / "cache"
    (state / "lists/partial").mkdir(parents=True)
    (cache / "archives/partial").mkdir(parents=True)
    (folder / "status").touch()
    apt = ["apt-get", "-qq", "-y"]
    for option in (
        f"APT::Architecture={platform.debian}",
        f"APT::Architectures::={platform.debian}",
        f"Dir::State={state}",
        f"Dir::State::status={folder / 'status'}",
        f"Dir::Cache={cache}",
        "APT::Install-Recommends=false",
        "APT::Sandbox::User=root",
        "Acquire::Languages=none",
        "Acquire::Retries=3",
        "Debug::NoLocking=true",
    ):
        apt += ["-o", option]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "install", "--download-only", *packages], check=True)
    found = sorted((cache / "archives").glob("*.deb"))
    drop = _ONLY_FOR_INSTALLING | _NOT_REACHED_FROM_CV2
    return [path for path in found if path.name.split("_")[0] not in drop]


def _check_lock(archives: list[Path], lock: Path | None, *, strict: bool) -> None:
    if lock is None or not lock.is_file():
        LOG.warning("no lock of Debian packages: what apt verified is taken and written into the SBOM")
        return
    known = set(lock.read_text(encoding="utf-8").split())
    differ = [a.name for a in archives if hashlib.sha256(a.read_bytes()).hexdigest() not in known]
    if differ and strict:
        raise RefusedError(
            f"Debian packages differ from {lock.name}: {', '.join(differ)}: renew it with docker/lock.py"
        )
    if differ:
        LOG.warning("newer than %s, verified by Debian's signature only: %s", lock.name, ", ".join(differ))


def _make_tree(out: Path) -> None:
    """Make what a merged /usr needs before anything is unpacked."""
    for name in ("bin", "sbin", "lib"):
        (out / "usr" / name).mkdir(parents=True, exist_ok=True)
        (out / name).symlink_to(f"usr/{name}")


def _unpack(archive: Path, out: Path) -> None:
    """Unpack one package, and leave its control fields where scanners of images look for them."""
    tar = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", str(out), "-f", "-"], stdin=tar.stdout, check=True)
    if tar.wait():
        raise subprocess.CalledProcessError(tar.returncode, tar.args)
    fields = subprocess.run(["dpkg-deb", "-f", str(archive)], check=True, capture_output=True, text=True).stdout
    status = out / "var/lib/dpkg/status.d"
    status.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    entry = f"{fields.rstrip()}\nStatus: install ok installed\nX-Archive-SHA256: {digest}\n"
    (status / archive.name.split("_")[0]).write_text(entry, encoding="utf-8")


def _prune(platform: Platform, out: Path) -> None:
    """Remove documentation (never copyright files), translations, tests, and glibc's tables of foreign encodings."""
    for name in (*_PRUNE, f"usr/lib/{platform.triplet}/gconv"):
        shutil.rmtree(out / name, ignore_errors=True)
    for path in sorted((out / "usr/share/doc").rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.name != "copyright":
            path.unlink()


def _finish(platform: Platform, out: Path) -> None:
    """Do what matters of the maintainer scripts."""
    for link in ("python3", "python"):
        target = out / "usr/bin" / link
        if not target.is_symlink():
            target.symlink_to("python3.11")
    libraries = out / "usr/lib" / platform.triplet
    for name in ("blas", "lapack"):  # update-alternatives would have linked these
        real = libraries / name / f"lib{name}.so.3"
        if real.exists() and not (libraries / real.name).exists():
            (libraries / real.name).symlink_to(f"{name}/{real.name}")
    etc = out / "etc"
    (etc / "passwd").write_text(
        f"root:x:0:0:root:/root:/usr/sbin/nologin\nedgedet:x:{USER_ID}:{USER_ID}:edgedet:/:/usr/sbin/nologin\n",
        encoding="utf-8",
    )
    (etc / "group").write_text(f"root:x:0:\nvideo:x:44:edgedet\nedgedet:x:{USER_ID}:\n", encoding="utf-8")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n", encoding="utf-8")
    for name, mode in (("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700), ("proc", 0o755), ("sys", 0o755)):
        (out / name).mkdir(parents=True, exist_ok=True)
        (out / name).chmod(mode)
