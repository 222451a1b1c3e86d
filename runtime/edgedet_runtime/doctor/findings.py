"""What the doctor found, and the verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Finding", "Report", "Status"]

Status = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: What was looked at, such as ``golden model.int8.onnx on onnxruntime``.
        status: ``ok``, ``warning`` (works, but differently or slower than it could) or ``failure``.
        detail: What was seen, and on failure the diagnosis.
    """

    check: str
    status: Status
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about a bundle on this machine."""

    bundle: str
    findings: tuple[Finding, ...]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Findings that must be mended."""
        return tuple(f for f in self.findings if f.status == "failure")

    @property
    def exit_code(self) -> int:
        """0 where nothing failed, else 1."""
        return 1 if self.failures else 0

    @property
    def verdict(self) -> str:
        """One line."""
        if self.failures:
            first = self.failures[0]
            more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
            return f"unfit: {first.check}: {first.detail}{more}"
        warnings = sum(f.status == "warning" for f in self.findings)
        if warnings:
            return f"fit, with {warnings} warning{'s' if warnings > 1 else ''}"
        return "fit: gives here what it gave where it was exported"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {
            "bundle": self.bundle,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "findings": [asdict(finding) for finding in self.findings],
        }
