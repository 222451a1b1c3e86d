"""Exit codes: 0 fine, 1 a check failed, 2 bad input; what a missing package needs."""

from __future__ import annotations

import pytest

from edgedet_runtime import errors
from edgedet_runtime.errors import EdgedetError, MissingDependencyError

CODES = {
    "CheckFailedError": 1,
    "CheckpointError": 2,
    "EngineError": 2,
    "InputError": 2,
    "MissingDependencyError": 2,
    "ModelFileError": 2,
}


def test_each_error_has_its_code() -> None:
    kinds = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, EdgedetError) and kind is not EdgedetError
    }
    assert {name: code for name, code in kinds.items() if name in CODES} == CODES
    assert EdgedetError.exit_code == 2
    assert set(kinds.values()) <= {1, 2}


def test_a_missing_package_names_its_extra() -> None:
    error = MissingDependencyError("openvino", "openvino", "the engine openvino")
    assert (error.package, error.extra) == ("openvino", "openvino")
    with pytest.raises(EdgedetError, match=r"^the engine openvino needs openvino.*pip install"):
        raise error
