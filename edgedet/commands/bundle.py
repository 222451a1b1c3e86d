"""``edgedet bundle``: keys and signatures, and the two slots of a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedet import output
from edgedet.commands.numbers import COUNT, COUNT_OR_NONE, number
from edgedet.commands.options import Engine, Json, Threads, split_list

__all__ = ["app"]

app = typer.Typer(help="Sign bundles, check them (Ed25519), and update a device with two slots.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Folder of the bundle.", show_default=False)]
Slots = Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the two slots.", show_default=False)]


@app.command("keygen")
def keygen(
    key: Annotated[Path, typer.Argument(help="Private key to write (PEM); the public one goes beside it, as .pub.")],
) -> None:
    """Make a key pair."""
    from edgedet_runtime.bundle.keys import make_keys

    output.line(f"private key {key} (keep it off the devices), public key {make_keys(key)}")


@app.command("sign")
def sign(
    bundle: Folder,
    key: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="Private key, PEM; several times: devices with any of them take the bundle."),
    ],
    version: Annotated[
        int,
        typer.Option(
            parser=COUNT_OR_NONE,
            metavar="N",
            help="Grows with each update; devices take no older one than they have seen.",
        ),
    ] = 0,
    expires: Annotated[
        str | None, typer.Option(metavar="DATE", help="Day (its end) or time, UTC, from which on devices refuse it.")
    ] = None,
    architectures: Annotated[
        str | None,
        typer.Option("--arch", metavar="LIST", help="Machines that it is for, such as aarch64,x86_64; default: all."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model that it is an update of; each has its own versions.")
    ] = None,
) -> None:
    """Sign a bundle: the manifest, and through its hashes every file."""
    from edgedet_runtime.bundle.signature import sign_bundle

    machines = split_list(architectures, str, "--arch") or ()
    path = sign_bundle(bundle, *key, version=version, expires=expires, architectures=machines, model=model)
    output.line(f"signature written to {path}")
    if version == 0:
        output.note("without a version: devices that have seen a version of this model refuse it; give --version")


@app.command("verify")
def verify(
    bundle: Folder,
    key: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="Public key, PEM, or a folder of them; may be given several times."),
    ],
    json: Json = False,
) -> None:
    """Check that a bundle is signed with a key, unaltered and in force; exit 1 if not."""
    from dataclasses import asdict

    from edgedet_runtime.bundle.keys import read_public_keys
    from edgedet_runtime.bundle.signature import verify_signature

    signed = verify_signature(bundle, read_public_keys(key))
    signed.check_files()
    signed.statement.require_in_force(bundle, new=True)
    if json:
        facts = {"bundle": str(bundle), "key": signed.key.fingerprint, "key_file": str(signed.key.file)}
        output.document({**facts, "verified": True, **asdict(signed.statement)})
    else:
        output.line(f"{bundle}: {signed.statement}, every file as signed with {signed.key}")


@app.command("install")
def install(
    folder: Slots,
    bundle: Folder,
    engine: Engine = None,
    threads: Threads = None,
    tries: Annotated[int, number(COUNT, "Starts within which it must be confirmed.")] = 3,
) -> None:
    """Install a bundle beside the current one, and switch to it if it is fit; the next start runs it."""
    from edgedet_runtime.bundle.slots import install

    new = install(folder, bundle, engine=engine, threads=threads, tries=tries)
    output.line(f"{folder}: {new} is current, and has to be confirmed within {tries} starts of the program")


@app.command("confirm")
def confirm(folder: Slots) -> None:
    """Say that the current bundle works: it stays, and no older version is taken any more."""
    from edgedet_runtime.bundle.slots import confirm

    output.line(f"{folder}: {confirm(folder)} is confirmed")


@app.command("rollback")
def rollback(folder: Slots) -> None:
    """Go back to the bundle from before."""
    from edgedet_runtime.bundle.slots import rollback

    output.line(f"{folder}: {rollback(folder)} is current again")


@app.command("status")
def status(folder: Slots, json: Json = False) -> None:
    """Say what is in the slots, which is current, and what was taken back."""
    from dataclasses import asdict

    from edgedet_runtime.bundle.slot_state import read_state

    state = read_state(folder)
    if json:
        output.document(asdict(state))
        return
    for role, installed in (("current", state.current), ("before", state.previous)):
        if installed is None:
            output.line(f"{role}: nothing")
        elif installed.confirmed:
            output.line(f"{role}: {installed}, confirmed")
        else:
            output.line(f"{role}: {installed}, not confirmed in {installed.starts} of {state.tries} starts")
    output.line(f"no version before {state.highest} is taken" if state.highest else "no version was confirmed yet")
    if state.taken_back is not None:
        back = state.taken_back
        which = f"version {back.version}" if back.version else f"manifest {back.manifest_sha256[:12]}…"
        output.line(f"taken back: {which}, {back.why}")
