"""``edgedet bundle``: keys, signatures, and the check of both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedet import output
from edgedet.commands.options import Json

__all__ = ["app"]

app = typer.Typer(help="Sign bundles and check their signatures (Ed25519).", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Folder of the bundle.", show_default=False)]


@app.command("keygen")
def keygen(
    key: Annotated[Path, typer.Argument(help="Private key to write (PEM); the public one goes beside it, as .pub.")],
) -> None:
    """Make a key pair."""
    from edgedet_runtime.bundle.signature import make_keys

    output.line(f"private key {key} (keep it off the devices), public key {make_keys(key)}")


@app.command("sign")
def sign(
    bundle: Folder,
    key: Annotated[Path, typer.Option(metavar="FILE", help="Private key, PEM.", show_default=False)],
) -> None:
    """Sign a bundle: the manifest, and through its hashes every file."""
    from edgedet_runtime.bundle.signature import sign_bundle

    output.line(f"signature written to {sign_bundle(bundle, key)}")


@app.command("verify")
def verify(
    bundle: Folder,
    key: Annotated[Path, typer.Option(metavar="FILE", help="Public key, PEM.", show_default=False)],
    json: Json = False,
) -> None:
    """Check that a bundle is signed with a key and unaltered; exit 1 if not."""
    from edgedet_runtime.bundle.signature import verify_signature

    fingerprint = verify_signature(bundle, key)
    if json:
        output.document({"bundle": str(bundle), "key": fingerprint, "verified": True})
    else:
        output.line(f"{bundle}: every file as signed with {fingerprint[:16]}…")
