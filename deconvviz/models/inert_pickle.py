"""Pickle reader that runs no code: classes and functions that it does not know are kept as names.

`pickletools.genops` splits the pickle into operations, and `InertPickle` executes them on plain lists, tuples
and dictionaries. Python's own unpickler is not used. No name from the file is imported.
"""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

OPERATIONS = 10_000_000
"""Maximum number of operations in one pickle. A checkpoint with 1000 tensors has about 50,000."""
_NAME = 100  # maximum length of a name, because a file can repeat a long name many times
_MAKERS = ("copyreg._reconstructor", "copy_reg._reconstructor")  # their first argument is the object's class
_GETTERS = ("builtins.getattr", "__builtin__.getattr")
_PLAIN_KEYS = (str, bytes, bool, float, type(None))


class Malformed(ValueError):
    """Raised for a pickle that is damaged, or that torch.save did not write."""


class Foreign:
    """Placeholder for an object, class or function that is not rebuilt; keeps the entries of an object."""

    __slots__ = ("entries", "name")

    def __init__(self, name: str) -> None:
        self.name = name  # of the class or function
        self.entries: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"<Foreign {self.name}>"


@dataclass(frozen=True, eq=False)
class Rebuilder:
    """Function of this package that is called instead of one that the pickle names, with its arguments."""

    name: str
    call: Callable[[tuple[Any, ...]], Any]


class _Key:
    """Placeholder for a key that is not a string or number: hashing nested tuples can take forever."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __str__(self) -> str:
        return f"(key {self.number})"


class InertPickle:
    """Reader of one pickle, with the stack and the memo of the pickle protocol.

    `known` maps the module and name of each global that is interpreted to a `Rebuilder` or a constant.
    `persistent` resolves persistent ids.
    """

    def __init__(
        self, known: Mapping[tuple[str, str], Any], persistent: Callable[[Any], Any] | None = None
    ) -> None:
        self._known = known
        self._persistent = persistent
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # stacks below the marks
        self._memo: dict[int, Any] = {}
        self._left = OPERATIONS
        self._keys = 0

    def read(self, stream: IO[bytes]) -> Any:
        """Return the object in the pickle and leave the stream just after it. Raises Malformed."""
        try:
            for operation, argument, _ in pickletools.genops(stream):
                self._spend(1)
                name = operation.name
                if name in _CONSTANTS:
                    self._stack.append(argument)
                elif name == "STOP":
                    return self._stack.pop()
                else:
                    _OPERATIONS[name](self, argument)
        except (LookupError, TypeError, AttributeError, OverflowError) as reason:
            raise Malformed(f"its pickle is damaged ({type(reason).__name__})") from reason
        raise Malformed("its pickle has no end")

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Malformed(f"its pickle has more than {OPERATIONS:,} operations")

    # --- the stack

    def _mark(self, argument: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _pop(self, argument: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._to_mark()

    def _pop_mark(self, argument: Any) -> None:
        self._to_mark()

    def _duplicate(self, argument: Any) -> None:
        self._stack.append(self._stack[-1])

    def _put(self, argument: Any) -> None:
        self._memo[argument] = self._stack[-1]

    def _memoize(self, argument: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, argument: Any) -> None:
        self._stack.append(self._memo[argument])

    # --- containers

    def _empty_list(self, argument: Any) -> None:  # also for sets, so that their members are not hashed
        self._stack.append([])

    def _empty_tuple(self, argument: Any) -> None:
        self._stack.append(())

    def _empty_dict(self, argument: Any) -> None:
        self._stack.append({})

    def _list(self, argument: Any) -> None:
        items = self._to_mark()
        self._stack.append(items)

    def _tuple(self, argument: Any) -> None:
        items = self._to_mark()
        self._stack.append(tuple(items))

    def _tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError
        items = tuple(self._stack[-count:])
        self._stack[-count:] = [items]

    def _dict(self, argument: Any) -> None:
        items = self._to_mark()
        made: dict[Any, Any] = {}
        self._fill(made, items)
        self._stack.append(made)

    def _append(self, argument: Any) -> None:
        value = self._stack.pop()
        self._extend(self._stack[-1], [value])

    def _appends(self, argument: Any) -> None:
        items = self._to_mark()
        self._extend(self._stack[-1], items)

    def _set_item(self, argument: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._fill(self._stack[-1], [key, value])

    def _set_items(self, argument: Any) -> None:
        items = self._to_mark()
        self._fill(self._stack[-1], items)

    def _extend(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Foreign):
            raise Malformed(f"its pickle appends to a {type(target).__name__}")

    def _fill(self, target: Any, items: list[Any]) -> None:
        entries = target.entries if isinstance(target, Foreign) else target
        if not isinstance(entries, dict):
            raise Malformed(f"its pickle sets entries of a {type(target).__name__}")
        if len(items) % 2:
            raise Malformed("its pickle has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            entries[self._key(key)] = value

    def _key(self, key: Any) -> Any:
        plain = isinstance(key, _PLAIN_KEYS) or (isinstance(key, int) and key.bit_length() <= 64)
        if plain:
            return key
        self._keys += 1
        return _Key(self._keys)

    # --- globals and calls

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._find(module, name))

    def _stack_global(self, argument: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise Malformed("its pickle names a class by something other than text")
        self._stack.append(self._find(module, name))

    def _find(self, module: str, name: str) -> Any:
        found = self._known.get((module, name))
        return Foreign(f"{module[:_NAME]}.{name[:_NAME]}") if found is None else found

    def _extension(self, argument: int) -> None:
        self._stack.append(Foreign(f"extension {argument}"))

    def _reduce(self, argument: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self._called(function, arguments))

    def _new_object(self, argument: Any) -> None:
        self._reduce(argument)

    def _new_object_with_keywords(self, argument: Any) -> None:
        self._stack.pop()
        self._reduce(argument)

    def _instance(self, argument: str) -> None:
        items = self._to_mark()
        self._global(argument)
        self._stack.append(self._called(self._stack.pop(), tuple(items)))

    def _object(self, argument: Any) -> None:
        function, *items = self._to_mark()
        self._stack.append(self._called(function, tuple(items)))

    def _called(self, function: Any, arguments: Any) -> Any:
        if not isinstance(arguments, tuple):
            raise Malformed("its pickle has arguments that are not a tuple")
        if isinstance(function, Rebuilder):
            return function.call(arguments)
        if not isinstance(function, Foreign):
            raise Malformed(f"its pickle calls a {type(function).__name__}")
        return Foreign(_name_of_made(function.name, arguments))

    def _build(self, argument: Any) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        # The only state that is used: the version numbers that PyTorch stores with a state dict
        if isinstance(target, OrderedDict) and isinstance(state, dict):
            versions = state.get("_metadata")
            if isinstance(versions, dict):
                target._metadata = _versions(versions)  # type: ignore[attr-defined]

    def _persistent_id(self, argument: Any) -> None:
        if self._persistent is None:
            raise Malformed("its pickle refers to an object outside of it")
        self._stack.append(self._persistent(self._stack.pop()))

    def _persistent_text(self, argument: str) -> None:
        raise Malformed("its pickle refers to an object outside of it by text")

    def _outside(self, argument: Any) -> None:
        raise Malformed("its pickle needs buffers outside of it")

    def _ignore(self, argument: Any) -> None:
        """Ignore the protocol number and the length of a frame: neither affects the content."""


def _name_of_made(function: str, arguments: tuple[Any, ...]) -> str:
    """Return the name of the class or attribute that a call in Python would create or look up."""
    if arguments and isinstance(arguments[0], Foreign):
        if function in _MAKERS:
            return arguments[0].name
        if function in _GETTERS and len(arguments) > 1 and isinstance(arguments[1], str):
            return f"{arguments[0].name}.{arguments[1][:_NAME]}"[: 2 * _NAME]
    return function


def _versions(found: dict[Any, Any]) -> dict[str, dict[str, int]]:
    """Return only the version numbers, by module name."""
    kept = {}
    for name, entry in found.items():
        version = entry.get("version") if isinstance(entry, dict) else None
        if isinstance(name, str) and type(version) is int:
            kept[name] = {"version": version}
    return kept


def _all(names: Iterable[str], method: Callable[[InertPickle, Any], None]) -> dict[str, Any]:
    return dict.fromkeys(names, method)


_CONSTANTS = frozenset(
    ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
     "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BINBYTES",
     "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
)  # fmt: skip


def _constant(value: Any) -> Callable[[InertPickle, Any], None]:
    return lambda reader, argument: reader._stack.append(value)


_OPERATIONS: dict[str, Callable[[InertPickle, Any], None]] = {
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    **_all(("PROTO", "FRAME"), InertPickle._ignore),
    "MARK": InertPickle._mark,
    "POP": InertPickle._pop,
    "POP_MARK": InertPickle._pop_mark,
    "DUP": InertPickle._duplicate,
    **_all(("PUT", "BINPUT", "LONG_BINPUT"), InertPickle._put),
    "MEMOIZE": InertPickle._memoize,
    **_all(("GET", "BINGET", "LONG_BINGET"), InertPickle._get),
    **_all(("EMPTY_LIST", "EMPTY_SET"), InertPickle._empty_list),
    "EMPTY_TUPLE": InertPickle._empty_tuple,
    "EMPTY_DICT": InertPickle._empty_dict,
    **_all(("LIST", "FROZENSET"), InertPickle._list),
    "TUPLE": InertPickle._tuple,
    "TUPLE1": lambda reader, argument: reader._tuple_of(1),
    "TUPLE2": lambda reader, argument: reader._tuple_of(2),
    "TUPLE3": lambda reader, argument: reader._tuple_of(3),
    "DICT": InertPickle._dict,
    "APPEND": InertPickle._append,
    **_all(("APPENDS", "ADDITEMS"), InertPickle._appends),
    "SETITEM": InertPickle._set_item,
    "SETITEMS": InertPickle._set_items,
    "GLOBAL": InertPickle._global,
    "STACK_GLOBAL": InertPickle._stack_global,
    **_all(("EXT1", "EXT2", "EXT4"), InertPickle._extension),
    "REDUCE": InertPickle._reduce,
    "NEWOBJ": InertPickle._new_object,
    "NEWOBJ_EX": InertPickle._new_object_with_keywords,
    "INST": InertPickle._instance,
    "OBJ": InertPickle._object,
    "BUILD": InertPickle._build,
    "BINPERSID": InertPickle._persistent_id,
    "PERSID": InertPickle._persistent_text,
    **_all(("NEXT_BUFFER", "READONLY_BUFFER"), InertPickle._outside),
}
