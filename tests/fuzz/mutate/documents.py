"""Changes to JSON and YAML as trees of values, and to their text."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any, TypeGuard

from tests.fuzz.case import Weighted
from tests.fuzz.mutate.blocks import BLOCKS
from tests.fuzz.mutate.numbers import odd_integer, odd_number_text, odd_text

__all__ = ["JSON", "YAML", "change_tree", "json_tree"]


def change_tree(rng: Random, tree: Any) -> Any:
    """Return a copy of a tree of lists, objects and scalars, with one place changed."""
    tree = copy.deepcopy(tree)
    places = list(itertools.islice(_places(tree), 5000))  # aliases of aliases have more than anyone can count
    if not places:
        return _other_value(rng, tree)
    holder, key = rng.choice(places)
    chance = rng.random()
    if chance < 0.12:
        del holder[key]
    elif chance < 0.2 and isinstance(holder, list):
        holder[key:key] = [holder[key]] * rng.choice((1, 2, 50, 5000))
    elif chance < 0.2:
        holder[odd_text(rng)] = holder.pop(key)
    elif chance < 0.27:
        other_holder, other_key = rng.choice(places)
        holder[key] = copy.deepcopy(other_holder[other_key])
    else:
        holder[key] = _other_value(rng, holder[key])
    return tree


def _places(tree: Any) -> Any:
    """Yield every place as its holder and key; what holds much is not gone through in full."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for number, (key, value) in enumerate(items):
        if number > 200:
            return
        yield tree, key
        yield from _places(value)


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Return whether a value is a number with which one can reckon: an int that JSON gives may fit no float."""
    return type(value) is float or (type(value) is int and abs(value) < 1 << 100)


def _other_value(rng: Random, value: Any) -> Any:
    """Return a value of another type, an extreme, or one that is slightly off."""
    if _is_number(value) and rng.random() < 0.5:
        return rng.choice((-value, value + 1, value * 1000, value + 0.5, 0, str(value), [value], odd_integer(rng)))
    if isinstance(value, str) and rng.random() < 0.4:
        return rng.choice((value * 2, value.upper(), value + "\x00", value + "/..", "../" + value, value[:-1], [value]))
    choices: list[Callable[[], Any]] = [
        lambda: None,
        lambda: rng.random() < 0.5,
        lambda: odd_integer(rng),
        lambda: odd_text(rng),
        lambda: rng.choice((float("nan"), float("inf"), -float("inf"), 1e308, 5e-324, -0.0, 1e18, 0.5)),
        lambda: rng.choice(([], {}, [[]], {"": None}, [None], {"a": {}}, [0] * 1000)),
        lambda: [value, value],
        lambda: {"value": value},
        lambda: _nested(rng.choice((10, 50, 300)), rng.random() < 0.5),
    ]
    return rng.choice(choices)()


def _nested(depth: int, lists: bool) -> Any:
    tree: Any = 1
    for _ in range(depth):
        tree = [tree] if lists else {"a": tree}
    return tree


def json_tree(rng: Random, data: bytes) -> bytes:
    """Change a JSON file's tree."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return _json_text(rng, data)
    text = json.dumps(change_tree(rng, tree), ensure_ascii=rng.random() < 0.8, indent=rng.choice((None, 1)))
    return text.encode("utf-8", "surrogatepass")


def _json_text(rng: Random, data: bytes) -> bytes:
    """Change JSON's text: repeated keys, endless nesting, odd numbers, other encodings, comments, two documents."""
    text = data.decode("utf-8", "replace")
    values = list(re.finditer(r"(?<=[:\[,])\s*(-?\d[\d.e+-]*|true|false|null|\"[^\"]*\")", text[: 1 << 16]))
    chance = rng.random()
    if chance < 0.5 and values:
        hit = rng.choice(values)
        deep = rng.choice((100, 1000, 100_000))
        new = rng.choice(
            (
                odd_number_text(rng),
                "[" * deep + "]" * deep,
                "[" * deep,
                '{"a":' * deep + "1" + "}" * deep,
                "1e" + "9" * rng.choice((3, 30)),
                "9" * rng.choice((20, 400, 5000)),
                '"\\ud800"',
                '"\\u0000"',
                "NaN",
                "-Infinity",
            )
        )
        return (text[: hit.start()] + new + text[hit.end() :]).encode("utf-8", "surrogatepass")
    if chance < 0.65:
        found = list(re.finditer(r'"[^"]*"\s*:\s*[^,{}\[\]]+,', text[: 1 << 16]))
        if found:
            hit = rng.choice(found)
            return (text[: hit.start()] + hit[0] * rng.choice((2, 1000)) + text[hit.start() :]).encode()
    coding = rng.choice(("utf-16", "utf-32", "utf-8-sig", "latin-1"))
    forms = (text.encode(coding, "replace"), data + data, b"// x\n" + data, data.rstrip()[:-1] + b",}", b"\xff" + data)
    return rng.choice(forms)


def _yaml_tree(rng: Random, data: bytes) -> bytes:
    """Change a YAML file's tree."""
    import yaml

    try:
        tree = yaml.safe_load(data)
        text = yaml.safe_dump(change_tree(rng, tree), default_flow_style=rng.choice((None, True, False)))
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError):
        return _yaml_text(rng, data)
    return text.encode("utf-8", "surrogatepass")


def _yaml_text(rng: Random, data: bytes) -> bytes:
    """Change YAML's text: anchors, merges, tags, directives, tabs, documents, nesting in both styles."""
    lines = data.decode("utf-8", "replace").split("\n")
    at = rng.randrange(len(lines))
    laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    laughs += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, rng.choice((3, 9)))]
    deep = rng.choice((5, 19, 21, 2000))
    odd = [
        "? [a, b]\n: c",
        "<<: *a0",
        "<<: {a: 1}",
        "&self x: *self",
        "x: &x [*x]",
        "x: !!python/object/apply:os.system [id]",
        "x: !!binary AAAA",
        "x: !!int 0x_",
        "x: !!timestamp 9999-99-99",
        "%YAML 9.9",
        "%TAG ! tag:x,2000:",
        "---",
        "...",
        "\tx: 1",
        "x: |9\n  y",
        "x: >\n" + "  y\n" * 100,
        "x: " + "[" * deep + "]" * deep,
        "x: " + "{a: " * deep + "}" * deep,
        "- " * deep + "x",
        "x: 'unclosed",
        'x: "\\U0011FFFF"',
        'x: "\\ud800"',
        "x: 1:2:3:99999999999",
        "\x00",
        "\x85",
        "\ufeff",
        "names: *none",
        "*a0 : b",
        *laughs,
    ]
    if rng.random() < 0.3:
        words = lines[at].split(":")
        words[-1] = " " + rng.choice((odd_number_text(rng), odd_text(rng)))
        lines[at] = ":".join(words)
    elif rng.random() < 0.3:
        lines = laughs + [line.replace("val", "a8") if rng.random() < 0.2 else line for line in lines]
    else:
        lines.insert(at, rng.choice(odd))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


JSON: Weighted = ((6.0, json_tree), (2.0, _json_text), *((weight * 0.15, mutator) for weight, mutator in BLOCKS))
YAML: Weighted = ((4.0, _yaml_tree), (4.0, _yaml_text), *((weight * 0.15, mutator) for weight, mutator in BLOCKS))
