"""``inspect --draft-spec`` and ``export --spec``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.colors import refused, run, run_json


def queries(path: Path) -> Path:
    """Write an ONNX file of 6 queries with 3 classes on a picture of 64×96."""
    torch = pytest.importorskip("torch")

    class Queries(torch.nn.Module):  # type: ignore[misc,name-defined]
        """Boxes in fractions of the picture beside class logits."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 8, 32, 32)
            self.boxes, self.scores = torch.nn.Linear(8, 4), torch.nn.Linear(8, 3)

        def forward(self, x: Any) -> Any:
            rows = self.stem(x).flatten(2).transpose(1, 2)
            return self.boxes(rows).sigmoid(), self.scores(rows)

    torch.manual_seed(0)
    torch.onnx.export(
        Queries().eval(), (torch.zeros(1, 3, 64, 96),), str(path), opset_version=13, dynamo=False,
        input_names=["picture"], output_names=["boxes", "logits"],
    )  # fmt: skip
    return path


def test_a_draft_is_completed_and_exported(tmp_path: Path) -> None:
    path = queries(tmp_path / "detr.onnx")
    draft = run_json("inspect", path, "--draft-spec")
    assert draft["spec"]["decode"]["kind"] == "queries"
    assert draft["questions"]
    draft["spec"]["input"]["color"] = None
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(draft))
    refused(run("export", path, "--spec", spec, "--out", tmp_path / "out"), "got null at input.color")
    draft["spec"]["input"].update(color="RGB", scale=1 / 255, mean=[0, 0, 0], std=[1, 1, 1])
    draft["spec"]["resize"] = {"mode": "stretch"}
    draft["spec"]["classes"] = ["a", "b", "c"]
    spec.write_text(json.dumps(draft))
    result = run_json("export", path, "--spec", spec, "--out", tmp_path / "out", "--format", "onnx")
    assert result["bundle"] == str(tmp_path / "out")
    found = run_json("inspect", tmp_path / "out")
    assert (found["decode"], found["classes"], found["suppression"]) == ("queries", ["a", "b", "c"], "none")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "expected a spec in JSON"),
        ("[]", "expected"),
        ('{"spec": {"family": "x"}}', "spec.json: model spec"),
        ("", "JSON"),
    ],
)
def test_files_that_are_no_spec(tmp_path: Path, text: str, words: str) -> None:
    path = queries(tmp_path / "detr.onnx")
    (tmp_path / "spec.json").write_text(text)
    refused(run("export", path, "--spec", tmp_path / "spec.json", "--out", tmp_path / "out"), words)


def test_a_spec_goes_with_an_onnx_file(tmp_path: Path) -> None:
    path = queries(tmp_path / "detr.onnx")
    draft = run_json("inspect", path, "--draft-spec")["spec"]
    draft["input"].update(color="RGB", scale=1.0, mean=[0, 0, 0], std=[1, 1, 1])
    draft["resize"] = {"mode": "stretch"}
    (tmp_path / "spec.json").write_text(json.dumps(draft))
    refused(run("inspect", tmp_path / "spec.json", "--draft-spec"), "expected an ONNX file for --draft-spec")
    refused(run("export", "yolox-nano", "--spec", tmp_path / "spec.json"), "give its ONNX file")
