"""Class names as checkpoints hold them: a list, names by id, or ids by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgedet_runtime.errors import CheckpointError

__all__ = ["class_names", "openmmlab_names"]


def class_names(names: Any, count: int) -> tuple[str, ...]:
    """Return a checkpoint's class names in the order of their ids.

    Args:
        names: A list of names; a dict from id to name, ids as numbers or digits; a dict turned round, from name to id,
            which people write by hand; or anything else, which counts as none.
        count: Classes that the head has.

    Returns:
        The names, or ``class0`` … where there are none.

    Raises:
        CheckpointError: The names are more or fewer than the classes, or their ids are not 0, 1, ….
    """
    if isinstance(names, Mapping) and names:
        names = _by_id(names)
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        return tuple(f"class{i}" for i in range(count))
    if len(names) != count:
        raise CheckpointError(
            f"class names: expected {count}, as the head has classes, got {len(names)};"
            " the file is damaged or was edited"
        )
    return tuple(str(name) for name in names)


def openmmlab_names(content: Any) -> Any:
    """Return what a file of mmengine or mmcv holds as class names, for `class_names`; None where it holds none."""
    meta = content.get("meta") if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping):
        return None
    dataset = meta.get("dataset_meta")
    if isinstance(dataset, Mapping):
        return dataset.get("classes", dataset.get("CLASSES"))
    return meta.get("CLASSES")


def _by_id(names: Mapping[Any, Any]) -> list[str]:
    for pairs in (names.items(), ((value, key) for key, value in names.items())):
        numbered = [(_number(index), str(name)) for index, name in pairs]
        by_id = {index: name for index, name in numbered if index is not None}
        if len(by_id) == len(names) and set(by_id) == set(range(len(names))):
            return [by_id[i] for i in range(len(by_id))]
    shown = ", ".join(f"{key!r}: {value!r}" for key, value in list(names.items())[:3])
    raise CheckpointError(
        f"class names: expected ids 0 to {len(names) - 1}, each with a name, got {{{shown[:80]}}}; the file is damaged"
        " or was edited"
    )


def _number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else None
