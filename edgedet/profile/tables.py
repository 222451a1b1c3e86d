"""A profile as tables on standard output."""

from __future__ import annotations

from edgedet import output
from edgedet.html import page
from edgedet_runtime.profiling.changes import ProfileChanges
from edgedet_runtime.profiling.machine import Machine
from edgedet_runtime.profiling.report import PlanProfile, ProfileReport

__all__ = [
    "ROOFLINE_COLUMNS",
    "STEP_COLUMNS",
    "THROUGHPUT_COLUMNS",
    "describe_state",
    "roofline_rows",
    "roofline_sentence",
    "show_comparison",
    "show_report",
    "step_rows",
    "throughput_rows",
]

SLOWEST = 8
_QUIET_CPUS = 0.25
ROOFLINE_COLUMNS = (
    "plan",
    "memory-bound",
    "compute-bound",
    "of roof",
    "fp32 GMAC/s",
    "int8 GMAC/s",
    "memory GB/s",
    "cache GB/s",
)
"""Of `roofline_rows`; all but the first are numbers."""
STEP_COLUMNS = ("step", "median", "p90", "p99", "lowest", "highest", "spread")
"""Of `step_rows`; all but the first are numbers."""
THROUGHPUT_COLUMNS = (
    "engine",
    "precision",
    "in flight",
    "images/s",
    "windows",
    "one request",
    "gain",
    "request ms",
    "p99",
)
"""Of `throughput_rows`; all but the first two are numbers."""


def show_report(report: ProfileReport) -> None:
    """Write a profile: plans, throughput, the recommended plan's slowest layers; what disturbed it as notes."""
    output.line(f"{report.name} at {report.input_hw[1]}x{report.input_hw[0]}, {report.picture}")
    output.line(f"{report.machine.cpu}, {describe_state(report)}")
    columns = ["plan", "pre", "infer", "post", "end to end", "p90", "p99", "spread", "first result s", "MB", "KB/1000"]
    output.table(columns, [_plan_row(entry) for entry in report.plans], numeric=columns[1:])
    output.line(
        "ms, medians; spread: middle half over median; MB: resident after the first result;"
        " KB/1000: its growth per 1000 runs"
    )
    for entry in report.plans:
        if entry.plan == report.recommended:
            _show_steps(entry)
    _show_throughput(report)
    for entry in report.plans:
        if entry.plan == report.recommended and entry.layers:
            _show_layers(entry)
    _show_rooflines(report)
    output.line(f"recommended: {report.recommended}")
    for entry in report.plans:
        if entry.summaries()["end_to_end_ms"].unsteady:
            output.note(f"{entry.plan}: unsteady; something else was running, or the clock changed")
    if report.other_load_cpus is not None and report.other_load_cpus > _QUIET_CPUS:
        busy = f"other processes kept {report.other_load_cpus:.2f} CPUs busy meanwhile"
        output.note(f"{busy}: for figures of the machine alone, measure again when it is quiet")
    if report.throttled:
        output.note("the CPU was throttled by heat meanwhile: the figures are too slow; cool it and measure again")
    if report.quota_throttled:
        output.note("the container used up its CPU quota meanwhile and was stopped: fewer threads may be faster")


def describe_state(report: ProfileReport) -> str:
    """Return what the machine offered, and what else ran on it, in one line."""
    machine: Machine = report.machine
    quota = "none" if machine.quota_cpus is None else f"{machine.quota_cpus:g} CPUs"
    load = "unknown" if report.other_load_cpus is None else f"{report.other_load_cpus:.2f} CPUs"
    clock = "" if machine.frequency_mhz is None else f" at {machine.frequency_mhz} MHz"
    throttled = {True: "yes", False: "no", None: "unknown"}[report.throttled]
    return (
        f"{machine.threads_available} of {machine.cpus_online} CPUs, quota {quota}, governor"
        f" {machine.governor or 'unknown'}{clock}, throttled: {throttled}, load of others {load}"
    )


def roofline_sentence(report: ProfileReport) -> str:
    """Return where the recommended plan's time goes; empty where its layers were not looked into."""
    entry = next(entry for entry in report.plans if entry.plan == report.recommended)
    summary = entry.roofline()
    if summary is None:
        return ""
    unknown = f", {summary.unknown:.0%} in layers of a precision without a peak" if summary.unknown else ""
    return (
        f"{entry.plan}: {summary.memory:.0%} of the layers' time in memory-bound layers, {summary.compute:.0%} in"
        f" compute-bound ones{unknown}; together at {summary.attained:.0%} of the roofline"
    )


def roofline_rows(report: ProfileReport) -> list[list[str]]:
    """Return, for each plan whose layers were looked into, what bounds them and the peaks; see `ROOFLINE_COLUMNS`."""
    rows = []
    for entry in report.plans:
        summary, peaks = entry.roofline(), entry.peaks
        if summary is None or peaks is None:
            continue
        rates = [f"{peaks.gmacs_per_s[name]:.1f}" if name in peaks.gmacs_per_s else "" for name in ("fp32", "int8")]
        bandwidths = [f"{peaks.bandwidth.memory_gb_per_s:.1f}", f"{peaks.bandwidth.cache_gb_per_s:.1f}"]
        shares = [f"{share:.0%}" for share in (summary.memory, summary.compute, summary.attained)]
        rows.append([str(entry.plan), *shares, *rates, *bandwidths])
    return rows


def step_rows(entry: PlanProfile) -> list[list[str]]:
    """Return the percentiles of the three steps and of the whole, in ms; see `STEP_COLUMNS`."""
    rows = []
    for name, of in entry.summaries().items():
        values = (of.median, of.p90, of.p99, of.lowest, of.highest)
        step = name.removesuffix("_ms").replace("_", " ")
        rows.append([step, *(f"{value:.3f}" for value in values), f"{of.spread:.0%}"])
    return rows


def _show_steps(entry: PlanProfile) -> None:
    output.table(STEP_COLUMNS, step_rows(entry), title=f"steps of {entry.plan}, ms", numeric=STEP_COLUMNS[1:])


def _plan_row(entry: PlanProfile) -> list[str]:
    of = entry.summaries()
    whole, cold = of["end_to_end_ms"], entry.cold_start
    medians = [f"{of[name].median:.2f}" for name in ("pre_ms", "infer_ms", "post_ms", "end_to_end_ms")]
    start = ["", "", ""]
    if cold is not None:
        values = (cold.total_s, cold.resident_mb, cold.growth_kb_per_1000_runs)
        formats = ("{:.2f}", "{:.0f}", "{:.0f}")
        start = ["" if v is None else f.format(v) for v, f in zip(values, formats, strict=True)]
    return [str(entry.plan), *medians, f"{whole.p90:.2f}", f"{whole.p99:.2f}", f"{whole.spread:.0%}", *start]


def throughput_rows(report: ProfileReport) -> list[list[str]]:
    """Return images per second with several requests in flight, beside one; see `THROUGHPUT_COLUMNS`."""
    rows = []
    for of in report.throughput:
        alone = report.one_request_per_s(of.engine, of.precision)
        windows = f"{min(of.windows_per_s):.1f} to {max(of.windows_per_s):.1f}"
        gain = f"{of.images_per_s / alone:.2f}x" if alone else ""
        row = [of.engine, of.precision, str(of.requests), f"{of.images_per_s:.1f}", windows, f"{alone:.1f}", gain]
        rows.append([*row, f"{of.request_ms:.2f}", f"{of.request_p99_ms:.2f}"])
    return rows


def _show_throughput(report: ProfileReport) -> None:
    rows = throughput_rows(report)
    if not rows:
        return
    output.table(THROUGHPUT_COLUMNS, rows, title="several requests in flight", numeric=THROUGHPUT_COLUMNS[2:])
    output.line(
        "in flight: threads, each with a Detector of one engine thread; one request: images/s of one after the other,"
        " in the best of the thread counts above"
    )


def _show_rooflines(report: ProfileReport) -> None:
    rows = roofline_rows(report)
    if not rows:
        return
    output.table(ROOFLINE_COLUMNS, rows, title="what bounds the layers", numeric=ROOFLINE_COLUMNS[1:])
    output.line(
        "shares of the layers' time; of roof: what the peaks, measured here with the engine and threads, allow, over"
        " what was measured"
    )
    sentence = roofline_sentence(report)
    if sentence:
        output.line(sentence)
    for reason in dict.fromkeys(
        f"{entry.peaks.engine}: no peak in {precision}: {why}"
        for entry in report.plans
        if entry.peaks is not None
        for precision, why in entry.peaks.missing.items()
    ):
        output.note(reason)


def _show_layers(entry: PlanProfile) -> None:
    total = sum(layer.time_ms for layer in entry.layers) or 1.0
    places = entry.places() or (None,) * len(entry.layers)
    slowest = sorted(zip(entry.layers, places, strict=True), key=lambda pair: -pair[0].time_ms)[:SLOWEST]
    columns = ["layer", "kind", "precision", "ms", "share", "MMACs", "MB", "ops/byte", "GMAC/s", "bound by", "of roof"]
    rows = []
    for layer, at in slowest:
        row = [
            page.tail(layer.name),
            layer.kind,
            layer.precision,
            f"{layer.time_ms:.3f}",
            f"{layer.time_ms / total:.0%}",
        ]
        row += [f"{layer.macs / 1e6:.1f}", f"{layer.bytes / 1e6:.2f}", f"{layer.intensity:.1f}"]
        if at is not None:
            rate = "" if at.gmacs_per_s is None or not layer.macs else f"{at.gmacs_per_s:.1f}"
            row += [rate, at.bound, "" if at.attained is None else f"{at.attained:.0%}"]
        rows.append(row)
    numeric = [name for name in columns[3:] if name != "bound by"]
    output.table(columns, rows, title=f"slowest of {len(entry.layers)} layers, {entry.plan}", numeric=numeric)


def show_comparison(comparison: ProfileChanges) -> None:
    """Write the comparison with an older profile; what may explain it as notes."""
    rows = [
        [str(c.plan), f"{c.ratio.estimate:.3f}", f"{c.ratio.low:.3f} to {c.ratio.high:.3f}", c.verdict]
        for c in comparison.changes
    ]
    output.table(["plan", "new / old", "95 % interval", "verdict"], rows, numeric=["new / old"])
    if comparison.missing:
        output.note(f"in one of the two profiles only: {', '.join(map(str, comparison.missing))}")
    for difference in comparison.differs:
        output.note(f"also different: {difference}")
