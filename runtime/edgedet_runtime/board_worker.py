"""What ``edgedet profile --host`` starts on the board: doctor and profile, one JSON document on standard output.

::

    python3 -m edgedet_runtime.board_worker '{"bundle": "…", "engines": ["onnxruntime"], "runs": 50}'

It needs what the runtime needs, numpy, OpenCV and an engine, and nothing of the command line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from edgedet_runtime.errors import EdgedetError

__all__ = ["main", "run"]


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Examine and profile a bundle.

    Args:
        request: ``bundle``, its folder, and the fields of `ProfileConfig` by name.

    Returns:
        ``doctor`` and ``profile``, as those commands print them with ``--json``; ``profile`` is None where the doctor
        finds the bundle unfit.

    Raises:
        EdgedetError: The bundle cannot be read, or an engine failed.
    """
    from edgedet_runtime.doctor import examine
    from edgedet_runtime.profiling.session import ProfileConfig, profile_model

    bundle = Path(request["bundle"])
    fields: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in request.items() if name != "bundle"
    }
    config = ProfileConfig(**fields)
    engine = config.engines[0] if config.engines is not None and len(config.engines) == 1 else None
    report = examine(bundle, engine=engine)
    profile = None if report.exit_code else profile_model(bundle, config).to_dict()
    return {"doctor": report.to_dict(), "profile": profile}


def main() -> int:
    """Run the request that stands in the first argument; errors made on purpose come back in the document."""
    try:
        document = run(json.loads(sys.argv[1]))
    except EdgedetError as e:
        document = {"error": str(e), "exit_code": e.exit_code}
    sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
