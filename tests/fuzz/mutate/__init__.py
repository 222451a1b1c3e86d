"""Changes to files: `mutated` makes one input of a seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from random import Random

from tests.fuzz.case import Files, Weighted
from tests.fuzz.mutate.blocks import splice

__all__ = ["mutated"]


def mutated(rng: Random, seeds: list[Files], mutators: Mapping[str, Weighted]) -> Files:
    """Return a changed copy of one of the seeds.

    One to three changes, nearly always to one file; the others stay as they are. A file is also dropped, emptied or
    crossed with the same file of another seed now and then.
    """
    files = dict(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        names = [name for name in sorted(files) if _choices(name, mutators)]
        if not names:
            break
        name, chance = rng.choice(names), rng.random()
        if chance < 0.004 and len(files) > 1:
            del files[name]
        elif chance < 0.008:
            files[name] = b""
        elif chance < 0.04:
            others = [seed[n] for seed in seeds for n in sorted(seed) if _ending(n) == _ending(name)]
            files[name] = splice(rng, files[name], rng.choice(others))
        else:
            choices = _choices(name, mutators)
            (mutator,) = rng.choices([m for _, m in choices], [weight for weight, _ in choices])
            files[name] = mutator(rng, files[name])
    return files


def _ending(name: str) -> str:
    path = PurePosixPath(name)
    return path.suffix or path.name


def _choices(name: str, mutators: Mapping[str, Weighted]) -> Weighted:
    """Return what can be done to a file: by its name, by its ending, by default."""
    return mutators.get(PurePosixPath(name).name, mutators.get(_ending(name), mutators.get("", ())))
