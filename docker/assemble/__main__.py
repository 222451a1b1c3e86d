"""Assemble the parts of an image in its build stage: ``python3 /assemble STEP …``; standard library only."""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from pathlib import Path

from application import check_bundle, install_application
from debian import install_system
from platforms import RefusedError, find_platform, lock_names
from sbom import make_sbom
from wheels import compile_tree, install_wheels

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run one step; 0 fine, 2 refused."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    arguments = _parser().parse_args()
    try:
        _run(arguments)
    except RefusedError as e:
        logging.error("error: %s", e)
        return 2
    except subprocess.CalledProcessError as e:
        logging.error("error: %s ended with code %s", " ".join(map(str, e.cmd[:3])), e.returncode)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="assemble", description=__doc__)
    parser.add_argument("step", choices=("system", "wheels", "application", "sbom"))
    parser.add_argument("--arch", required=True, help="Docker's TARGETARCH")
    parser.add_argument("--variant", default="", help="Docker's TARGETVARIANT")
    parser.add_argument("--engine", required=True)
    parser.add_argument("--sign", default="", help="not empty: with what checks signatures")
    parser.add_argument("--strict", default="", help="not empty: Debian packages exactly as locked")
    parser.add_argument("--locks", type=Path, default=HERE.parent / "locks")
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--root", type=Path, action="append", default=[], help="for sbom: what the image is made of")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    platform = find_platform(arguments.arch, arguments.variant)
    engine = arguments.engine
    locks = [arguments.locks / name for name in lock_names(platform, engine, sign=bool(arguments.sign))]
    out: Path = arguments.out
    if arguments.step == "system":
        lock = arguments.locks / f"debian-{platform.key}.txt"
        install_system(platform, engine, out, sign=bool(arguments.sign), lock=lock, strict=bool(arguments.strict))
        compile_tree(out)
    elif arguments.step == "wheels":
        install_wheels(platform, locks, out, prune=engine != "export")
        compile_tree(out)
    elif arguments.step == "application":
        install_application(arguments.sources, out, with_export=engine == "export")
        compile_tree(out)
    else:
        if arguments.bundle is not None:
            logging.info(check_bundle(arguments.bundle))
        text = make_sbom(platform, engine, arguments.root, arguments.bundle, locks)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
