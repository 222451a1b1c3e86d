"""A profile against an older one: what counts as a change, and what may explain it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime.bundle.plan import Plan
from edgedet_runtime.errors import InputError
from edgedet_runtime.profiling import changes
from edgedet_runtime.profiling.changes import compare
from edgedet_runtime.profiling.latency import Samples
from edgedet_runtime.profiling.machine import Machine
from edgedet_runtime.profiling.report import PlanProfile, ProfileReport, read_profile
from edgedet_runtime.profiling.statistics import Interval

ONE, TWO = Plan("onnxruntime", "fp32", 1), Plan("onnxruntime", "int8", 1)

MACHINE = Machine(
    cpu="Z80",
    architecture="z80",
    features=("neon",),
    cpus_online=4,
    threads_available=4,
    quota_cpus=None,
    quota_throttle_count=None,
    memory_mb=64,
    governor="performance",
    frequency_mhz=4,
    frequency_max_mhz=4,
    throttle_count=0,
    load_average=0.5,
    system="CP/M 2.2",
    python="3.12.1",
    packages={"numpy": "2.0", "openvino": "2025.0"},
)


def entry(plan: Plan, ms: float, runs: int = 20, size: int = 100) -> PlanProfile:
    times = tuple(ms + 0.001 * (i % 5) for i in range(runs))
    return PlanProfile(plan, f"model.{plan.precision}.onnx", size, Samples(times, times, times, times))


def report(*plans: PlanProfile, **more: Any) -> ProfileReport:
    fields: dict[str, Any] = {
        "model": "bundle",
        "name": "yolov5n",
        "input_hw": (416, 640),
        "picture": "noise",
        "machine": MACHINE,
        "other_load_cpus": 0.1,
        "throttled": False,
        "quota_throttled": None,
        "plans": plans or (entry(ONE, 10.0),),
        "recommended": ONE,
        "tool_version": "1",
        **more,
    }
    return ProfileReport(**fields)


@pytest.mark.parametrize(
    ("ms", "verdict"), [(10.0, "same"), (10.25, "same"), (10.35, "slower"), (9.75, "same"), (9.65, "faster")]
)
def test_less_than_three_percent_is_no_change(ms: float, verdict: str) -> None:
    (change,) = compare(report(entry(ONE, ms)), report(entry(ONE, 10.0))).changes
    assert (change.plan, change.verdict) == (ONE, verdict)
    assert change.ratio.estimate == pytest.approx(ms / 10.0, rel=1e-3)


def test_noise_is_no_change() -> None:
    wild = tuple(10.0 + 6.0 * ((i * 7) % 11) / 11 for i in range(20))
    (change,) = compare(
        report(PlanProfile(ONE, "m", 100, Samples(wild, wild, wild, tuple(1.04 * t for t in wild)))),
        report(PlanProfile(ONE, "m", 100, Samples(wild, wild, wild, wild))),
    ).changes
    assert change.verdict == "same"
    assert change.ratio.low < 1 < change.ratio.high


def test_plans_that_only_one_of_them_has() -> None:
    three = Plan("openvino", "fp32", 1)
    found = compare(report(entry(ONE, 10.0), entry(three, 5.0)), report(entry(ONE, 10.0), entry(TWO, 5.0)))
    assert [c.plan for c in found.changes] == [ONE]
    assert found.missing == (TWO, three)
    with pytest.raises(InputError, match="expected a plan in common with this profile, got onnxruntime int8 1 thread"):
        compare(report(entry(ONE, 10.0)), report(entry(TWO, 10.0)))


@pytest.mark.parametrize(
    ("old", "words"),
    [
        (report(machine=replace(MACHINE, cpu="6502")), "another CPU, 6502; this one is Z80"),
        (report(name="yolox"), "another model, yolox at 640x416; this one is yolov5n at 640x416"),
        (report(input_hw=(640, 416)), "another model, yolov5n at 416x640"),
    ],
)
def test_what_cannot_be_compared(old: ProfileReport, words: str) -> None:
    with pytest.raises(InputError, match=words):
        compare(report(), old)


DIFFERENCES: dict[str, tuple[ProfileReport, ProfileReport, tuple[str, ...]]] = {
    "nothing": (report(), report(), ()),
    "size": (
        report(entry(ONE, 10.0, size=90)),
        report(entry(ONE, 10.0)),
        ("model.fp32.onnx: 100 bytes, now 90",),
    ),
    "size of a file that is new": (report(entry(ONE, 10.0), entry(TWO, 5.0)), report(), ()),
    "picture": (report(picture="bus"), report(), ("picture: noise, now bus",)),
    "machine": (
        report(machine=replace(MACHINE, threads_available=2, quota_cpus=2.0, governor="powersave")),
        report(machine=replace(MACHINE, system="CP/M 3", python="3.13")),
        (
            "threads available: 4, now 2",
            "quota cpus: None, now 2.0",
            "governor: performance, now powersave",
            "system: CP/M 3, now CP/M 2.2",
            "python: 3.13, now 3.12.1",
        ),
    ),
    "packages": (
        report(machine=replace(MACHINE, packages={"numpy": "2.1", "onnxruntime": "1.20"})),
        report(),
        ("numpy: 2.0, now 2.1", "onnxruntime: None, now 1.20", "openvino: 2025.0, now None"),
    ),
    "a quarter of a CPU": (report(other_load_cpus=0.5), report(other_load_cpus=0.25), ()),
    "a quarter of a CPU less": (report(other_load_cpus=0.25), report(other_load_cpus=0.5), ()),
    "more": (
        report(other_load_cpus=0.37),
        report(other_load_cpus=0.11),
        ("load of other processes: 0.11 CPUs, now 0.37",),
    ),
    "less": (
        report(other_load_cpus=0.0),
        report(other_load_cpus=1.0),
        ("load of other processes: 1.00 CPUs, now 0.00",),
    ),
    "unknown load": (report(other_load_cpus=None), report(other_load_cpus=3.0), ()),
    "unknown load before": (report(other_load_cpus=3.0), report(other_load_cpus=None), ()),
    "throttled": (
        report(throttled=True, quota_throttled=False),
        report(throttled=None, quota_throttled=True),
        ("the older one was throttled by the quota", "this one was throttled by heat"),
    ),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_what_may_explain_a_change(case: str) -> None:
    new, old, sentences = DIFFERENCES[case]
    assert compare(new, old).differs == sentences


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    made = report(entry(ONE, 10.0), entry(TWO, 5.5))
    path = tmp_path / "profile.json"
    for document in (made.to_dict(), {"doctor": {}, "profile": made.to_dict()}):
        path.write_text(json.dumps(document))
        assert read_profile(path) == made
    data = made.to_dict()
    assert data["plans"][0]["latency"]["end_to_end_ms"]["median"] == 10.002
    others: list[Any] = [
        {**data, "format": "edgedet-profile-0"},
        {**data, "plans": {}},
        {**data, "plans": [1]},
        [],
        "x",
    ]
    for broken in others:
        path.write_text(json.dumps(broken))
        with pytest.raises(InputError, match="expected a profile written with --json"):
            read_profile(path)


def test_floats_keep_four_decimals() -> None:
    data = report(other_load_cpus=0.123456).to_dict()
    assert data["other_load_cpus"] == 0.1235


def test_one_request_at_a_time_by_the_best_thread_count() -> None:
    two = Plan("onnxruntime", "fp32", 2)
    made = report(entry(ONE, 10.0), entry(two, 8.0), entry(TWO, 1.0))
    assert made.one_request_per_s("onnxruntime", "fp32") == pytest.approx(1e3 / 8.002)
    assert made.one_request_per_s("openvino", "fp32") == 0.0


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(1.03, 1.01, 1.2), "slower"),
        (Interval(1.029, 1.01, 1.2), "same"),
        (Interval(1.1, 1.0, 1.2), "same"),
        (Interval(1.1, 0.9, 1.2), "same"),
        (Interval(1 / 1.03, 0.9, 0.99), "faster"),
        (Interval(0.972, 0.9, 0.99), "same"),
        (Interval(0.9, 0.8, 1.0), "same"),
        (Interval(0.9, 0.8, 1.1), "same"),
    ],
)
def test_verdicts(interval: Interval, verdict: str) -> None:
    assert changes._verdict(interval) == verdict


def test_what_is_no_profile(tmp_path: Path) -> None:
    good = report(entry(ONE, 10.0)).to_dict()
    others: list[Any] = [
        ["profile"],
        "profile",
        {**good, "plans": [*good["plans"], 1]},
        {"profile": []},
        {"doctor": good},
    ]
    for other in others:
        (tmp_path / "p.json").write_text(json.dumps(other))
        with pytest.raises(InputError, match=r"p\.json: expected a profile written with --json"):
            read_profile(tmp_path / "p.json")
    with pytest.raises(InputError, match=r"gone\.json: cannot be read"):
        read_profile(tmp_path / "gone.json")
