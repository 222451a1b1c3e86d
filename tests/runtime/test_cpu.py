"""Threads from the control group's quota, and what /proc/cpuinfo says."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime.cpu import (
    available_threads,
    check_threads,
    cpu_features,
    cpu_model,
    quota_cores,
    quota_throttle_count,
    this_processor,
)
from edgedet_runtime.errors import InputError

V1 = "4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


QUOTAS = {
    "nothing mounted": ({}, 8),
    "v2, no limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
    "v2, two cores": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    "v2, a part of a core": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
    "v2, rounded up": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
    "v2, more than there are": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "6400000 100000\n"},
        8,
    ),
    "v2, a parent is tighter": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/cpu.max": "400000 100000",
            "sys/fs/cgroup/a/cpu.max": "300000 100000",
        },
        3,
    ),
    "v2, the path is the host's": (
        {"proc/self/cgroup": "0::/host/only\n", "sys/fs/cgroup/cpu.max": "200000 100000"},
        2,
    ),
    "v1, no limit": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        8,
    ),
    "v1, in its own group": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
        },
        2,
    ),
    "v1, mounted as cpu": (
        {
            "proc/self/cgroup": "1:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        1,
    ),
    "v2, a quota of nothing is none": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "0 100000\n"},
        8,
    ),
    "v2, a period of nothing is none": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 0\n"},
        8,
    ),
    "garbage": ({"proc/self/cgroup": "what\n::\n0::", "sys/fs/cgroup/cpu.max": "often\n"}, 8),
}


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEDET_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize("case", QUOTAS)
def test_quota(case: str, tmp_path: Path) -> None:
    files, threads = QUOTAS[case]
    assert available_threads(tree(tmp_path, files)) == threads


def test_quota_and_how_often_it_was_used_up(tmp_path: Path) -> None:
    assert (quota_cores(tmp_path), quota_throttle_count(tmp_path)) == (None, None)
    files = {
        "proc/self/cgroup": "0::/pod/box\n",
        "sys/fs/cgroup/pod/box/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/pod/box/cpu.stat": "usage_usec 9\nnr_periods 20\nnr_throttled 4\nthrottled_usec 77\n",
        "sys/fs/cgroup/pod/cpu.stat": "nr_throttled 3\n",
        "sys/fs/cgroup/cpu.stat": "usage_usec 9\n",
    }
    root = tree(tmp_path / "v2", files)
    assert (quota_cores(root), quota_throttle_count(root)) == (1.5, 7)


def test_two_names_of_one_mount_count_once(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "1:cpu,cpuacct:/\n", "sys/fs/cgroup/cpu,cpuacct/cpu.stat": "nr_throttled 5\n"}
    root = tree(tmp_path, files)
    (root / "sys/fs/cgroup/cpu").symlink_to("cpu,cpuacct")
    assert quota_throttle_count(root) == 5


def test_the_environment_goes_before_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDET_THREADS", " 12 ")
    assert available_threads(tmp_path) == 12


@pytest.mark.parametrize("value", ["1", "01", "64"])
def test_a_good_environment(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDET_THREADS", value)
    assert available_threads() == int(value)


@pytest.mark.parametrize(
    ("text", "machine", "name"),
    [
        ("model name: A\nModel: B\nHardware: C\n", "m", "A"),
        ("Model: B\nHardware: C\n", "m", "B"),
        ("Hardware\t: C\nprocessor: 0\n", "m", "C"),
        ("processor: 0\n", "m", "m"),
        ("", "", "unknown"),
        ("model name: first\nmodel name: second\n", "m", "first"),
    ],
)
def test_names_of_a_processor(
    text: str, machine: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert cpu_model(tree(tmp_path, {"proc/cpuinfo": text})) == name


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "1025", "2147483648"])
def test_a_bad_environment_is_an_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDET_THREADS", value)
    with pytest.raises(InputError, match=f"EDGEDET_THREADS: expected .* got '{value}'"):
        available_threads()


def test_systems_without_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, threads in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert available_threads(tmp_path) == threads


def test_this_machine() -> None:
    assert 1 <= available_threads() <= 8
    assert cpu_model()


X86 = "processor\t: 0\nmodel name\t: Some CPU @ 2GHz\nflags\t\t: fpu avx2 avx512f avx_vnni amx_int8\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp i8mm\nModel\t\t: Raspberry Pi 5 Model B\n"


def test_features(tmp_path: Path) -> None:
    x86 = tree(tmp_path / "x86", {"proc/cpuinfo": X86})
    arm = tree(tmp_path / "arm", {"proc/cpuinfo": ARM})
    assert cpu_features(x86) == ("amx_int8", "avx2", "avx512", "vnni")
    assert cpu_features(arm) == ("dotprod", "fp16", "i8mm", "neon")
    assert cpu_features(tmp_path) == ()
    assert (cpu_model(x86), cpu_model(arm)) == ("Some CPU @ 2GHz", "Raspberry Pi 5 Model B")


def test_processors_of_one_kind(tmp_path: Path) -> None:
    x86 = this_processor(tree(tmp_path / "x86", {"proc/cpuinfo": X86}))
    renamed = this_processor(tree(tmp_path / "renamed", {"proc/cpuinfo": X86.replace("Some", "Other")}))
    fewer = this_processor(tree(tmp_path / "fewer", {"proc/cpuinfo": X86.replace("avx_vnni", "")}))
    assert (x86.cpu, renamed.cpu) == ("Some CPU @ 2GHz", "Other CPU @ 2GHz")
    assert x86.computes_like(renamed)
    assert not x86.computes_like(fewer)
    assert not x86.computes_like(replace(x86, architecture="aarch64"))


def test_groups_of_any_depth_with_all_above_them(tmp_path: Path) -> None:
    quotas = {"sys/fs/cgroup/a/b/c/cpu.max": "300000 100000", "sys/fs/cgroup/a/cpu.max": "150000 100000"}
    root = tree(tmp_path, {"proc/self/cgroup": "0::/a/b/c\n", **quotas})
    assert quota_cores(root) == 1.5
    (root / "sys/fs/cgroup/cpu.max").write_text("20000 100000")
    assert quota_cores(root) == 0.2
    assert available_threads(root) == 1
    (root / "sys/fs/cgroup/a/b/cpu.max").write_text("10000 100000")
    assert quota_cores(root) == 0.1


def test_counts_of_throttling_that_are_none(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.stat": "nr_throttled many\nnr_periods 7\n"})
    assert quota_throttle_count(root) is None
    (root / "sys/fs/cgroup/cpu.stat").write_text("nr_periods 7\nnr_throttled 3\nnr_bursts 9\n")
    assert quota_throttle_count(root) == 3


@pytest.mark.parametrize("number", [1, 2, 1024])
def test_numbers_of_threads(number: int) -> None:
    assert check_threads(number) == number


@pytest.mark.parametrize("number", [0, -1, 1025, True, False, 2.0, "2", None])
def test_what_is_no_number_of_threads(number: Any) -> None:
    with pytest.raises(InputError, match=f"^threads: expected a number from 1 to 1024, got {number!r}$"):
        check_threads(number)
    with pytest.raises(InputError, match=r"^requests: expected"):
        check_threads(number, argument="requests")
