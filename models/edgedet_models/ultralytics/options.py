"""Training options in a checkpoint, in the forms that the versions of Ultralytics' code gave them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgedet_models.checkpoint.content import PickledObject

__all__ = ["find_option"]


def find_option(places: Iterable[Any], key: str) -> Any:
    """Return the first value of an option; None if no place has it.

    Args:
        places: Dicts; inert namespaces, whose attributes are the options; inert ``omegaconf.DictConfig`` objects of
            January 2023, whose entries hold their values one by one; anything else counts as empty.
        key: Name of the option.
    """
    for place in places:
        options = place.state if isinstance(place, PickledObject) else place
        if not isinstance(options, Mapping):
            continue
        entries = options.get("_content")
        options = entries if isinstance(entries, Mapping) else options
        if key in options:
            value = options[key]
            inner = value.state if isinstance(value, PickledObject) else None
            return inner.get("_val") if isinstance(inner, Mapping) else value
    return None
