"""Find the output of a network by the name or number of its class. Does not import torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from deconvviz.errors import UnitError
from deconvviz.similar_names import nearest


def class_index(requested: str | int, classes: Sequence[str], *, outputs: int | None = None) -> int:
    """Return the index of a class, given its name, a unique part of its name, or its index.

    `outputs` is the number of outputs, by default the number of class names. Raises UnitError.
    """
    count = outputs if outputs is not None else len(classes) or None
    if isinstance(requested, int) or re.fullmatch(r"\s*-?\d+\s*", requested):
        return _in_range(int(requested), count)
    if not classes:
        numbers = f" from 0 to {count - 1}" if count else ""
        raise UnitError(f"no class {requested!r}: this network has no class names. Give a number{numbers}")
    wanted = _plain(requested)
    plain = [_plain(name) for name in classes]
    for matches in (
        [index for index, name in enumerate(plain) if name == wanted],
        [index for index, name in enumerate(plain) if wanted and wanted in name],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise UnitError(_several(requested, matches, classes))
    similar = nearest(wanted, plain)
    names = _numbered((plain.index(name) for name in similar), classes)
    hint = f"the nearest are {names}" if len(similar) > 1 else f"the nearest is {names}"
    hint = hint if similar else "no name is similar"
    raise UnitError(f"no class {requested!r} among {len(classes)}: {hint}. Give a name or a number")


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _in_range(index: int, count: int | None) -> int:
    if index < 0 or (count is not None and index >= count):
        numbers = f"run from 0 to {count - 1}" if count else "start at 0"
        raise UnitError(f"no class number {index}: class numbers {numbers}")
    return index


def _several(requested: str, matches: list[int], classes: Sequence[str], shown: int = 8) -> str:
    more = f" and {len(matches) - shown} more" if len(matches) > shown else ""
    listed = _numbered(matches[:shown], classes)
    return f"class {requested!r} is ambiguous: it could be {listed}{more}. Give the full name or the number"


def _numbered(indices: Iterable[int], classes: Sequence[str]) -> str:
    return ", ".join(f"{classes[index]!r} ({index})" for index in indices)
