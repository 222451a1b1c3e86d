"""README's program runs as it stands, and what README says of the commands is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from edgedet.commands.default_model import default_bundle
from tests.cli.colors import INPUT_HW, run, solid

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_program(bundle: Path, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(program.splitlines()) <= 30
    video = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, INPUT_HW[::-1])
    for bgr in ((255, 0, 0), (0, 0, 255)):
        writer.write(solid(bgr))
    writer.release()
    command = [sys.executable, "-c", program, str(bundle), str(video)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["blue", "red"]


def test_every_command_is_listed_and_every_listed_command_exists() -> None:
    listed = set(re.findall(r"`edgedet (\w+)", README))
    known = set(re.findall(r"^│ (\w+) ", run("--help").stdout, re.MULTILINE))
    assert known
    assert listed == known


@pytest.mark.parametrize("option", sorted(set(re.findall(r"edgedet (\w+)[^`\n#]*?(--[a-z0-9-]+)", README))))
def test_options_exist(option: tuple[str, str]) -> None:
    command, name = option
    assert name in run(command, "--help").stdout


def test_paths() -> None:
    assert str(default_bundle()) in README
    samples = re.search(r"edgedet detect (models/\S+)", README)
    assert samples is not None
    assert list((ROOT / samples.group(1)).glob("*.jpg"))


def test_ci_runs_the_test_command() -> None:
    (command,) = re.findall(r"\.venv/bin/(pytest -n 2)\n```", README)
    assert command in (ROOT / ".ci/run").read_text(encoding="utf-8").replace('"$venv/bin/pytest"', "pytest")


def test_requirements_have_no_upper_bounds_and_their_tested_versions_are_constraints() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = pyproject[pyproject.index("\ndependencies = [") : pyproject.index("[project.scripts]")]
    wishes = [wish for wish in re.findall(r'"([^"]+)"', wanted) if not wish.startswith("edgedet")]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {line.split("==")[0].lower() for line in lines if not line.startswith("#")}
    assert "torch" in tested
    assert [wish for wish in wishes if "<" in wish or "==" in wish] == []
    assert {re.split(r"[<>=!~\[; ]", wish)[0].lower() for wish in wishes} - tested == set()
    for document in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        text = (ROOT / document).read_text(encoding="utf-8")
        installs = re.findall(r"/bin/pip\"? install (.*?)'\.\[", text)
        assert installs, document
        assert all("-c constraints.txt" in options for options in installs), document
