"""The JSON Schema of a manifest; ``python -m edgedet_runtime.bundle.manifest_schema`` writes its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgedet_runtime.bundle.manifest import Manifest
from edgedet_runtime.json_schema import json_schema
from edgedet_runtime.spec import ModelSpec

__all__ = ["SCHEMA_FILE", "manifest_schema"]

SCHEMA_FILE = Path(__file__).with_name("manifest.schema.json")


def manifest_schema() -> dict[str, Any]:
    """Return the schema; the spec in it is an object of the published spec's schema, ``spec.schema.json``."""
    return json_schema(Manifest, title="manifest.json of an edgedet bundle", elsewhere={ModelSpec: {"type": "object"}})


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(manifest_schema(), indent=1) + "\n", encoding="utf-8")
