"""What each platform and engine takes: Debian's names, wheel tags, packages."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ENGINES",
    "FROM_DEBIAN",
    "PLATFORMS",
    "PYTHON",
    "SITE",
    "Platform",
    "RefusedError",
    "debian_packages",
    "find_platform",
    "lock_names",
]

PYTHON = (3, 11)
"""Debian bookworm's Python; the build image must have the same, since it compiles the byte code."""

SITE = "usr/local/lib/python3.11/dist-packages"
"""Where Debian's Python looks for packages that are not Debian's."""

ENGINES = ("onnxruntime", "openvino", "opencv", "export")
"""What an image is made for; ``export`` is the build host with torch and all exporters."""


class RefusedError(Exception):
    """Something that cannot be built; the message says what can."""


@dataclass(frozen=True)
class Platform:
    """One platform of Docker in the words of Debian and of Python's wheels.

    Attributes:
        name: As Docker writes it.
        key: Short, as in the names of the lock files.
        debian: Debian's name of the architecture.
        triplet: Folder of its libraries.
        machine: As in wheel tags and ``uname -m``.
        glibc: Wheel tags up to this minor version of glibc 2 run on bookworm.
    """

    name: str
    key: str
    debian: str
    triplet: str
    machine: str
    glibc: int = 36

    @property
    def wheel_tags(self) -> tuple[str, ...]:
        """Platform tags that pip shall accept, newest first."""
        return (*(f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, 16, -1)), self._manylinux2014)

    @property
    def _manylinux2014(self) -> str:
        return f"manylinux2014_{self.machine}"


PLATFORMS = {
    "amd64": Platform("linux/amd64", "amd64", "amd64", "x86_64-linux-gnu", "x86_64"),
    "arm64": Platform("linux/arm64", "arm64", "arm64", "aarch64-linux-gnu", "aarch64"),
    "armv7": Platform("linux/arm/v7", "armv7", "armhf", "arm-linux-gnueabihf", "armv7l"),
}

FROM_DEBIAN = {("armv7", "opencv")}
"""Where numpy and OpenCV are Debian's, because nobody publishes wheels."""


def find_platform(arch: str, variant: str = "") -> Platform:
    """Return the platform of Docker's TARGETARCH and TARGETVARIANT.

    Raises:
        RefusedError: Nothing is known about it.
    """
    key = f"{arch}{variant}" if arch == "arm" else arch
    if key not in PLATFORMS:
        known = ", ".join(p.name for p in PLATFORMS.values())
        raise RefusedError(f"platform linux/{arch}{f'/{variant}' if variant else ''}: expected one of {known}")
    return PLATFORMS[key]


def lock_names(platform: Platform, engine: str, *, sign: bool) -> list[str]:
    """Return the lock files that an image takes, and refuse what does not exist.

    Raises:
        RefusedError: No such engine, or none for this platform.
    """
    if engine not in ENGINES:
        raise RefusedError(f"ENGINE: expected one of {', '.join(ENGINES)}, got {engine!r}")
    if platform.key == "armv7" and engine != "opencv":
        raise RefusedError(
            f"{platform.name}: {'torch' if engine == 'export' else engine} publishes nothing for 32-bit ARM, expected"
            f" ENGINE=opencv, got ENGINE={engine}: build with ENGINE=opencv (Debian's OpenCV, FP32 only) or for"
            " linux/arm64"
        )
    from_wheel = sign and platform.key != "armv7"
    return [f"{engine}-{platform.key}.txt"] + ([f"sign-{platform.key}.txt"] if from_wheel else [])


def debian_packages(platform: Platform, engine: str, *, sign: bool) -> list[str]:
    """Return the Debian packages to put into the image; apt adds what they depend on."""
    packages = ["base-files", "python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "netbase"]
    if (platform.key, engine) in FROM_DEBIAN:
        packages += ["python3-numpy", "python3-opencv"]
    if sign and platform.key == "armv7":
        packages.append("python3-cryptography")
    if engine == "export":
        packages += ["bash", "coreutils", "ca-certificates", "libgomp1", "openssh-client"]
    return packages
