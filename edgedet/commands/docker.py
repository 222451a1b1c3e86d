"""``edgedet docker``: a bundle becomes a device image, for this and other architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedet import output
from edgedet.commands.options import Json, engine_option, split_list
from edgedet_runtime.choices import EngineName

__all__ = ["docker"]


def docker(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Folder of the bundle; without it, that of the built-in model.", show_default=False),
    ] = None,
    platforms: Annotated[
        str, typer.Option("--platform", metavar="LIST", help="linux/amd64, linux/arm64, linux/arm/v7, comma-separated.")
    ] = "linux/arm64",
    tag: Annotated[str, typer.Option(metavar="NAME", help="Name of the image.")] = "edgedet-app:1",
    engine: Annotated[
        EngineName | None,
        typer.Option(
            parser=engine_option,
            metavar="NAME",
            help="The engine in the image; default: by what the bundle and platform allow.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Build context to write; default: <bundle>-image.")
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Key, or folder of keys: the image refuses bundles not signed with one."),
    ] = None,
    build_arg: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="For the Dockerfile, such as BUILD_IMAGE=….")
    ] = None,
    secret: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="As docker's, such as id=pipconf,src=pip.conf.")
    ] = None,
    network: Annotated[str | None, typer.Option(metavar="NAME", help="Of the build, as docker's.")] = None,
    run: Annotated[
        bool | None, typer.Option("--run/--no-run", help="Build now; default: if a docker engine answers.")
    ] = None,
    json: Json = False,
) -> None:
    """Write the build context of a device image and build it."""
    import shlex

    from edgedet.commands.default_model import default_bundle
    from edgedet.device.docker_context import (
        Image,
        build_command,
        choose_engine,
        docker_answers,
        run_build,
        write_context,
    )
    from edgedet_runtime.bundle.slot_state import current_bundle
    from edgedet_runtime.errors import InputError
    from edgedet_runtime.writable import require_writable

    if out is not None:
        require_writable(out, argument="out")
    bundle = current_bundle(bundle or default_bundle())
    wanted = split_list(platforms, str, "--platform") or ()
    image = Image(
        bundle=bundle,
        platforms=wanted,
        engine=engine or choose_engine(bundle, wanted),
        tag=tag,
        public_key=public_key,
        build_args=tuple(build_arg or ()),
        secrets=tuple(secret or ()),
        network=network,
    )
    context = out or bundle.with_name(f"{bundle.name}-image")
    output.notes(write_context(image, context))
    command = build_command(image, context)
    if not json:
        output.line(shlex.join(command))
    answers = docker_answers() if run is not False else False
    if run and not answers:
        raise InputError("--run: expected a docker engine that answers `docker version`, got none: start it")
    if answers:
        run_build(image, context)
    if json:
        output.document(
            {"context": str(context), "engine": image.engine, "tag": tag, "command": command, "built": answers}
        )
    else:
        output.note(f"image {tag} ({image.engine}) built" if answers else f"context in {context}; nothing was built")
