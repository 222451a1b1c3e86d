"""The build context of a device image: edgedet's own sources, the Dockerfile, and a bundle.

The context is laid out as edgedet's repository, so that the one Dockerfile builds from both. An installed edgedet
carries what it needs in ``edgedet/image``; in a checkout it is taken from where it stands.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgedet_runtime.bundle.manifest import MANIFEST, read_manifest, verify_bundle
from edgedet_runtime.choices import ENGINE_NAMES, EngineName, parse_engine
from edgedet_runtime.errors import ArgumentError, CheckFailedError, EdgedetError, InputError, ModelFileError
from edgedet_runtime.short_file import read_short_bytes

__all__ = [
    "ARMV7",
    "PLATFORMS",
    "Image",
    "build_command",
    "choose_engine",
    "docker_answers",
    "run_build",
    "write_context",
]

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7")
ARMV7 = "linux/arm/v7"
_DOCKERFILE = "docker/Dockerfile"
_KEY = "device.pub"


@dataclass(frozen=True, slots=True)
class Image:
    """What to build.

    Attributes:
        bundle: Folder of the bundle that is built in.
        platforms: Of `PLATFORMS`.
        engine: The engine that the image holds.
        tag: Name of the image.
        public_key: Keys that the image shall trust, a file or a folder; None: it takes unsigned bundles.
        build_args: More ``KEY=VALUE`` for the Dockerfile.
        secrets: As Docker's ``--secret``, such as ``id=pipconf,src=pip.conf``.
        network: As Docker's ``--network``, for the build.
    """

    bundle: Path
    platforms: tuple[str, ...]
    engine: EngineName
    tag: str
    public_key: Path | None = None
    build_args: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    network: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        unknown = [p for p in self.platforms if p not in PLATFORMS]
        if unknown or not self.platforms:
            raise ArgumentError(
                "platforms", f"expected some of {', '.join(PLATFORMS)}, got {', '.join(unknown) or 'none'}"
            )
        parse_engine(self.engine)
        if ARMV7 in self.platforms and self.engine != "opencv":
            raise ArgumentError(
                "engine",
                f"expected opencv for {ARMV7} (FP32 only), got {self.engine}, which publishes nothing for 32-bit ARM:"
                " build this platform with opencv, or take linux/arm64",
            )
        if not self.tag or self.tag.startswith("-") or any(c.isspace() for c in self.tag):
            raise ArgumentError("tag", f"expected a name such as app:1, got {self.tag!r}")


def choose_engine(bundle: Path, platforms: tuple[str, ...]) -> EngineName:
    """Return the engine for a bundle: OpenCV if a platform has no other, else the first that the bundle is made for.

    Raises:
        ModelFileError: The manifest cannot be read.
    """
    if ARMV7 in platforms:
        return "opencv"
    made_for = {engine for file in read_manifest(bundle).files for engine in file.engines}
    return next((engine for engine in ENGINE_NAMES if engine in made_for), "onnxruntime")


def write_context(image: Image, out: Path) -> tuple[str, ...]:
    """Write a folder from which ``docker buildx build`` makes the image; it is complete or absent.

    Args:
        image: What to build.
        out: The folder; an older context there is replaced, anything else is not.

    Returns:
        What the user should know about signatures, a sentence each.

    Raises:
        CheckFailedError: The bundle is damaged, or not signed with a key that the image shall trust, or, where none is
            given, that is trusted here (``EDGEDET_PUBLIC_KEY``).
        InputError: The bundle has nothing for the engine, or the folder cannot be written.
        ModelFileError: The manifest cannot be read.
    """
    remarks = _check_bundle(image)
    if out.exists() and not (out / _DOCKERFILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: expected a free place or an older context, got something else; choose another `out`")
    inside = out.resolve()
    if inside == image.bundle.resolve() or inside in image.bundle.resolve().parents:
        raise InputError(f"{out}: expected a place that does not hold the bundle, got one that does; choose another")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            context = Path(folder) / "context"
            _fill(image, context)
            if out.exists():
                shutil.rmtree(out)
            context.rename(out)
    except OSError as e:
        raise InputError(f"{out}: cannot write the build context: {e.strerror or e}") from None
    return remarks


def _check_bundle(image: Image) -> tuple[str, ...]:
    files = read_manifest(image.bundle).files
    problems = verify_bundle(image.bundle)
    if problems:
        raise CheckFailedError(f"{image.bundle}: not what was exported: {'; '.join(problems[:3])}: export it again")
    if not any(image.engine in file.engines for file in files):
        have = sorted({engine for file in files for engine in file.engines})
        raise InputError(f"{image.bundle}: expected files for {image.engine}, it has some for {', '.join(have)}")
    return _check_signature(image)


def _check_signature(image: Image) -> tuple[str, ...]:
    """Refuse a bundle that is not signed as it has to be; return what remains to be said."""
    from edgedet_runtime.bundle.keys import KEY_VARIABLE, device_keys, read_public_keys
    from edgedet_runtime.bundle.signature import SIGNATURE, verify_signature

    given = image.public_key
    keys = device_keys() if given is None else read_public_keys([given])
    if keys is not None:
        try:
            verify_signature(image.bundle, keys).check_files()
        except CheckFailedError as e:
            where = f"{KEY_VARIABLE} is set here" if given is None else "the image shall trust this key only"
            raise CheckFailedError(f"{e}; {where}: sign the bundle first: edgedet bundle sign") from None
    if given is not None:
        return ()
    if keys is not None or (image.bundle / SIGNATURE).is_file():
        return ("the bundle is signed, but the image will not check it: give --public-key",)
    return ()


def _fill(image: Image, context: Path) -> None:
    import edgedet
    import edgedet_runtime

    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", "image")
    shutil.copytree(_package_folder(edgedet.__file__), context / "edgedet", ignore=ignore)
    shutil.copytree(_package_folder(edgedet_runtime.__file__), context / "runtime/edgedet_runtime", ignore=ignore)
    home = _image_files()
    shutil.copy(home / "LICENSE", context / "LICENSE")
    for name in ("assemble", "locks"):
        shutil.copytree(home / "docker" / name, context / "docker" / name, ignore=ignore)
    for name in ("Dockerfile", "Dockerfile.dockerignore"):
        shutil.copy(home / "docker" / name, context / "docker" / name)
    keys = context / "docker/keys"
    keys.mkdir()
    shutil.copy(home / "docker/keys/README.txt", keys)
    if image.public_key is not None:
        from edgedet_runtime.bundle.keys import public_keys_pem, read_public_keys

        (keys / _KEY).write_bytes(public_keys_pem(read_public_keys([image.public_key])))
    beside = (MANIFEST, "manifest.sig", "plan.json")
    for name in [*(file.path for file in read_manifest(image.bundle).files), *beside]:
        if (image.bundle / name).is_file():
            target = context / "bundle" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name in beside:  # no manifest says how long these are
                target.write_bytes(_short(image.bundle / name))
            else:
                shutil.copy(image.bundle / name, target)
            target.chmod(0o644)


def _short(path: Path) -> bytes:
    try:
        return read_short_bytes(path)
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read ({e.strerror or e})") from None


def _package_folder(init: str | None) -> Path:
    assert init is not None, "edgedet's packages have an __init__.py"
    return Path(init).resolve().parent


def _image_files() -> Path:
    """Return the folder that holds ``docker/`` and ``LICENSE``: in the installed package, or the checkout."""
    import edgedet

    package = _package_folder(edgedet.__file__)
    for folder in (package / "image", package.parent):
        if (folder / _DOCKERFILE).is_file():
            return folder
    raise InputError(f"{package}: expected the Dockerfile that edgedet ships, it is not there: install edgedet again")


def build_command(image: Image, context: Path, *, buildx: bool = True) -> list[str]:
    """Return the command that builds the image.

    Args:
        image: What to build.
        context: Folder written by `write_context`.
        buildx: Whether the client has buildx; without it ``docker build`` does the same for one platform, provided
            that ``DOCKER_BUILDKIT=1`` is set.

    Raises:
        InputError: Several platforms without buildx.
    """
    several = len(image.platforms) > 1
    if several and not buildx:
        raise ArgumentError("platforms", "several platforms at once need docker buildx, got a docker without it")
    command = ["docker", "buildx", "build"] if buildx else ["docker", "build"]
    command += ["--file", str(context / _DOCKERFILE), "--platform", ",".join(image.platforms)]
    arguments = [f"ENGINE={image.engine}", "BUNDLE=bundle"]
    if image.public_key is not None:
        arguments += ["SIGN=1", f"PUBLIC_KEY=/etc/edgedet/keys/{_KEY}"]
    for argument in (*arguments, *image.build_args):
        command += ["--build-arg", argument]
    for secret in image.secrets:
        command += ["--secret", secret]
    if image.network is not None:
        command += ["--network", image.network]
    command += ["--tag", image.tag]
    if several:
        archive = image.tag.replace("/", "_").replace(":", "_")
        command += ["--output", f"type=oci,dest={archive}.tar"]
    elif buildx:
        command += ["--load"]
    return [*command, str(context)]


def docker_answers() -> bool:
    """Return whether a docker client is there and its engine answers."""
    return _succeeds("docker", "version")


def run_build(image: Image, context: Path) -> None:
    """Build the image with the docker that is there; its output goes to standard error.

    Raises:
        EdgedetError: The build failed.
    """
    buildx = _succeeds("docker", "buildx", "version")
    command = build_command(image, context, buildx=buildx)
    done = subprocess.run(command, env={**os.environ, "DOCKER_BUILDKIT": "1"}, stdout=2, check=False)
    if done.returncode:
        raise EdgedetError(f"{shlex.join(command[:3])}: expected the image {image.tag}, got code {done.returncode}")


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
