"""A pickle machine that cannot import or call: it turns a pickle stream into inert data.

Python's own unpickler resolves names to live objects and calls them; here a name becomes a `Global` (two
strings), and "calling" it goes to a `Calls` policy, which answers with data or refuses. There is no
instruction left that could reach code. The opcodes are decoded by `pickletools.genops`, which decodes
arguments and nothing else, and checks every length against the bytes that are there.

Opcodes and their semantics: Python's ``pickletools`` documentation, protocols 0 to 5.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from edgedet_models.checkpoint.budget import COLLIDING_KEY, ITEM, OPCODE, MalformedPickle, ReadBudget
from edgedet_models.checkpoint.content import PickledObject
from edgedet_runtime.printable import shown

__all__ = [
    "Calls",
    "Global",
    "Pending",
    "RefusedPickle",
    "Stream",
    "run_pickle",
    "safe_key",
]

MAX_KEY_DEPTH = 4
"""Tuples as dict keys are hashed recursively by C code without a depth check."""

MAX_NAME = 1024
"""Characters of a module's or class's dotted name; the longest in use have about 100."""


class RefusedPickle(Exception):
    """The stream asks for something that a checkpoint has no business to ask for."""


class Stream(Protocol):
    """What a pickle is read from, such as ``io.BytesIO`` or ``mmap.mmap``."""

    def read(self, n: int = ..., /) -> bytes:
        """Read up to n bytes."""
        ...

    def readline(self) -> bytes:
        """Read up to and with the next newline."""
        ...


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that a pickle names; two strings, never resolved."""

    module: str
    name: str

    def __post_init__(self) -> None:
        """Refuse what is no name."""
        if len(self.module) + len(self.name) > MAX_NAME:
            raise MalformedPickle(f"a name of {len(self.module) + len(self.name)} characters")

    @property
    def path(self) -> str:
        """Dotted path as the file names it."""
        return f"{self.module}.{self.name}"


class Pending:
    """A value that is complete only after the BUILD that follows its construction, such as a numpy array."""

    def __init__(self, finish: Callable[[Any], Any]) -> None:
        """`finish` maps the state of BUILD to the value."""
        self.finish = finish
        self.memo_keys: list[int] = []


class Calls(Protocol):
    """Policy: what a pickle's call of a named thing gives.

    Attributes:
        budget: What the read may take; the machine charges its own work to it too.
    """

    budget: ReadBudget

    def call(self, target: Global, args: tuple[Any, ...]) -> Any:
        """Answer ``target(*args)`` (REDUCE, INST, OBJ) with data, or raise `RefusedPickle`."""
        ...

    def new(self, target: Global, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer ``target.__new__(target, *args, **kwargs)`` with data, or raise `RefusedPickle`."""
        ...

    def persistent(self, pid: Any) -> Any:
        """Answer a persistent id: torch's storages."""
        ...


_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    RuntimeError,  # torch's answer to sizes that it cannot represent
    TypeError,
    ValueError,
)


def run_pickle(stream: Stream, calls: Calls) -> Any:
    """Run one pickle up to its STOP; the stream is left just behind it.

    Raises:
        MalformedPickle: No pickle, damaged, or beyond the budget of ``calls``.
        RefusedPickle: The pickle wants to run something.
    """
    machine = _Machine(calls)
    position: int | None = 0
    try:
        for opcode, arg, at in pickletools.genops(cast("IO[bytes]", stream)):
            position = at
            calls.budget.charge(OPCODE + (0 if arg is None else sys.getsizeof(arg)))
            if opcode.name == "STOP":
                return machine.pop()
            step = machine.steps.get(opcode.name)
            if step is not None:
                step(arg)
            else:
                machine.stack.append(_literal(opcode.name, arg))
    except _DAMAGE as e:
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise MalformedPickle(f"at byte {position}: {reason}") from None
    raise MalformedPickle("ends without STOP")


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_LITERALS = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    ]
)


def _literal(name: str, arg: Any) -> Any:
    if name in _LITERALS:
        return arg
    if name in _CONSTANTS:
        return _CONSTANTS[name]()
    if name.startswith("EXT"):
        raise RefusedPickle(f"uses the extension registry (opcode {name})")
    raise MalformedPickle(f"opcode {name} does not occur in checkpoints")


def safe_key(value: Any, budget: ReadBudget, depth: int = 0) -> Any:
    """Return `value` if hashing it is safe, and charge what that costs.

    Raises:
        MalformedPickle: Its nesting would overflow the C stack, it is as wide as it is deep, or there are too many
            keys of a kind that can be made to collide.
    """
    if isinstance(value, tuple):
        if depth == MAX_KEY_DEPTH:
            raise MalformedPickle("a dict key is nested too deeply")
        budget.charge(COLLIDING_KEY if depth == 0 else ITEM)
        for item in value:
            safe_key(item, budget, depth + 1)
    elif isinstance(value, frozenset):
        budget.charge(COLLIDING_KEY + ITEM * len(value))
    elif isinstance(value, int) and value.bit_length() > 64:
        budget.charge(COLLIDING_KEY + value.bit_length())
    else:
        budget.charge(ITEM)
    return value


class _Machine:
    """Stack, memo and the opcodes that do more than push a literal."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.budget = calls.budget
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.steps: dict[str, Callable[[Any], None]] = {
            "PROTO": self._protocol,
            "FRAME": lambda arg: None,
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), self._get),
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._put),
            "MEMOIZE": lambda arg: self._put(len(self.memo)),
            "MARK": self._mark,
            "POP": self._discard,
            "POP_MARK": lambda arg: self._discard_mark(),
            "DUP": lambda arg: self.stack.append(self.stack[-1]),
            "TUPLE": lambda arg: self._push_after(tuple),
            "TUPLE1": lambda arg: self._tuple(1),
            "TUPLE2": lambda arg: self._tuple(2),
            "TUPLE3": lambda arg: self._tuple(3),
            "LIST": lambda arg: self._push_after(list),
            "DICT": lambda arg: self._push_after(self._pairs),
            "FROZENSET": lambda arg: self._push_after(lambda items: frozenset(map(self._key, items))),
            "APPEND": lambda arg: self._extend([self.pop()]),
            "APPENDS": lambda arg: self._extend(self._pop_mark()),
            "ADDITEMS": lambda arg: self._extend(self._pop_mark()),
            "SETITEM": lambda arg: self._set_items([self.stack.pop(-2), self.pop()]),
            "SETITEMS": lambda arg: self._set_items(self._pop_mark()),
            "GLOBAL": self._global,
            "STACK_GLOBAL": self._stack_global,
            "REDUCE": self._reduce,
            "INST": self._inst,
            "OBJ": self._obj,
            "NEWOBJ": self._newobj,
            "NEWOBJ_EX": self._newobj_ex,
            "BUILD": self._build,
            "PERSID": lambda arg: self.stack.append(self.calls.persistent(arg)),
            "BINPERSID": lambda arg: self.stack.append(self.calls.persistent(self.pop())),
        }

    def _protocol(self, arg: Any) -> None:
        if arg > 5:
            raise MalformedPickle(f"pickle protocol {arg}: expected 0 to 5")

    def pop(self) -> Any:
        if not self.stack:
            raise MalformedPickle("the stack is empty")
        return self.stack.pop()

    def _mark(self, arg: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _discard(self, arg: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._pop_mark()

    def _discard_mark(self) -> None:
        self._pop_mark()

    def _push_after(self, make: Callable[[list[Any]], Any]) -> None:
        items = self._pop_mark()
        self.stack.append(make(items))

    def _tuple(self, n: int) -> None:
        items = [self.pop() for _ in range(n)]
        self.stack.append(tuple(reversed(items)))

    def _key(self, value: Any) -> Any:
        return safe_key(value, self.budget)

    def _pairs(self, items: list[Any]) -> dict[Any, Any]:
        if len(items) % 2:
            raise MalformedPickle("a dict with a key and no value")
        return {self._key(k): v for k, v in zip(items[::2], items[1::2], strict=True)}

    def _get(self, arg: Any) -> None:
        self.stack.append(self.memo[int(arg)])

    def _put(self, arg: Any) -> None:
        value = self.stack[-1]
        self.memo[int(arg)] = value
        if isinstance(value, Pending):
            value.memo_keys.append(int(arg))

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(map(self._key, items))
        elif isinstance(target, PickledObject):
            target.items.extend(items)
        else:
            raise MalformedPickle(f"appends to {type(target).__name__}")

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        pairs = self._pairs(items)
        if isinstance(target, dict):
            target.update(pairs)
        elif isinstance(target, PickledObject):
            target.items.extend(pairs.items())
        else:
            raise MalformedPickle(f"sets items of {type(target).__name__}")

    def _global(self, arg: Any) -> None:
        module, _, name = str(arg).partition(" ")
        self.stack.append(Global(module, name))

    def _stack_global(self, arg: Any) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise MalformedPickle("a global whose name is no text")
        self.stack.append(Global(module, name))

    def _target(self, value: Any) -> Global:
        if isinstance(value, Global):
            return value
        what = value.class_path if isinstance(value, PickledObject) else type(value).__name__
        raise RefusedPickle(f"wants to call what {what} gives")

    def _args(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, tuple):
            raise MalformedPickle(f"arguments: expected a tuple, got {type(value).__name__}")
        return value

    def _reduce(self, arg: Any) -> None:
        args, target = self.pop(), self.pop()
        self.stack.append(self.calls.call(self._target(target), self._args(args)))

    def _inst(self, arg: Any) -> None:
        args = tuple(self._pop_mark())
        self._global(arg)
        self.stack.append(self.calls.call(self.pop(), args))

    def _obj(self, arg: Any) -> None:
        target, *args = self._pop_mark()
        self.stack.append(self.calls.call(self._target(target), tuple(args)))

    def _newobj(self, arg: Any) -> None:
        args, target = self.pop(), self.pop()
        self.stack.append(self.calls.new(self._target(target), self._args(args), {}))

    def _newobj_ex(self, arg: Any) -> None:
        kwargs, args, target = self.pop(), self.pop(), self.pop()
        if not isinstance(kwargs, dict):
            raise MalformedPickle("keyword arguments that are no dict")
        self.stack.append(self.calls.new(self._target(target), self._args(args), kwargs))

    def _merged(self, target: PickledObject, state: Any) -> Any:
        """Return the state after one more BUILD; a dict that other objects may share is copied before it grows."""
        if not (isinstance(target.state, dict) and isinstance(state, dict)):
            return state
        self.budget.charge(ITEM * (len(target.state) + len(state)))
        return {**target.state, **state}

    def _build(self, arg: Any) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Pending):
            value = target.finish(state)
            self.stack[-1] = value
            self.memo.update(dict.fromkeys(target.memo_keys, value))
        elif isinstance(target, PickledObject):
            target.state = self._merged(target, state)
        elif isinstance(target, Global):
            raise RefusedPickle(f"wants to change attributes of {shown(target.path)}")
        # The __dict__ of an OrderedDict (torch keeps `_metadata` there), of a tensor and the like: not
        # needed.
