"""The verdict: one line and an exit code."""

from __future__ import annotations

import pytest

from edgedet_runtime.doctor.findings import Finding, Report

OK, WARNING = Finding("files", "ok", "3 files"), Finding("plan", "warning", "measured elsewhere")
BAD, WORSE = Finding("golden a", "failure", "2 missing"), Finding("golden b", "failure", "upside down")


@pytest.mark.parametrize(
    ("findings", "verdict", "code"),
    [
        ((OK,), "fit: gives here what it gave where it was exported", 0),
        ((OK, WARNING), "fit, with 1 warning", 0),
        ((WARNING, OK, WARNING), "fit, with 2 warnings", 0),
        ((OK, WARNING, BAD), "unfit: golden a: 2 missing", 1),
        ((BAD, OK, WORSE), "unfit: golden a: 2 missing (and 1 more)", 1),
        ((WORSE, BAD, BAD), "unfit: golden b: upside down (and 2 more)", 1),
        ((), "fit: gives here what it gave where it was exported", 0),
    ],
)
def test_verdict(findings: tuple[Finding, ...], verdict: str, code: int) -> None:
    report = Report("bundle", findings)
    assert (report.verdict, report.exit_code) == (verdict, code)
    data = report.to_dict()
    assert (data["bundle"], data["verdict"], data["exit_code"]) == ("bundle", verdict, code)
    assert [f["check"] for f in data["findings"]] == [f.check for f in findings]
