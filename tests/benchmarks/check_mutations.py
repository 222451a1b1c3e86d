"""Mutation check: puts small faults into a copy of the tree, one at a time, and reports those that no test notices.

    python tests/benchmarks/check_mutations.py --room runtime [--sample 150] [--seed 0] [--out FILE]
    python tests/benchmarks/check_mutations.py --named            # only the faults listed by hand, of all rooms
    python tests/benchmarks/check_mutations.py --room runtime --file nms.py --all --tests tests/runtime/test_nms.py

Faults come from the syntax tree (``mutations/sites.py``: constants, comparisons, arithmetic, dropped terms and
statements, negated conditions) and from a list by hand (``mutations/named.py``). A sample is drawn by name and seed: it
is the same on each machine, and a larger one contains a smaller one. A fault runs the tests of its room
(``mutations/rooms.py``) that call its function, and those that share a file with them, up to the first failure.
``mutations/equivalent.json`` names faults that change nothing that anyone could see, with the reason; they are left
out.

``--out`` keeps the results as JSON and resumes from them: what was noticed, with the file unchanged since, is not tried
again; survivors are. Exits 1 if a named fault survives, or one in twenty of the others or more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.mutations.calls import Calls, Chooser, Listener  # noqa: E402
from tests.benchmarks.mutations.named import NAMED  # noqa: E402
from tests.benchmarks.mutations.rooms import ROOMS  # noqa: E402
from tests.benchmarks.mutations.sites import mutations_of, sample_key  # noqa: E402
from tests.benchmarks.mutations.trial import copy_tree, preload, put_in, run_tests  # noqa: E402
from tests.shared_folder import shared_folder  # noqa: E402

EQUIVALENT = Path(__file__).parent / "mutations" / "equivalent.json"
MOST_SURVIVORS = 1 / 20


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault to try: a file and its text with the fault."""

    room: str
    path: str
    where: str
    name: str
    text: str
    named: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a fault.

    Attributes:
        room: Key of `ROOMS`.
        name: The fault's name.
        named: Whether it is of the list by hand.
        source: SHA-256 of the file without the fault.
        survived: Whether all tests passed.
        by: The test that noticed it, or what else ended the run.
        seconds: Wall time.
    """

    room: str
    name: str
    named: bool
    source: str
    survived: bool
    by: str
    seconds: float


def main() -> int:
    """Try the faults and print survivors."""
    options = _options()
    rooms = [options.room] if options.room else list(ROOMS)
    folders = {name: tuple(options.tests or ROOMS[name].tests) for name in rooms}
    known = _read_results(options.out)
    faults = [fault for fault in _named(rooms) if options.file in fault.path]
    if not options.named:
        if not options.room:
            sys.stderr.write("--room: expected one of the rooms, or --named\n")
            return 2
        faults += _drawn(options.room, options.file, None if options.all else options.sample, options.seed)
    preload()
    results = []
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        tree = Path(folder)
        copy_tree(ROOT, tree)
        os.environ["EDGEDET_SHARED"] = str(shared_folder())
        calls = {name: _listen(tree, name, folders[name]) for name in sorted({fault.room for fault in faults})}
        for i, fault in enumerate(faults):
            source = hashlib.sha256((tree / fault.path).read_bytes()).hexdigest()
            before = known.get(fault.name)
            if before is not None and not before.survived and before.source == source:
                result = before
            else:
                tests, files = calls[fault.room].callers(fault.path, fault.where)
                limit = 20 + 3 * sum(calls[fault.room].tests[test][0] for test in tests)
                with put_in(tree / fault.path, fault.text):
                    outcome = run_tests(tree, files, ROOMS[fault.room].markers, timeout_s=limit, plugin=Chooser(tests))
                survived, seconds = not outcome.failed, round(outcome.seconds, 2)
                result = Result(fault.room, fault.name, fault.named, source, survived, outcome.by, seconds)
                said = "SURVIVED" if result.survived else "noticed "
                sys.stdout.write(f"{i + 1}/{len(faults)} {said} {result.seconds:5.1f} s  {result.name}\n")
                sys.stdout.flush()
            results.append(result)
            known[fault.name] = result
            _write_results(options.out, known)
    return _conclude(results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", choices=sorted(ROOMS), help="source folder and its tests")
    parser.add_argument("--file", default="", help="only files whose path contains this")
    parser.add_argument("--tests", nargs="+", help="only these test files and folders, not all of the room's")
    parser.add_argument("--sample", type=int, default=100, help="how many faults to draw")
    parser.add_argument("--all", action="store_true", help="try all that the files offer")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--named", action="store_true", help="only the faults listed by hand")
    parser.add_argument("--out", type=Path, help="JSON to keep results in and to resume from")
    return parser.parse_args()


def _named(rooms: list[str]) -> Iterator[Fault]:
    for fault in NAMED:
        if fault.room in rooms:
            source = (ROOT / fault.path).read_text(encoding="utf-8")
            times = source.count(fault.old)
            if times != 1:
                raise SystemExit(f"named fault {fault.name}: expected its text once, got it {times} times")
            text = source.replace(fault.old, fault.new)
            yield Fault(fault.room, fault.path, "module", fault.name, text, named=True)


def _drawn(room: str, part: str, sample: int | None, seed: int) -> list[Fault]:
    equivalent = {entry["fault"] for entry in json.loads(EQUIVALENT.read_text(encoding="utf-8"))}
    folder = ROOT / ROOMS[room].source
    found = []
    for path in [folder] if folder.is_file() else sorted(folder.rglob("*.py")):
        name, source = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        mutations = {m.name: m for m in mutations_of(source, name)} if part in name else {}
        for stale in sorted(e for e in equivalent - set(mutations) if mutations and e.startswith(f"{name}::")):
            sys.stderr.write(f"equivalent.json: the line changed, look again whether this changes nothing: {stale}\n")
        found += [(m, source) for m in mutations.values() if m.name not in equivalent]
    found.sort(key=lambda pair: sample_key(pair[0], seed))
    return [Fault(room, m.path, m.where, m.name, m.apply(source), named=False) for m, source in found[:sample]]


def _listen(tree: Path, room: str, tests: Sequence[str]) -> Calls:
    """Run tests of a room without a fault and learn which calls what."""
    report = tree / "calls.json"
    outcome = run_tests(
        tree,
        tests,
        ROOMS[room].markers,
        timeout_s=1800,
        plugin=Listener(tree, report),
        keep_compiled=True,
    )
    if outcome.failed:
        raise SystemExit(f"{room}: expected the tests to pass without a fault, got a failure: {outcome.by}")
    sys.stdout.write(f"{room}: {outcome.seconds:.1f} s without a fault\n")
    return Calls.read(report)


def _read_results(path: Path | None) -> dict[str, Result]:
    if path is None or not path.is_file():
        return {}
    return {entry["name"]: Result(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))}


def _write_results(path: Path | None, results: dict[str, Result]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps([asdict(r) for r in results.values()], indent=1) + "\n", encoding="utf-8")
        aside.replace(path)


def _conclude(results: list[Result]) -> int:
    """Print the count and the survivors; return the exit code."""
    bad = False
    for room in sorted({r.room for r in results}):
        for named in (True, False):
            tried = [r for r in results if r.room == room and r.named is named]
            survivors = [r for r in tried if r.survived]
            if not tried:
                continue
            kind = "named" if named else "drawn"
            sys.stdout.write(f"\n{room}: {len(survivors)} of {len(tried)} {kind} faults survive\n")
            sys.stdout.writelines(f"  {r.name}\n" for r in survivors)
            bad |= len(survivors) > 0 if named else len(survivors) >= MOST_SURVIVORS * len(tried)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
