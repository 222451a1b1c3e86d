"""The parts of a profile, each with made-up clocks, processes and machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet_runtime.bundle.plan import Plan
from edgedet_runtime.choices import EngineName, Precision
from edgedet_runtime.errors import EngineError, InputError, ModelFileError
from edgedet_runtime.profiling import bandwidth, cold_start, machine, memory, probe, session
from edgedet_runtime.profiling.bandwidth import MIB, Bandwidth, measure_bandwidth
from edgedet_runtime.profiling.cold_start import measure_cold_start
from edgedet_runtime.profiling.machine import LoadMeter, describe_machine
from edgedet_runtime.profiling.roofline import Peaks
from edgedet_runtime.profiling.session import ProfileConfig, _grew, choose_picture, list_plans, profile_model
from tests.runtime.tiny_models import random_image, tiny_onnx

PLAN = Plan("onnxruntime", "fp32", 2)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"runs": 1}, {"runs": 0}),
        ({"cold_starts": 0}, {"cold_starts": -1}),
        ({"cold_runs": 0}, {"cold_runs": -1}),
        ({"threads": (1, 2)}, {"threads": (2, 0)}),
        ({"threads": None}, {"threads": ()}),
        ({"throughput_s": 0.0}, {"throughput_s": -0.1}),
        ({"throughput_s": 3.0}, {"throughput_s": float("inf")}),
        ({"throughput_s": 0.5}, {"throughput_s": float("nan")}),
        ({"requests": 1}, {"requests": 0}),
        ({"requests": None}, {"requests": -2}),
    ],
)
def test_what_can_be_measured(good: dict[str, Any], bad: dict[str, Any]) -> None:
    ProfileConfig(**good)
    with pytest.raises(InputError, match="expected"):
        ProfileConfig(**bad)


def test_usual_amounts() -> None:
    config = ProfileConfig()
    assert (config.runs, config.cold_starts, config.cold_runs, config.throughput_s) == (50, 3, 400, 0.0)
    assert config.layers is True


@pytest.mark.parametrize(
    ("more", "total"), [({}, 2), ({"layers": True}, 3), ({"throughput_s": 0.01}, 3), ({"threads": (1, 2)}, 3)], ids=str
)
def test_every_step_is_counted_and_announced(
    more: dict[str, Any], total: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "measure_bandwidth", lambda threads: Bandwidth(threads, (1,), (1.0,)))
    monkeypatch.setattr(session, "measure_peaks", lambda *key: Peaks(key[0], key[1], {}, {}, key[2]))
    monkeypatch.setattr(session, "profile_layers", lambda *_, **__: ())
    model = tiny_onnx(tmp_path / "m.onnx")
    seen: list[tuple[int, int, str]] = []
    config = ProfileConfig(**{"threads": (1,), "runs": 2, "cold_starts": 0, "layers": False, **more})
    report = profile_model(model, config, progress=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert {done for done, _, _ in seen} == set(range(total))
    assert {of for _, of, _ in seen} == {total}
    assert seen[0][2] == "loading"
    assert [p.plan.threads for p in report.plans] == list(config.threads or ())
    assert {p.file for p in report.plans} == {"m.onnx"}
    assert len(report.throughput) == (1 if config.throughput_s else 0)
    profile_model(model, config)


@pytest.mark.parametrize(
    ("before", "after", "grew"), [(3, 4, True), (3, 3, False), (0, 1, True), (None, 3, None), (3, None, None)]
)
def test_a_count_that_grew(before: int | None, after: int | None, grew: bool | None) -> None:
    assert _grew(before, after) is grew


def test_plans_of_a_file_and_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_onnx(tmp_path / "m.onnx")
    assert list_plans(model, ProfileConfig(threads=(1, 2, 1))) == [Plan("onnxruntime", "fp32", n) for n in (1, 2)]
    monkeypatch.setenv("EDGEDET_THREADS", "3")
    assert list_plans(model, ProfileConfig(engines=("onnxruntime", "opencv"))) == [
        Plan("onnxruntime", "fp32", 3),
        Plan("opencv", "fp32", 3),
    ]


def test_pictures_to_measure_with(tmp_path: Path) -> None:
    given = random_image(30, 40)
    assert choose_picture(tmp_path, given) == (given, "given, 40x30")
    noise, words = choose_picture(tmp_path, None)
    assert (noise.shape, str(noise.dtype), words) == ((720, 1280, 3), "uint8", "noise, 1280x720")
    assert (noise.min(), noise.max()) == (0, 255)
    np.testing.assert_array_equal(noise, choose_picture(tmp_path, None)[0])
    np.savez(tmp_path / "golden.npz", image_bgr=given)
    golden, words = choose_picture(tmp_path, None)
    np.testing.assert_array_equal(golden, given)
    assert words == "golden picture of the bundle, 40x30"
    (tmp_path / "golden.npz").write_bytes(b"no archive")
    with pytest.raises(ModelFileError, match="expected golden vectors"):
        choose_picture(tmp_path, None)


class Processes:
    """Stands for `subprocess.run` and the clock: process k starts at 100 k."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any] | str], code: int = 0) -> None:
        self.rows, self.code, self.commands, self.started = rows, code, list[list[str]](), 0
        monkeypatch.setattr(subprocess, "run", self._run)
        monkeypatch.setattr("edgedet_runtime.profiling.cold_start.time.monotonic", self._now)

    def _now(self) -> float:
        self.started += 1
        return 100.0 * self.started

    def _run(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        row = self.rows[len(self.commands)]
        self.commands.append(command)
        text = row if isinstance(row, str) else "a line of somebody else\n" + json.dumps(row) + "\n"
        return subprocess.CompletedProcess(command, self.code, text, "one\ntwo\nlast words\n" if self.code else "")


def row(start: float, imported: float, loaded: float, first: float, mb: float | None) -> dict[str, Any]:
    return {
        "imported": start + imported,
        "loaded": start + imported + loaded,
        "first": start + imported + loaded + first,
        "first_mb": mb,
        "first_peak_mb": None if mb is None else mb + 5,
        "last_mb": None if mb is None else mb + 1,
        "growth_kb_per_1000_runs": 7.5,
    }


def test_cold_starts_are_medians_and_only_the_first_runs_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows: list[dict[str, Any] | str] = [
        row(100, 1.0, 2.0, 0.5, 50.0),
        row(200, 3.0, 1.0, 0.25, 40.0),
        row(300, 2.0, 4.0, 0.75, 60.0),
    ]
    fake = Processes(monkeypatch, rows)
    found = measure_cold_start(tmp_path / "m.onnx", PLAN, random_image(), repeats=3, runs=70)
    assert [command[-4:] for command in fake.commands] == [
        ["onnxruntime", "fp32", "2", str(runs)] for runs in (70, 0, 0)
    ]
    assert (found.import_s, found.load_s, found.first_s, found.total_s) == (2.0, 2.0, 0.5, 4.25)
    assert (found.resident_mb, found.peak_mb, found.settled_mb) == (50.0, 55.0, 51.0)
    assert (found.growth_kb_per_1000_runs, found.runs, found.repeats) == (7.5, 70, 3)


def test_memory_that_nobody_tells_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Processes(monkeypatch, [row(100, 1.0, 2.0, 0.5, None)])
    found = measure_cold_start(tmp_path / "m.onnx", PLAN, random_image(), repeats=1, runs=0)
    assert (found.resident_mb, found.peak_mb, found.settled_mb) == (None, None, None)


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ({"error": "the file is broken"}, 2, "ended with code 2: the file is broken"),
        ("", 9, "ended with code 9: last words"),
        ("", 0, "ended with code 0: nothing"),
        ("no json\n", 0, "ended with code 0: nothing"),
        ({"imported": 1.0}, 0, "ended with code 0: nothing"),
        ({"first": 1.0}, 1, "ended with code 1: last words"),
    ],
)
def test_last_words_of_a_process(
    said: dict[str, Any] | str, code: int, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Processes(monkeypatch, [said], code)
    with pytest.raises(EngineError, match=rf"^cold start of onnxruntime fp32 2 threads: the process {words}$"):
        measure_cold_start(tmp_path / "m.onnx", PLAN, random_image(), repeats=1, runs=0)


def test_a_process_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def late(*_: Any, timeout: float, **__: Any) -> None:
        raise subprocess.TimeoutExpired("probe", timeout)

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(EngineError, match=f"within {cold_start._TIMEOUT_S:.0f} s, got none"):
        measure_cold_start(tmp_path / "m.onnx", PLAN, random_image(), repeats=1, runs=0)


def test_growth_of_memory_is_the_slope_of_its_second_half(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """400 runs give 40 samples, ten runs apart; the first half jumps, the second grows by 1 MiB in 100 runs."""
    model = tiny_onnx(tmp_path / "m.onnx")
    np.save(tmp_path / "i.npy", random_image())
    calls = [0]

    def held() -> float:
        calls[0] += 1
        return 90.0 if calls[0] == 1 else 500.0 if calls[0] <= 21 else 100.0 + 0.1 * calls[0]

    monkeypatch.setattr(memory, "resident_mb", held)
    monkeypatch.setattr(memory, "peak_resident_mb", lambda: 120.0)
    found = probe._probe(str(model), str(tmp_path / "i.npy"), "onnxruntime", "fp32", 1, 400)
    assert calls[0] == 1 + 40 + 1
    assert (found["first_mb"], found["first_peak_mb"]) == (90.0, 120.0)
    assert found["last_mb"] == pytest.approx(100 + 0.1 * 42)
    assert found["growth_kb_per_1000_runs"] == pytest.approx(10 * 1024)
    stamps = [found[key] for key in ("imported", "loaded", "first")]
    assert stamps == sorted(stamps, key=lambda v: float(v))  # type: ignore[arg-type]
    assert (
        probe._probe(str(model), str(tmp_path / "i.npy"), "onnxruntime", "fp32", 1, 0)["growth_kb_per_1000_runs"]
        is None
    )


def test_probe_says_what_is_wrong_and_takes_the_errors_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "i.npy", random_image())
    arguments = [str(tmp_path / "none.onnx"), str(tmp_path / "i.npy"), "onnxruntime", "fp32", "1", "0"]
    assert probe.main(arguments) == 2
    assert "none.onnx" in json.loads(capsys.readouterr().out)["error"]
    arguments[0] = str(tiny_onnx(tmp_path / "m.onnx"))
    assert probe.main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["first"] > 0


def test_resident_memory_is_in_mebibytes() -> None:
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {line.split()[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    now, peak = memory.resident_mb(), memory.peak_resident_mb()
    assert now == pytest.approx(kib["VmRSS:"] / 1024, rel=0.05)
    assert peak == pytest.approx(kib["VmHWM:"] / 1024, rel=0.05)
    assert memory.resident_mb(1 << 30) is None


def test_load_of_others_is_what_is_busy_without_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)

    def measured(start: Any, end: Any, own: tuple[float, float]) -> float | None:
        stats, mine = iter([start, end]), iter(own)
        monkeypatch.setattr(machine, "_busy_and_total_s", lambda: next(stats))
        monkeypatch.setattr(machine, "_own_s", lambda: next(mine))
        with LoadMeter() as meter:
            pass
        return meter.busy_cpus

    assert measured((100.0, 400.0), (118.0, 440.0), (1.0, 4.0)) == 1.5  # 18 s busy, 3 s ours, in 10 s
    assert measured((100.0, 400.0), (101.0, 440.0), (0.0, 4.0)) == 0.0
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert measured((100.0, 400.0), (118.0, 440.0), (1.0, 4.0)) == 15 / 40
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert measured((100.0, 400.0), (100.0, 400.0), (0.0, 0.0)) == 0.0
    assert measured(None, (1.0, 2.0), (0.0, 0.0)) is None
    assert measured((1.0, 2.0), None, (0.0, 0.0)) is None


def test_ticks_of_all_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """user nice system idle iowait irq softirq steal; guest time is in user already."""
    monkeypatch.setattr(machine, "_text", lambda _: "cpu  10 20 30 400 50 6 7 8 99 99\ncpu0 1 1 1 1")
    monkeypatch.setattr("os.sysconf", lambda _: 100)
    assert machine._busy_and_total_s() == (0.81, 5.31)
    monkeypatch.setattr(machine, "_text", lambda _: None)
    assert machine._busy_and_total_s() is None


def test_machine_in_its_units(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "meminfo": "Buffers: 4 kB\nMemTotal:  4194304 kB\nMemFree: 7 kB",
        "scaling_governor": "performance",
        "scaling_cur_freq": "1200999",
        "cpuinfo_max_freq": "fast",
        "core_throttle_count": "17",
    }
    monkeypatch.setattr(machine, "_text", lambda path: texts.get(path.name))
    found = describe_machine()
    assert (found.memory_mb, found.governor, found.frequency_mhz) == (4096, "performance", 1200)
    assert (found.frequency_max_mhz, found.throttle_count) == (None, 17)
    assert (found.processor.cpu, found.processor.features) == (found.cpu, found.features)
    assert "numpy" in found.packages
    texts["meminfo"] = "nothing"
    assert describe_machine().memory_mb is None


@pytest.mark.parametrize(
    ("cache_mib", "free_mib", "largest_mib"),
    [(None, None, 64), (8, None, 64), (32, None, 128), (64, None, 256), (512, None, 256), (8, 80, 20), (8, 3, 1)],
)
def test_sizes_to_copy(
    cache_mib: int | None, free_mib: int | None, largest_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bandwidth, "last_cache_bytes", lambda: None if cache_mib is None else cache_mib * MIB)
    monkeypatch.setattr(bandwidth, "_available_bytes", lambda: None if free_mib is None else free_mib * MIB)
    sizes = bandwidth._sizes()
    assert [size // MIB for size in sizes] == [n for n in (1, 4, 16, 64) if n < largest_mib] + [largest_mib]


def test_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"meminfo": "MemTotal: 9 kB\nMemAvailable:  4096 kB\n", "memory.max": "max\n"}
    monkeypatch.setattr(bandwidth, "system_text", lambda path: texts.get(path.name, ""))
    assert bandwidth._available_bytes() == 4 * MIB
    texts["memory.max"] = "1000\n"
    assert bandwidth._available_bytes() == 1000
    texts["memory.limit_in_bytes"] = "900\n"
    assert bandwidth._available_bytes() == 900
    texts.clear()
    assert bandwidth._available_bytes() is None


def test_what_is_larger_than_a_sample_is_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "_PER_SAMPLE", MIB - 1)
    assert measure_bandwidth(1, sizes=[MIB], samples=1).gb_per_s[0] > 0


def test_rate_is_all_bytes_from_the_first_start_to_the_last_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thread k starts at second k and ends at second 10 + k."""
    threads: dict[int, int] = {}
    asked: dict[int, int] = {}
    lock = threading.Lock()

    def clock() -> float:
        with lock:
            me = threads.setdefault(threading.get_ident(), len(threads))
            asked[me] = asked.get(me, 0) + 1
            return me + 10.0 * (asked[me] % 2 == 0)

    monkeypatch.setattr("edgedet_runtime.profiling.bandwidth.time.perf_counter", clock)
    size = 1 << 20
    found = measure_bandwidth(2, sizes=[size], samples=1)
    passes = 128 * MIB // size
    assert list(found.gb_per_s) == pytest.approx([size * passes / 11 / 1e9])


def test_int8_is_only_recommended_where_the_export_recommends_it(tmp_path: Path) -> None:
    def plan(engine: EngineName, precision: Precision) -> Plan:
        return Plan(engine, precision, 1)

    ort, ort8 = plan("onnxruntime", "fp32"), plan("onnxruntime", "int8")
    vino8, cv8 = plan("openvino", "int8"), plan("opencv", "int8")
    manifest = {"files": [], "recommended": {"onnxruntime": "fp32", "openvino": "int8"}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert session._allowed(tmp_path, [ort, ort8, vino8, cv8]) == [ort, vino8, cv8]
    assert session._allowed(tmp_path, [ort8]) is None
    assert session._allowed(tmp_path / "manifest.json", [ort, ort8]) == [ort, ort8]


def test_a_fresh_process_finds_this_runtime_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    def run(*_: Any, env: dict[str, str], **__: Any) -> subprocess.CompletedProcess[str]:
        seen.append(env)
        return subprocess.CompletedProcess([], 0, json.dumps(row(100, 1.0, 2.0, 0.5, None)), "")

    monkeypatch.setattr(subprocess, "run", run)
    for before, after in (("/elsewhere", ["/elsewhere"]), ("", [])):
        monkeypatch.setenv("PYTHONPATH", before)
        measure_cold_start(tmp_path / "m.onnx", PLAN, random_image(), repeats=1, runs=0)
        here, *others = seen[-1]["PYTHONPATH"].split(os.pathsep)
        assert Path(here) == Path(session.__file__).parents[2]
        assert others == after


def test_a_real_process_that_ends_without_a_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'no json'\necho one >&2\necho 'last wörds' >&2\nexit 7\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("PYTHONUTF8", "1")
    with pytest.raises(EngineError, match=r"the process ended with code 7: last w.+rds$"):
        measure_cold_start(tmp_path / "m.onnx", PLAN, random_image(), repeats=1, runs=0)
