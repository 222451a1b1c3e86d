"""``edgedet profile --host`` against an sshd on loopback that the test starts; plus what needs no ssh."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgedet.device.remote import SSH_VARIABLE, Board
from edgedet_runtime import InputError
from edgedet_runtime.board_worker import run as run_on_board
from edgedet_runtime.bundle.plan import Plan, StoredPlan, read_plan
from edgedet_runtime.cpu import this_processor
from tests.cli.colors import refused, run

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
STARTS_WITHIN_S = 15.0


@pytest.fixture
def loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start an sshd of the test's own on 127.0.0.1 and yield a host name for it; its home is the test's folder."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("needs ssh and sshd (Debian: openssh-client, openssh-server)")
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile {folder}/pid\nStrictModes no\nPasswordAuthentication no\nUsePAM no\n"
        f"SetEnv XDG_CACHE_HOME={tmp_path}/cache OMP_NUM_THREADS=1\n"
    )
    (folder / "config").write_text(
        f"Host board\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n IdentityFile {folder}/user\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known\n StrictHostKeyChecking accept-new\n BatchMode yes\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    monkeypatch.setenv(SSH_VARIABLE, f"ssh -F {folder}/config")
    daemon = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        _wait_for(port, daemon)
        yield "board"
    finally:
        daemon.terminate()
        daemon.wait(10)


def _wait_for(port: int, daemon: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < end:
        if daemon.poll() is not None:
            assert daemon.stderr is not None
            pytest.skip(f"sshd does not start here: {daemon.stderr.read().decode()[-200:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"sshd did not listen within {STARTS_WITHIN_S} s")


@pytest.mark.slow
def test_board_is_examined_and_profiled_over_ssh(loopback: str, bundle: Path, tmp_path: Path) -> None:
    options = ["--host", loopback, "--host-python", sys.executable, "--engine", "onnxruntime", "--threads", "1"]
    options += ["--runs", "3", "--cold-starts", "1", "--cold-runs", "1", "--no-layers", "--json"]
    result = run("profile", bundle, *options)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["host"] == loopback
    assert document["doctor"]["exit_code"] == 0
    (plan,) = document["profile"]["plans"]
    assert plan["engine"] == "onnxruntime"
    assert len(plan["samples"]["end_to_end_ms"]) == 3
    assert plan["cold_start"]["repeats"] == 1
    cache = tmp_path / "cache/edgedet"
    assert document["doctor"]["bundle"].startswith(str(cache))
    before = {path.name: path.stat().st_ino for path in cache.iterdir()}
    assert {name.split("-")[0] for name in before} == {"runtime", "bundle"}

    old, page = tmp_path / "old.json", tmp_path / "page.html"
    old.write_text(result.stdout)
    text = run("profile", bundle, *options[:-1], "--save-plan", "--html", page, "--compare", old)
    assert text.exit_code in (0, 1), text.output  # 1 where it happened to be slower
    for words in (
        "recommended: onnxruntime fp32",
        "steps of onnxruntime fp32",
        "governor",
        "first result s",
        "new / old",
    ):
        assert words in text.stdout
    assert read_plan(bundle) == StoredPlan(Plan("onnxruntime", "fp32", 1), this_processor())
    assert "Where the time goes" in page.read_text()
    assert {path.name: path.stat().st_ino for path in cache.iterdir()} == before, "sent again, though it was there"

    missing = run("profile", bundle, "--host", loopback, "--host-python", "/nonexistent/python")
    refused(missing, loopback, "/nonexistent/python")


def test_board_that_does_not_answer_is_one_line(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("needs ssh (Debian: openssh-client)")
    (tmp_path / "config").write_text("Host board\n HostName 127.0.0.1\n Port 1\n BatchMode yes\n")
    monkeypatch.setenv(SSH_VARIABLE, f"ssh -F {tmp_path}/config")
    refused(run("profile", bundle, "--host", "board"), "--host board", "cannot reach")
    monkeypatch.setenv(SSH_VARIABLE, "/nonexistent/ssh")
    refused(run("profile", bundle, "--host", "board"), "/nonexistent/ssh")


@pytest.mark.parametrize("host", ["", "-oProxyCommand=x", "two words"])
def test_host_that_ssh_would_take_for_an_option_is_refused(host: str) -> None:
    with pytest.raises(InputError, match="--host"):
        Board(host)


def test_options_that_only_work_here_are_refused(bundle: Path) -> None:
    refused(run("profile", bundle, "--host", "board", "--image", "photo.png"), "--host", "--image")


def test_unfit_bundle_is_not_profiled(bundle: Path) -> None:
    (bundle / "golden.npz").write_bytes(b"x")
    document = run_on_board({"bundle": str(bundle), "engines": ["onnxruntime"]})
    assert document["profile"] is None
    assert document["doctor"]["exit_code"] == 1
