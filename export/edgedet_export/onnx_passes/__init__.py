"""The contract of every pass on an ONNX graph, and the manager that runs a list of them.

A pass is an onnx-ir pass (`onnx_ir.passes.InPlacePass`), so it also runs in onnx-ir's own managers. It

- states what it requires (`requires`): a model that does not fit raises `RequirementError` and stays as it was;
- rewrites the model in place (`rewrite`) and records each change, and each block that looked like a candidate but was
  left, with the reason;
- returns a `PassResult`: the model, and a `PassReport` of what changed and what it declined.

::

    class DropIdentities(OnnxPass):
        name = "drop-identities"

        def rewrite(self, model, record):
            for node in nodes_of(model.graph, "Identity"):
                if node.outputs[0].is_graph_output():
                    record.decline(node.outputs[0], "it is an output of the graph")
                    continue
                replace_uses(node.outputs[0], node.inputs[0])
                remove_nodes(model.graph, [node])
                record.change(node.outputs[0], "Identity → its input")

    result = run_passes(model, [DropIdentities()])
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from edgedet_export.pass_report import Change, Declined, PassReport
from edgedet_runtime.errors import ModelFileError

__all__ = ["OnnxPass", "PassRecord", "PassResult", "PassesResult", "RequirementError", "run_passes"]


class RequirementError(ModelFileError, ir.passes.PreconditionError):
    """A model is not what a pass requires; it was left as it was."""


@dataclass(slots=True)
class PassRecord:
    """What a pass notes down while it rewrites.

    Attributes:
        changed: Each change, in order.
        declined: Each candidate that was left.
    """

    changed: list[Change] = field(default_factory=list)
    declined: list[Declined] = field(default_factory=list)

    def change(self, where: ir.Value | str, what: str) -> None:
        """Note a change at a tensor."""
        self.changed.append(Change(_path(where), what))

    def decline(self, where: ir.Value | str, why: str) -> None:
        """Note a candidate that was left at a tensor, and the precondition that does not hold."""
        self.declined.append(Declined(_path(where), why))


@dataclass
class PassResult(ir.passes.PassResult):
    """The model after a pass, whether it was modified, and the report.

    Attributes:
        report: What changed and what was declined.
    """

    report: PassReport


class OnnxPass(ir.passes.InPlacePass):
    """A rewriting of an ONNX graph, in place.

    Attributes:
        name: Name in reports, in kebab case.
    """

    name: ClassVar[str]

    def __call__(self, model_or_result: ir.Model | ir.passes.PassResult, /) -> PassResult:
        """Check what the pass requires, rewrite the model in place, and report.

        Raises:
            RequirementError: The model is not what the pass requires; it was left as it was.
        """
        result = super().__call__(model_or_result)
        assert isinstance(result, PassResult), "as `call` returns it"
        return result

    def requires(self, model: ir.Model) -> None:
        """Check that the pass can run on a model; here: on any.

        Raises:
            RequirementError: It cannot; the message says what was expected and found.
        """

    @abc.abstractmethod
    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Rewrite a model that fulfils `requires`, in place, noting each change and each refusal in `record`."""

    def call(self, model: ir.Model) -> PassResult:
        """Rewrite and report; call the pass itself instead, which checks what it requires first."""
        record = PassRecord()
        self.rewrite(model, record)
        report = PassReport(self.name, tuple(record.changed), tuple(record.declined))
        return PassResult(model, bool(record.changed), report)


@dataclass(frozen=True, slots=True)
class PassesResult:
    """The outcome of a list of passes.

    Attributes:
        model: The rewritten model.
        reports: One per pass, in the order in which they ran.
    """

    model: ir.Model
    reports: tuple[PassReport, ...]

    @property
    def modified(self) -> bool:
        """Return whether any pass changed the model."""
        return any(report.changed for report in self.reports)


def run_passes(model: ir.Model, passes: Sequence[ir.passes.PassBase]) -> PassesResult:
    """Run passes one after the other and collect their reports.

    Unlike onnx-ir's manager it keeps every report, and an error reaches the caller as the pass raised it.

    Args:
        model: Changed in place by in-place passes; clone it to keep it.
        passes: Ours, or any of onnx-ir's, whose report only says whether it changed anything.

    Raises:
        RequirementError: A model is not what the next pass requires; the passes before have run.
    """
    reports = []
    for each in passes:
        result = each(model)
        model = result.model
        if isinstance(result, PassResult):
            reports.append(result.report)
            continue
        changed = (Change(model.graph.name or "graph", "modified"),) if result.modified else ()
        reports.append(PassReport(type(each).__name__, changed))
    return PassesResult(model, tuple(reports))


def _path(where: ir.Value | str) -> str:
    return where if isinstance(where, str) else where.name or ""
